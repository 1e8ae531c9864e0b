module github.com/chi-sse/sse/compat

go 1.26

replace github.com/chi-sse/sse => ../

require (
	github.com/CAFxX/httpcompression v0.0.8
	github.com/chi-sse/sse v0.0.0-00010101000000-000000000000
	github.com/go-chi/chi/v5 v5.5.0
	github.com/go-chi/cors v1.2.2
	github.com/go-chi/httplog/v3 v3.3.0
	github.com/gorilla/handlers v1.5.2
	github.com/klauspost/compress v1.20.3
	github.com/stretchr/testify v1.12.1
	go.uber.org/goleak v1.3.0
)

require (
	github.com/ajg/form v1.5.1 // indirect
	github.com/andybalholm/brotli v1.0.4 // indirect
	github.com/felixge/httpsnoop v1.0.3 // indirect
	github.com/go-chi/render v1.0.3 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)
