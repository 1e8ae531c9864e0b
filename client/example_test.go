package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"github.com/chi-sse/sse/client"
)

// SSE opens a session, calls the block with it, and closes it when the block returns.
func ExampleClient_SSE() {
	srv := exampleStream("event: tick\ndata: 1\n\nevent: tick\ndata: 2\n\n")
	defer srv.Close()

	c := client.Install(http.DefaultClient, client.Config{})
	err := c.SSE(context.Background(), srv.URL, func(s *client.Session) error {
		for ev, err := range s.Incoming() {
			if err != nil {
				return err
			}
			fmt.Println(ev.Name, ev.Data)
		}
		return nil
	})
	fmt.Println("end:", err)
	// Output:
	// tick 1
	// tick 2
	// end: <nil>
}

// A client that reconnects when the connection is lost, and resumes after the last event.
func ExampleInstall() {
	srv := exampleServer(func(w http.ResponseWriter, r *http.Request) {
		last, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
		if last == 4 {
			w.WriteHeader(http.StatusNoContent) // no more events
			return
		}
		fmt.Fprintf(w, "id: %d\ndata: after %d\n\n", last+1, last)
		fmt.Fprintf(w, "id: %d\ndata: after %d\n\n", last+2, last+1)
	})
	defer srv.Close()

	c := client.Install(http.DefaultClient, client.Config{
		MaxReconnectionAttempts: 5,
		ReconnectionTime:        time.Millisecond,
	})
	err := c.SSE(context.Background(), srv.URL, func(s *client.Session) error {
		for ev, err := range s.Incoming() {
			if err != nil {
				return err
			}
			fmt.Println(ev.ID, ev.Data)
		}
		return nil
	})
	fmt.Println("end:", err)
	// Output:
	// 1 after 0
	// 2 after 1
	// 3 after 2
	// 4 after 3
	// end: <nil>
}

// The caller of Session must close the session.
func ExampleClient_Session() {
	srv := exampleStream("data: hello\n\n")
	defer srv.Close()

	c := client.Install(http.DefaultClient, client.Config{})
	s, err := c.Session(context.Background(), srv.URL)
	if err != nil {
		panic(err)
	}
	defer s.Close()

	fmt.Println(s.Call().Status, s.Call().Header.Get("Content-Type"))
	for ev, err := range s.Incoming() {
		if err != nil {
			panic(err)
		}
		fmt.Println(ev.Data)
	}
	// Output:
	// 200 OK text/event-stream
	// hello
}

// Leaving the loop closes the session and its connection at once.
func ExampleSession_Incoming() {
	srv := exampleServer(func(w http.ResponseWriter, r *http.Request) {
		for i := 1; r.Context().Err() == nil; i++ { // forever
			fmt.Fprintf(w, "data: %d\n\n", i)
		}
	})
	defer srv.Close()

	c := client.Install(http.DefaultClient, client.Config{})
	s, err := c.Session(context.Background(), srv.URL)
	if err != nil {
		panic(err)
	}
	for ev, err := range s.Incoming() {
		if err != nil {
			panic(err)
		}
		fmt.Println(ev.Data)
		if ev.Data == "3" {
			break
		}
	}
	// Output:
	// 1
	// 2
	// 3
}

// Data that cannot be decoded comes with an error. The loop may continue.
func ExampleIncoming() {
	srv := exampleStream("data: {\"symbol\":\"ACME\",\"price\":12.5}\n\n" +
		"data: closed for lunch\n\n" +
		"data: {\"symbol\":\"ACME\",\"price\":13}\n\n")
	defer srv.Close()
	type quote struct {
		Symbol string
		Price  float64
	}

	c := client.Install(http.DefaultClient, client.Config{})
	err := c.SSE(context.Background(), srv.URL, func(s *client.Session) error {
		for ev, err := range client.Incoming[quote](s) {
			if decodeErr, ok := errors.AsType[*client.DecodeError](err); ok {
				fmt.Println("no quote:", decodeErr.Event.Data)
				continue
			}
			if err != nil {
				return err
			}
			fmt.Println(ev.Data.Symbol, ev.Data.Price)
		}
		return nil
	})
	fmt.Println("end:", err)
	// Output:
	// ACME 12.5
	// no quote: closed for lunch
	// ACME 13
	// end: <nil>
}

// Decode is for streams in which the type of the data depends on the event.
func ExampleDecode() {
	srv := exampleStream("event: customer\ndata: {\"name\":\"Ann\"}\n\n" +
		"event: prices\ndata: [100,200]\n\n")
	defer srv.Close()

	c := client.Install(http.DefaultClient, client.Config{})
	err := c.SSE(context.Background(), srv.URL, func(s *client.Session) error {
		for ev, err := range s.Incoming() {
			if err != nil {
				return err
			}
			switch ev.Name {
			case "customer":
				customer, err := client.Decode[struct{ Name string }](s, ev)
				if err != nil {
					return err
				}
				fmt.Println(customer.Name)
			case "prices":
				prices, err := client.Decode[[]int](s, ev)
				if err != nil {
					return err
				}
				fmt.Println(prices[0] + prices[1])
			}
		}
		return nil
	})
	fmt.Println("end:", err)
	// Output:
	// Ann
	// 300
	// end: <nil>
}

// Read reads a response that other code has opened, such as an SDK.
func ExampleRead() {
	srv := exampleStream("data: hello\n\ndata: world\n\n")
	defer srv.Close()
	resp, err := http.Get(srv.URL)
	if err != nil {
		panic(err)
	}
	s := client.ReadResponse(context.Background(), resp) // closes the body at the end of the session
	for ev, err := range s.Incoming() {
		if err != nil {
			panic(err)
		}
		fmt.Println(ev.Data)
	}
	// Output:
	// hello
	// world
}

// A question to a language model. Terminal names the event that completes the answer. An
// answer that is cut off before it ends with ErrTruncated.
func ExampleWithBody() {
	srv := exampleServer(func(w http.ResponseWriter, r *http.Request) {
		question, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "data: {\"token\":\"You \"}\n\n")
		fmt.Fprintf(w, "data: {\"token\":\"asked %s\"}\n\n", strings.Trim(string(question), `"`))
		fmt.Fprintf(w, "data: [DONE]\n\n")
	})
	defer srv.Close()

	c := client.Install(http.DefaultClient, client.Config{
		Terminal: func(ev client.Event) bool { return ev.Data == "[DONE]" },
	})
	err := c.SSE(context.Background(), srv.URL, func(s *client.Session) error {
		for ev, err := range client.Incoming[struct{ Token string }](s) {
			if err != nil {
				return err
			}
			fmt.Print(ev.Data.Token)
		}
		return nil
	}, client.WithBody("application/json", strings.NewReader(`"why?"`)))
	fmt.Println("\nend:", err)
	// Output:
	// You asked why?
	// end: <nil>
}

// WithConfig changes the configuration of a single session.
func ExampleWithConfig() {
	srv := exampleStream(": soon\n\ndata: hello\n\n")
	defer srv.Close()

	c := client.Install(http.DefaultClient, client.Config{})
	err := c.SSE(context.Background(), srv.URL, func(s *client.Session) error {
		for ev, err := range s.Incoming() {
			if err != nil {
				return err
			}
			fmt.Printf("comment %q, data %q\n", ev.Comment, ev.Data)
		}
		return nil
	}, client.WithConfig(func(cfg *client.Config) { cfg.ShowCommentEvents = true }))
	fmt.Println("end:", err)
	// Output:
	// comment "soon", data ""
	// comment "", data "hello"
	// end: <nil>
}

// WithAddress sets the URL in parts. Each part may be left out.
func ExampleWithAddress() {
	srv := exampleServer(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "data: this is %s\n\n", r.URL)
	})
	defer srv.Close()
	addr := srv.Listener.Addr().(*net.TCPAddr)

	c := client.Install(http.DefaultClient, client.Config{})
	err := c.SSE(context.Background(), "", func(s *client.Session) error {
		for ev, err := range s.Incoming() {
			if err != nil {
				return err
			}
			fmt.Println(ev.Data)
		}
		return nil
	}, client.WithAddress("http", addr.IP.String(), addr.Port, "/events?room=7"))
	fmt.Println("end:", err)
	// Output:
	// this is /events?room=7
	// end: <nil>
}

// A restarted program resumes after the last event that it had read.
func ExampleWithLastEventID() {
	srv := exampleServer(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "id: 42\ndata: what came after %s\n\n", r.Header.Get("Last-Event-ID"))
	})
	defer srv.Close()

	c := client.Install(http.DefaultClient, client.Config{})
	s, err := c.Session(context.Background(), srv.URL, client.WithLastEventID("41"))
	if err != nil {
		panic(err)
	}
	defer s.Close()
	for ev, err := range s.Incoming() {
		if err != nil {
			panic(err)
		}
		fmt.Println(ev.Data)
	}
	fmt.Println("keep:", s.LastEventID())
	// Output:
	// what came after 41
	// keep: 42
}

// An Error holds the last events that were read before it.
func ExampleLastEvents() {
	srv := exampleStream("data: 1\n\ndata: 2\n\ndata: three\n\ndata: 4\n\n")
	defer srv.Close()

	c := client.Install(http.DefaultClient, client.Config{BufferPolicy: client.LastEvents(2)})
	err := c.SSE(context.Background(), srv.URL, func(s *client.Session) error {
		for ev, err := range client.Incoming[int](s) {
			if err != nil {
				return err
			}
			fmt.Println(ev.Data)
		}
		return nil
	})
	if failed, ok := errors.AsType[*client.Error](err); ok {
		fmt.Printf("failed after %q\n", failed.Body)
	}
	// Output:
	// 1
	// 2
	// failed after "data: 2\n\ndata: three\n\n"
}

// The type of an error says what went wrong, and an Error holds the response.
func ExampleError() {
	srv := exampleServer(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "members only", http.StatusForbidden)
	})
	defer srv.Close()

	c := client.Install(http.DefaultClient, client.Config{})
	_, err := c.Session(context.Background(), srv.URL)
	fmt.Println(err)
	if status, ok := errors.AsType[*client.StatusError](err); ok && status.Status == http.StatusForbidden {
		fmt.Println("log in first")
	}
	if failed, ok := errors.AsType[*client.Error](err); ok {
		fmt.Printf("%s: %s", failed.Response.Header.Get("Content-Type"), failed.Body)
	}
	// Output:
	// client: expected status 200 but was 403
	// log in first
	// text/plain; charset=utf-8: members only
}

// OnRequest sets a new token for each attempt.
func ExampleConfig_onRequest() {
	srv := exampleServer(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer token-1" {
			w.WriteHeader(http.StatusUnauthorized) // the token has expired
			return
		}
		fmt.Fprintf(w, "data: with %s\n\n", r.Header.Get("Authorization"))
	})
	defer srv.Close()
	tokens := 0

	c := client.Install(http.DefaultClient, client.Config{
		MaxReconnectionAttempts: 1,
		ReconnectionTime:        time.Millisecond,
		OnFailure: func(f client.Failure) client.Decision {
			if status, ok := errors.AsType[*client.StatusError](f.Err); ok && status.Status == http.StatusUnauthorized {
				return client.RetryIn(0) // OnRequest sets another token
			}
			return client.DefaultDecision(f)
		},
		OnRequest: func(r *http.Request) error {
			tokens++
			r.Header.Set("Authorization", fmt.Sprint("Bearer token-", tokens))
			return nil
		},
		OnRetry: func(r client.Failure) { fmt.Println("again:", r.Err) },
		Logger:  slog.New(slog.DiscardHandler),
	})
	s, err := c.Session(context.Background(), srv.URL)
	if err != nil {
		panic(err)
	}
	for ev, err := range s.Incoming() {
		if err != nil {
			panic(err)
		}
		fmt.Println(ev.Data)
		break
	}
	// Output:
	// again: expected status 200 but was 401
	// with Bearer token-2
}

// exampleServer returns a server of the event streams that h writes.
func exampleServer(h http.HandlerFunc) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		h(w, r)
	}))
}

// exampleStream returns a server of an event stream of the given text.
func exampleStream(text string) *httptest.Server {
	return exampleServer(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) })
}
