// Examples of hooks that decide about failures, and of requests that are sent again.

package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/chi-sse/sse/client"
)

// OnFailure renews a token that has expired, and tries again at once. It gives up if the
// new token is refused as well.
func ExampleConfig_onFailure() {
	srv := exampleServer(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer new" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, "data: welcome\n\n")
	})
	defer srv.Close()
	token := "expired"

	c := client.Install(http.DefaultClient, client.Config{
		MaxReconnectionAttempts: 1,
		OnRequest: func(r *http.Request) error {
			r.Header.Set("Authorization", "Bearer "+token)
			return nil
		},
		OnFailure: func(f client.Failure) client.Decision {
			status, ok := errors.AsType[*client.StatusError](f.Err)
			switch {
			case ok && status.Status == http.StatusUnauthorized && !f.Final:
				token = "new"
				return client.RetryIn(0)
			case f.Err == io.EOF:
				return client.End()
			}
			return client.DefaultDecision(f)
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	err := c.SSE(context.Background(), srv.URL, func(s *client.Session) error {
		for ev, err := range s.Incoming() {
			if err != nil {
				return err
			}
			fmt.Println(ev.Data)
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// welcome
	// <nil>
}

// A completion is asked for again if the model is busy, and if the connection breaks before
// the first token. Once a token has arrived, it is not paid for again.
func ExampleConfig_resend() {
	var answers atomic.Int32
	srv := exampleServer(func(w http.ResponseWriter, _ *http.Request) {
		switch answers.Add(1) {
		case 1:
			w.Header().Set("Retry-After-Ms", "5")
			w.WriteHeader(http.StatusTooManyRequests)
		case 2:
			panic(http.ErrAbortHandler) // the connection breaks
		default:
			fmt.Fprint(w, "data: Hello\n\n")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	defer srv.Close()

	c := client.Install(http.DefaultClient, client.Config{
		MaxReconnectionAttempts: 5,
		ReconnectionTime:        time.Millisecond,
		Resend:                  client.ResendUntilEvent,
		Terminal:                func(ev client.Event) bool { return ev.Data == "[DONE]" },
		Logger:                  slog.New(slog.DiscardHandler),
	})
	prompt := strings.NewReader(`{"prompt": "Say hello", "stream": true}`)
	err := c.SSE(context.Background(), srv.URL, func(s *client.Session) error {
		for ev, err := range s.Incoming() {
			if err != nil {
				return err
			}
			fmt.Println(ev.Data)
		}
		return nil
	}, client.WithBody("application/json", prompt))
	fmt.Println(errors.Is(err, io.ErrUnexpectedEOF), "after", answers.Load(), "requests")
	// Output:
	// Hello
	// true after 3 requests
}

// A hook that stops unless the server has refused the request makes sure that nothing is
// paid twice, and still tries again when the model is busy.
func ExampleRefused() {
	var answers atomic.Int32
	srv := exampleServer(func(w http.ResponseWriter, _ *http.Request) {
		if answers.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable) // nothing was done
			return
		}
		panic(http.ErrAbortHandler) // who knows
	})
	defer srv.Close()

	c := client.Install(http.DefaultClient, client.Config{
		MaxReconnectionAttempts: 5,
		ReconnectionTime:        time.Millisecond,
		Resend:                  client.ResendUntilEvent,
		OnFailure: func(f client.Failure) client.Decision {
			if !client.Refused(f.Err) {
				return client.Stop(nil)
			}
			return client.DefaultDecision(f)
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	_, err := c.Session(context.Background(), srv.URL, client.WithBody("text/plain", strings.NewReader("order")))
	fmt.Println(errors.Is(err, io.EOF), "after", answers.Load(), "requests")
	// Output:
	// true after 2 requests
}
