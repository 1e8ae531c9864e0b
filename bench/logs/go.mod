module github.com/chi-sse/sse/bench/logs

go 1.26.0

replace (
	github.com/chi-sse/sse => ../../
	github.com/chi-sse/sse/bench => ../
	github.com/chi-sse/sse/log/boltlog => ../../log/boltlog
	github.com/chi-sse/sse/log/natslog => ../../log/natslog
	github.com/chi-sse/sse/log/pglog => ../../log/pglog
	github.com/chi-sse/sse/log/redislog => ../../log/redislog
)

require (
	github.com/chi-sse/sse v0.0.0-00010101000000-000000000000
	github.com/chi-sse/sse/bench v0.0.0-00010101000000-000000000000
	github.com/chi-sse/sse/log/boltlog v0.0.0-00010101000000-000000000000
	github.com/chi-sse/sse/log/natslog v0.0.0-00010101000000-000000000000
	github.com/chi-sse/sse/log/pglog v0.0.0-00010101000000-000000000000
	github.com/chi-sse/sse/log/redislog v0.0.0-00010101000000-000000000000
	github.com/jackc/pgx/v5 v5.13.0
	github.com/nats-io/nats-server/v2 v2.15.3
	github.com/nats-io/nats.go v1.55.0
	github.com/redis/go-redis/v9 v9.23.0
	github.com/stretchr/testify v1.12.1
	golang.org/x/sys v0.50.0
)

require (
	github.com/ajg/form v1.5.1 // indirect
	github.com/antithesishq/antithesis-sdk-go v0.9.0-default-no-op // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/go-chi/chi/v5 v5.5.0 // indirect
	github.com/go-chi/render v1.0.3 // indirect
	github.com/google/go-tpm v0.9.8 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/puddle/v2 v2.2.3 // indirect
	github.com/klauspost/compress v1.20.4 // indirect
	github.com/minio/highwayhash v1.0.4 // indirect
	github.com/nats-io/jwt/v2 v2.8.3 // indirect
	github.com/nats-io/nkeys v0.4.17 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	go.etcd.io/bbolt v1.4.3 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/time v0.16.0 // indirect
)
