// How a session ends: each row of the table in docs/CLIENT.md.

package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
)

func TestEndsOfTheTable(t *testing.T) {
	own := errors.New("my own")
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/404":
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, "nothing here")
		case "/500":
			w.WriteHeader(http.StatusInternalServerError)
			io.WriteString(w, "down")
		case "/html":
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<p>")
		case "/redirect":
			w.Header().Set("Location", "ftp://example.com/")
			w.WriteHeader(http.StatusFound)
		case "/busy":
			w.Header().Set("Retry-After", "172800")
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "busy")
		case "/slow":
			<-r.Context().Done()
		case "/done":
			send(w, "data: a\n\ndata: [DONE]\n\n")
		case "/rest":
			send(w, "data: a\n\ndata: b\nda")
		case "/cut":
			send(w, "data: a\n\ndata: b\nda")
			panic(http.ErrAbortHandler)
		case "/idle":
			send(w, "data: a\n\nda")
			<-r.Context().Done()
		case "/beats":
			send(w, "data: a\n\nda")
			for r.Context().Err() == nil {
				send(w, "t")
				time.Sleep(time.Millisecond)
			}
		case "/large":
			send(w, "data: %s", strings.Repeat("x", 200))
		case "/id":
			send(w, "id: a\x01\ndata: a\n\nda")
		case "/empty":
			send(w, "da")
		default:
			send(w, "data: a\n\n")
		}
	})
	terminal := func(c *client.Config) { c.Terminal = func(ev client.Event) bool { return ev.Data == "[DONE]" } }
	again := func(c *client.Config) { c.MaxReconnectionAttempts = 2 }
	type test struct {
		path string
		edit func(*client.Config)
		do   func(ctx context.Context, c *client.Client, url string) error // default: SSE

		as   []any   // errors.As
		is   []error // errors.Is
		body string
		fine bool
		bare bool // not an *Error
	}
	rows := map[string]test{
		"status 204":                             {path: "/204", fine: true},
		"terminal event":                         {path: "/done", edit: terminal, fine: true},
		"orderly end, no reconnection":           {path: "/", fine: true},
		"OnFailure returned End":                 {path: "/cut", edit: func(c *client.Config) { c.OnFailure = func(client.Failure) client.Decision { return client.End() } }, fine: true},
		"orderly end without the terminal event": {path: "/rest", edit: terminal, is: []error{client.ErrTruncated}, body: "data: b\nda"},
		"the connection broke":                   {path: "/cut", body: "data: b\nda"},
		"nothing arrived for IdleTimeout":        {path: "/idle", edit: func(c *client.Config) { c.IdleTimeout = 20 * time.Millisecond }, as: []any{new(*client.TimeoutError)}, body: "da"},
		"no event arrived for EventTimeout":      {path: "/beats", edit: func(c *client.Config) { c.EventTimeout = 20 * time.Millisecond }, as: []any{new(*client.TimeoutError)}, body: "dat…"},
		"no header within OpenTimeout":           {path: "/slow", edit: func(c *client.Config) { c.OpenTimeout = 20 * time.Millisecond }, as: []any{new(*client.TimeoutError)}},
		"no connection": {as: []any{new(*url.Error), new(*net.OpError)}, do: func(ctx context.Context, c *client.Client, _ string) error {
			return c.SSE(ctx, "http://"+refusing(t), nil)
		}},
		"another status":                             {path: "/404", as: []any{new(*client.StatusError)}, body: "nothing here"},
		"not an event stream":                        {path: "/html", as: []any{new(*client.ContentError)}, body: "<p>"},
		"redirect refused":                           {path: "/redirect", as: []any{new(*url.Error)}},
		"a line or an event is too large":            {path: "/large", edit: func(c *client.Config) { c.MaxEventSize = 100 }, as: []any{new(*event.TooLargeError)}, body: "data: " + strings.Repeat("x", 200)},
		"the server asks for a wait beyond MaxRetry": {path: "/busy", edit: again, as: []any{new(*client.RetryError), new(*client.StatusError)}, body: "busy"},
		"an id that no request can carry":            {path: "/id", edit: again, as: []any{new(*client.LastEventIDError)}, body: "da"},
		"the attempts are used up":                   {path: "/500", edit: again, as: []any{new(*client.AttemptsError), new(*client.StatusError)}, body: "down"},
		"the attempts are used up by orderly ends":   {path: "/empty", edit: again, as: []any{new(*client.AttemptsError)}, is: []error{io.EOF}, body: "da"},
		"OnRequest failed":                           {path: "/", edit: func(c *client.Config) { c.OnRequest = func(*http.Request) error { return own } }, is: []error{own}},
		"OnFailure returned Stop with an error":      {path: "/404", edit: func(c *client.Config) { c.OnFailure = func(client.Failure) client.Decision { return client.Stop(own) } }, is: []error{own}, body: "nothing here"},
		"the block of SSE failed": {path: "/rest", edit: func(c *client.Config) { c.BufferPolicy = client.All }, is: []error{own}, body: "data: a\n\n", do: func(ctx context.Context, c *client.Client, url string) error {
			return c.SSE(ctx, url, func(s *client.Session) error {
				for _, err := range s.Incoming() {
					require.NoError(t, err)
					break
				}
				return own
			})
		}},
		"Close, or a loop that was left": {path: "/idle", is: []error{client.ErrClosed}, bare: true, do: func(ctx context.Context, c *client.Client, url string) error {
			s, err := c.Session(ctx, url)
			require.NoError(t, err)
			for _, err := range s.Incoming() {
				require.NoError(t, err)
				break
			}
			_, err = collect(s)
			return err
		}},
		"the context ended": {path: "/idle", is: []error{context.Canceled, own}, bare: true, do: func(ctx context.Context, c *client.Client, url string) error {
			ctx, cancel := context.WithCancelCause(ctx)
			return c.SSE(ctx, url, func(s *client.Session) error {
				for _, err := range s.Incoming() {
					if err != nil {
						return err
					}
					cancel(own)
				}
				return nil
			})
		}},
		"an option or the URL is invalid": {as: []any{new(*client.ConfigError)}, bare: true, do: func(ctx context.Context, c *client.Client, _ string) error {
			return c.SSE(ctx, "ftp://lab/", nil)
		}},
		"Do, and the response is not a stream": {path: "/404", fine: true, do: func(ctx context.Context, c *client.Client, url string) error {
			s, resp, err := c.Do(ctx, url)
			require.Nil(t, s)
			body, readErr := io.ReadAll(resp.Body)
			require.NoError(t, readErr)
			require.Equal(t, "nothing here", string(body))
			require.NoError(t, resp.Body.Close())
			return err
		}},
	}

	doc, err := os.ReadFile("../docs/CLIENT.md")
	require.NoError(t, err)
	_, table, _ := strings.Cut(string(doc), "| what happened |")
	table, _, _ = strings.Cut(table, "\n\n")
	lines := strings.Split(table, "\n")[2:]
	require.Len(t, lines, len(rows), "the table and the test have different rows")
	for _, line := range lines {
		cells := strings.Split(line, " | ")
		_, ok := rows[strings.TrimPrefix(cells[0], "| ")]
		require.True(t, ok, "no test of the row %q", cells[0])
	}

	overEach(t, handler, func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		for name, tt := range rows {
			t.Run(name, func(t *testing.T) {
				var cfg client.Config
				if tt.edit != nil {
					tt.edit(&cfg)
				}
				if tt.do == nil {
					tt.do = func(ctx context.Context, c *client.Client, url string) error {
						return c.SSE(ctx, url, func(s *client.Session) error { _, err := collect(s); return err })
					}
				}
				err := tt.do(ktorContext(t), install(srv.Client(), cfg), srv.URL+tt.path)
				if tt.fine {
					require.NoError(t, err)
					return
				}
				require.Error(t, err)
				for _, target := range tt.as {
					require.ErrorAs(t, err, target)
				}
				for _, target := range tt.is {
					require.ErrorIs(t, err, target)
				}
				var e *client.Error
				require.Equal(t, !tt.bare, errors.As(err, &e))
				if tt.bare {
					return
				}
				if start, ok := strings.CutSuffix(tt.body, "…"); ok {
					require.True(t, strings.HasPrefix(string(e.Body), start), "%q", e.Body)
				} else {
					require.Equal(t, tt.body, string(e.Body))
				}
			})
		}
	})
}
