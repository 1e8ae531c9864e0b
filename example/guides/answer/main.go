// Command answer lets a page ask a language model. It forwards the model's answer while that is
// being written. The guide docs/guides/answer.md explains it.
//
//		OPENAI_API_KEY=... go run .
//		go run . -url http://localhost:11434/v1/chat/completions -model llama3.2
//
//	  - server.go has the routes.
//	  - model.go asks the model.
//	  - page.html is the page, and events.js reads the stream.
//	  - nginx.conf is for a proxy in front of the program.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/chi-sse/sse"
)

func main() {
	url := flag.String("url", "https://api.openai.com/v1/chat/completions", "ask the API at this `URL`")
	name := flag.String("model", "gpt-4o-mini", "ask the model with this `name`")
	addr := flag.String("addr", "localhost:8081", "listen on this `address`")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills the program

	if err := run(ctx, newModel(*url, os.Getenv("OPENAI_API_KEY"), *name, time.Minute), *addr, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "answer:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. Answers that have begun may take 30 seconds longer.
func run(ctx context.Context, m *model, addr string, out io.Writer) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "Listening on http://%s\n", listener.Addr())
	srv := &http.Server{ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second}
	return sse.ListenAndServe(ctx, srv, routes(m, sse.Config{}), sse.WithListener(listener), sse.WithDrainWait(30*time.Second))
}
