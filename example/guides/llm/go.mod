module github.com/chi-sse/sse/example/guides/llm

go 1.26.0

require (
	github.com/chi-sse/sse v0.0.0
	github.com/stretchr/testify v1.12.1
)

require go.yaml.in/yaml/v3 v3.0.5 // indirect

replace github.com/chi-sse/sse => ../../../
