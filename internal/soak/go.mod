module github.com/chi-sse/sse/internal/soak

go 1.26

replace (
	github.com/chi-sse/sse => ../..
	github.com/chi-sse/sse/log/boltlog => ../../log/boltlog
)

require (
	github.com/chi-sse/sse v0.0.0-00010101000000-000000000000
	github.com/chi-sse/sse/log/boltlog v0.0.0-00010101000000-000000000000
	github.com/go-chi/chi/v5 v5.5.0
)

require (
	github.com/ajg/form v1.5.1 // indirect
	github.com/go-chi/render v1.0.3 // indirect
	github.com/stretchr/testify v1.12.1 // indirect
	go.etcd.io/bbolt v1.4.3 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.45.0 // indirect
)
