# Every folder with a go.mod is a module of this repository, and the targets find it
# automatically. You need make, git, Go, and a C compiler for the race detector. To run the
# tests without the race detector, set RACE= on the command line.

MODULES := $(sort $(dir $(shell find . -name go.mod -not -path '*/.*' -not -path '*/testdata/*' -not -path '*/node_modules/*')))
GOLANGCI := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

RACE        ?= -race
TIMEOUT     ?= 10m
GOTESTFLAGS ?=
BENCH       ?= .
COUNT       ?= 6
COMPARE     ?=
FUZZTIME    ?= 10s
SOAK        ?= 20m
SOAKSEED    ?=
SOAKLOAD    ?= 1
KILLS       ?= 1000
TRANSACTIONS ?= 1000000
RUNFLAGS    ?=
TIDYFLAGS   ?=

# A module with a file norace is tested without the race detector: it would take minutes to compile
# what its tests need.
#
# $(call each,command) runs command in every module. It fails if one of them failed.
each = @status=0; for m in $(MODULES); do (cd $$m && $(1)) || status=1; done; exit $$status

# The tests of each module are a target, so that make -j2 -Otarget runs two at a time.
TESTS := $(MODULES:%=test-in-%)

MAKEFLAGS += --keep-going

.DEFAULT_GOAL := help
.PHONY: help run run-cluster test chromium nginx postgres redis $(TESTS) test-over-a-log cover bench bench-full bench-growth bench-logs microbench fuzz soak soak-race soak-log soak-follow lint gofmt vet golangci fmt tidy

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build and start the example server (RUNFLAGS='-addr localhost:8081')
	@echo 'Building the example. The first build takes a while.'
	@cd example && go run . $(RUNFLAGS)

run-cluster: ## build and start the chat on three nodes, to be killed (RUNFLAGS='-addr localhost:8081')
	@echo 'Building the cluster. The first build takes a minute or two.'
	@cd example/cluster && go run . $(RUNFLAGS)

test: chromium nginx postgres redis $(TESTS) test-over-a-log ## run the tests of all modules (GOTESTFLAGS='-run Name -v' adds flags)

chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
		echo 'Chromium is not on the PATH, so the browser tests of example/ will be skipped.'; \
		echo 'To run them, install Chromium, for example with: apt-get install chromium'; } >&2

nginx:
	@PATH=$$PATH:/usr/sbin; command -v nginx >/dev/null || { \
		echo 'nginx is not on the PATH, so the tests of example/ that need it will be skipped.'; \
		echo 'To run them, install nginx, for example with: apt-get install nginx'; } >&2

postgres:
	@{ ls /usr/lib/postgresql/*/bin/postgres || command -v postgres; } >/dev/null 2>&1 && { [ -x /usr/sbin/pgbouncer ] || command -v pgbouncer; } >/dev/null || { \
		echo 'Postgres or PgBouncer is not there, so tests of log/pglog and of a guide will be skipped.'; \
		echo 'To run them, install both, for example with: apt-get install postgresql pgbouncer'; } >&2

redis:
	@command -v redis-server >/dev/null || { \
		echo 'redis-server is not on the PATH, so most tests of log/redislog/ will be skipped.'; \
		echo 'To run them, install it, for example with: apt-get install redis-server'; } >&2

$(TESTS): test-in-%:
	@cd $* && go test $$([ -e norace ] || echo $(RACE)) -timeout $(TIMEOUT) $(GOTESTFLAGS) ./...

test-over-a-log: # the hub's tests once more
	@SSE_HUB_LOG=memory go test -parallel 4 -timeout $(TIMEOUT) $(GOTESTFLAGS) ./hub

cover: ## show how much of the root module its tests cover
	@go test -coverpkg ./... -coverprofile cover.out ./... >/dev/null
	@go tool cover -func cover.out | tail -n 1
	@echo 'For each line: go tool cover -html cover.out'

bench: ## compare with other libraries, in less than five minutes (COMPARE=flags)
	@cd bench && go run ./cmd/compare -short $(COMPARE)

bench-full: ## compare in 25 minutes, and write bench/RESULTS.md
	@cd bench && go run ./cmd/compare -results . $(COMPARE)

bench-growth: ## measure how the hub's costs grow, in ten minutes, and write bench/GROWTH.md
	@cd bench && go run ./cmd/compare -growth . -results . $(COMPARE)

bench-logs: ## measure the logs side by side, in five minutes, and write bench/LOGS.md (COMPARE=flags)
	@cd bench/logs && go run . -write ../LOGS.md $(COMPARE)

microbench: ## run all go test benchmarks (BENCH=regexp, COUNT=6)
	$(call each,go test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) -timeout 0 ./...)

fuzz: ## run every fuzz target, each for FUZZTIME=10s
	@grep -ro '^func Fuzz[[:alnum:]_]*' --include '*_test.go' . | sed 's,/[^/]*:func , ,' | sort | \
	while read -r dir name; do \
		(cd "$$dir" && go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x .) </dev/null || exit 1; \
	done

# soaktest is the command of the soak. Its variables are explained at TestSoak.
soaktest = SSE_SOAK=$(SOAK) SSE_SOAK_SEED=$(SOAKSEED) SSE_SOAK_LOAD=$(SOAKLOAD) go test -run '^TestSoak$$' -v -count 1 -timeout 0

soak: ## run everything at once, for SOAK=20m (SOAKSEED=number, SOAKLOAD=1)
	@cd internal/soak && $(soaktest) .

soak-race: SOAK := 5m
soak-race: SOAKLOAD := 0.4
soak-race: ## do that with the race detector, for SOAK=5m (SOAKLOAD=0.4)
	@cd internal/soak && $(soaktest) -race .

soak-log: SOAK := 10m
soak-log: ## test the logs: a million events; a million transactions (TRANSACTIONS=1000000); kill a server (KILLS=1000); kill and cut off nodes (SOAK=10m, SOAKSEED=number)
	@SSE_LOG_MILLION=1 go test -run '^TestMemory$$/./^Many$$' -v -count 1 -timeout 0 ./hub/logtest
	@cd log/boltlog && SSE_LOG_MILLION=1 go test -run '^TestConformance$$/^Many$$' -v -count 1 -timeout 0 .
	@cd log/boltlog && SSE_BOLTLOG_SOAK=$(KILLS) go test -run '^TestSoak$$' -v -count 1 -timeout 0 .
	@cd log/pglog && SSE_LOG_MILLION=1 SSE_PGLOG_SOAK=$(TRANSACTIONS) go test -run '^TestConformance$$/^Many$$|^TestSoak$$' -v -count 1 -timeout 0 .
	@cd log/natslog && SSE_NATSLOG_SOAK=$(SOAK) SSE_NATSLOG_SOAK_SEED=$(SOAKSEED) go test -run '^TestSoak$$' -v -count 1 -timeout 0 ./internal/soak
	@cd log/pglog && SSE_PGLOG_CRASHES=$(SOAK) SSE_PGLOG_CRASHES_SEED=$(SOAKSEED) go test -run '^TestCrashSoak$$' -v -count 1 -timeout 0 .
	@cd log/redislog && SSE_LOG_MILLION=1 go test -run '^TestConformance$$/^Many$$' -v -count 1 -timeout 0 .
	@cd log/redislog && SSE_REDISLOG_SOAK=$(SOAK) SSE_REDISLOG_SOAK_SEED=$(SOAKSEED) go test -run '^TestSoak$$' -v -count 1 -timeout 0 .

soak-follow: ## follow a stream over 100 restarts of both sides, in about a minute
	@cd example && SSE_FOLLOW=full go test -run Once -v -count 1 ./guides/follow

lint: gofmt vet golangci ## run gofmt, go vet and golangci-lint

gofmt:
	@files=$$(gofmt -l .) && test -z "$$files" || { echo "these files are not formatted (make fmt formats them):"; echo "$$files"; exit 1; }

vet:
	$(call each,go vet ./...)

golangci:
	$(call each,echo "golangci-lint $$m" && $(GOLANGCI) run ./...)

fmt: ## format all Go files
	$(call each,$(GOLANGCI) fmt ./...)

# A module that has a go.work has no replace in its go.mod, so that go install can install it.
# go mod tidy ignores go.work, so it gets a copy of go.mod that has the replace.
SSE := github.com/chi-sse/sse
tidycopy = t=$$(mktemp -d) && cp go.mod go.sum $$t && go mod edit -replace $(SSE)=$(CURDIR) $$t/go.mod && \
	GOWORK=off go mod tidy -modfile=$$t/go.mod $(TIDYFLAGS) && go mod edit -dropreplace $(SSE) $$t/go.mod && \
	cp $$t/go.mod $$t/go.sum . && rm -r $$t

tidy: ## run go mod tidy in every module (TIDYFLAGS=-diff only shows the changes)
	$(call each,if test -f go.work; then $(tidycopy); else go mod tidy $(TIDYFLAGS); fi)
