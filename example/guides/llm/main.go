// Command llm asks a model, and prints its answer as it arrives. It reads the request from its
// standard input, and the key from the environment variable API_KEY. The guide
// docs/guides/llm.md explains it.
//
//	go run . -api anthropic < request.json
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"

	"github.com/chi-sse/sse/client"
)

func main() {
	api := flag.String("api", "openai", "the `API`: openai or anthropic")
	url := flag.String("url", "", "post to this `URL`, instead of the provider's")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) // ends the answer
	err := run(ctx, *api, *url, os.Getenv("API_KEY"), os.Stdin, os.Stdout)
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "llm:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, api, url, key string, in io.Reader, out io.Writer) error {
	ask := askOpenAI
	switch {
	case api == "anthropic":
		ask = askAnthropic
		if url == "" {
			url = "https://api.anthropic.com/v1/messages"
		}
	case url == "":
		url = "https://api.openai.com/v1/chat/completions"
	}
	request, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	c := newClient(http.DefaultClient, client.ResendUntilEvent, refused)
	a, err := ask(ctx, c, url, key, request, func(text string) { _, _ = io.WriteString(out, text) })
	_, _ = fmt.Fprintln(out, a.Refusal)
	for _, call := range a.ToolCalls {
		_, _ = fmt.Fprintf(out, "%s %s(%s)\n", call.ID, call.Name, call.Arguments)
	}
	_, _ = fmt.Fprintf(out, "stop: %s, tokens: %d in, %d out\n", a.Stop, a.Usage.Input, a.Usage.Output)
	return err
}
