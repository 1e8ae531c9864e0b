// Examples of responses: streams, ordinary responses, and those that others have received.

package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/chi-sse/sse/client"
)

// An MCP server answers a POST with a stream, with JSON, or with nothing.
func ExampleClient_Do() {
	srv := exampleServer(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/stream":
			fmt.Fprint(w, "data: hello\n\n")
		case "/json":
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"answer":42}`)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	defer srv.Close()

	c := client.Install(http.DefaultClient, client.Config{})
	for _, path := range []string{"/stream", "/json", "/notification"} {
		s, resp, err := c.Do(context.Background(), srv.URL+path, client.WithBody("application/json", strings.NewReader("{}")))
		switch {
		case err != nil:
			panic(err)
		case resp != nil:
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				panic(err)
			}
			resp.Body.Close()
			fmt.Println(resp.Status, string(body))
		default:
			for ev, err := range s.Incoming() {
				if err != nil {
					panic(err)
				}
				fmt.Println("event:", ev.Data)
			}
		}
	}
	// Output:
	// event: hello
	// 200 OK {"answer":42}
	// 202 Accepted
}

// An SDK has made the request. Its response opens the session.
func ExampleReadResponse() {
	srv := exampleStream("data: hello\n\n")
	defer srv.Close()
	resp, err := http.Get(srv.URL)
	if err != nil {
		panic(err)
	}

	s := client.ReadResponse(context.Background(), resp)
	for ev, err := range s.Incoming() {
		if err != nil {
			panic(err)
		}
		fmt.Println(ev.Data)
	}
	// Output:
	// hello
}

// A button "reconnect now" that another goroutine calls.
func ExampleSession_Reconnect() {
	srv := exampleServer(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "id: 1\ndata: after %q\n\n", r.Header.Get("Last-Event-ID"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	defer srv.Close()

	c := client.Install(http.DefaultClient, client.Config{})
	s, err := c.Session(context.Background(), srv.URL)
	if err != nil {
		panic(err)
	}
	events := 0
	for ev, err := range s.Incoming() {
		if err != nil {
			panic(err)
		}
		fmt.Println(ev.Data)
		if events++; events == 2 {
			break
		}
		go func() { _ = s.Reconnect() }() // an error says that the session has ended
	}
	// Output:
	// after ""
	// after "1"
}

// A server that sends a stream without a Content-Type, or with another one.
func ExampleCheckResponse() {
	srv := exampleServer(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		fmt.Fprint(w, "data: hello\n\n")
	})
	defer srv.Close()

	c := client.Install(http.DefaultClient, client.Config{CheckResponse: func(resp *http.Response) error {
		err := client.CheckResponse(resp)
		if content, ok := errors.AsType[*client.ContentError](err); ok && content.Header == "Content-Type" {
			return nil // of any type, if it has status 200 and is not compressed
		}
		return err
	}})
	s, err := c.Session(context.Background(), srv.URL)
	if err != nil {
		panic(err)
	}
	for ev, err := range s.Incoming() {
		if err != nil {
			panic(err)
		}
		fmt.Println(ev.Data)
	}
	// Output:
	// hello
}

// An event whose data is empty is not the same as a comment.
func ExampleSession_Silent() {
	stream := strings.NewReader("id: 7\ndata:\n\n: heartbeat\n\n")
	s := client.Read(context.Background(), stream, client.WithConfig(func(cfg *client.Config) {
		cfg.ShowCommentEvents = true
	}))
	for ev, err := range s.Incoming() {
		if err != nil {
			panic(err)
		}
		if s.Silent() {
			fmt.Println("comment:", ev.Comment)
		} else {
			fmt.Printf("event %s: %q\n", ev.ID, ev.Data)
		}
	}
	// Output:
	// event 7: ""
	// comment: heartbeat
}
