// Command mcp calls a tool of a server of the Model Context Protocol, over Streamable HTTP.
// The guide docs/guides/mcp.md explains it. The file transport.go carries messages, and
// session.go makes requests and responses of them.
//
//	go run . http://localhost:8080/mcp                           # lists the tools
//	go run . http://localhost:8080/mcp greet '{"name": "Alice"}' # calls one
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"time"
)

func main() {
	flag.Usage = func() {
		_, _ = fmt.Fprintln(flag.CommandLine.Output(), "Usage: mcp URL [TOOL [ARGUMENTS]]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() < 1 || flag.NArg() > 3 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, flag.Arg(0), flag.Arg(1), flag.Arg(2))
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "mcp:", err)
		os.Exit(1)
	}
}

// run lists the tools of the server at url, or calls the one with the name tool.
func run(ctx context.Context, out io.Writer, url, tool, arguments string) (err error) {
	s, err := open(ctx, http.DefaultClient, url, func(method string, params json.RawMessage) {
		_, _ = fmt.Fprintf(os.Stderr, "%s %s\n", method, params)
	})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, s.close(ctx))
	}()
	listening, stop := context.WithCancel(ctx)
	defer stop()
	go func() { _ = s.listen(listening) }() // a server need not offer it

	method, params := "tools/list", map[string]any{}
	if tool != "" {
		method, params["name"] = "tools/call", tool
		if arguments != "" {
			params["arguments"] = json.RawMessage(arguments)
		}
	}
	var result json.RawMessage
	if err := s.call(ctx, method, params, &result); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", result)
	return err
}
