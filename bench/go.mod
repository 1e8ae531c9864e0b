module github.com/chi-sse/sse/bench

go 1.26

replace github.com/chi-sse/sse => ../

require (
	github.com/chi-sse/sse v0.0.0-00010101000000-000000000000
	github.com/tmaxmax/go-sse v0.11.0
)
