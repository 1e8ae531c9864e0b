package sse_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/render"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

// teapot is an error that renders itself, with the status http.StatusTeapot.
type teapot struct {
	Cups int   `json:"cups"`
	fail error // what Render returns
}

func (e *teapot) Error() string { return "no coffee" }

func (e *teapot) Render(_ http.ResponseWriter, r *http.Request) error {
	if e.fail == nil {
		render.Status(r, http.StatusTeapot)
	}
	return e.fail
}

func TestSessionAnswersWithAStatusBeforeItOpens(t *testing.T) {
	t.Parallel()
	secret := errors.New("password of the database")
	for name, tt := range map[string]struct {
		err     error
		accept  string
		status  int
		content string
		body    string
		reason  sse.EndReason
	}{
		"JSON": {
			sse.Error(403, errors.New("members only")), "",
			403, "application/json", `{"status":403,"error":"members only"}` + "\n", sse.EndStatus,
		},
		"JSON for EventSource": {
			sse.Error(403, errors.New("members only")), "text/event-stream",
			403, "application/json", `{"status":403,"error":"members only"}` + "\n", sse.EndStatus,
		},
		"XML": {
			sse.Error(404, errors.New("no room <7>")), "application/xml",
			404, "application/xml; charset=utf-8",
			`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<response><status>404</status><error>no room &lt;7&gt;</error></response>`,
			sse.EndStatus,
		},
		"no error": {
			sse.Error(401, nil), "application/json",
			401, "application/json", `{"status":401,"error":"Unauthorized"}` + "\n", sse.EndStatus,
		},
		"wrapped": {
			fmt.Errorf("authorize: %w", sse.Error(402, errors.New("pay first"))), "",
			402, "application/json", `{"status":402,"error":"pay first"}` + "\n", sse.EndStatus,
		},
		"a server's": {
			sse.Error(503, errors.New("later")), "",
			503, "application/json", `{"status":503,"error":"later"}` + "\n", sse.EndStatus,
		},
		"renderer": {
			sse.Error(400, &teapot{Cups: 2}), "",
			418, "application/json", `{"cups":2}` + "\n", sse.EndStatus,
		},
		"renderer that fails": {
			sse.Error(400, &teapot{fail: errors.New("broken")}), "",
			400, "application/json", `{"status":400,"error":"no coffee"}` + "\n", sse.EndStatus,
		},
		"any other error": {
			secret, "",
			500, "application/json", `{"status":500,"error":"Internal Server Error"}` + "\n", sse.EndHandlerError,
		},
		"any other error that renders itself": {
			&teapot{Cups: 3}, "",
			500, "application/json", `{"status":500,"error":"Internal Server Error"}` + "\n", sse.EndHandlerError,
		},
	} {
		for _, proto := range protocols {
			t.Run(name+" over "+proto.Name, func(t *testing.T) {
				t.Parallel()
				var cfg sse.Config
				ends := endsOf(&cfg)
				cfg.OnOpen = func(*sse.ServerSession) { assert.Fail(t, "OnOpen was called") }
				cfg.OnSend = func(*sse.ServerSession, sse.Sent) { assert.Fail(t, "OnSend was called") }
				r := newRouter(cfg)
				r.SSE("/", func(*sse.ServerSession) error { return tt.err })
				var header []string
				if tt.accept != "" {
					header = []string{"Accept", tt.accept}
				}
				a := get(t, serve(t, r, proto.Setup), "/", header...)
				require.NoError(t, a.Err)
				require.Equal(t, tt.status, a.Status)
				require.Equal(t, []string{tt.content}, a.Header["Content-Type"])
				require.Equal(t, tt.body, a.Body)
				require.NotContains(t, a.Body, "password")
				require.NotContains(t, a.Header, "X-Accel-Buffering")

				e := testkit.Receive(t, ends)
				require.Equal(t, tt.reason, e.Reason)
				require.Equal(t, tt.err, e.Err)
				require.False(t, e.Opened)
				require.Zero(t, e.Events)
				require.Zero(t, e.Bytes)
			})
		}
	}
}

func TestSessionRenderErrorOfTheConfig(t *testing.T) {
	t.Parallel()
	type call struct {
		status *sse.StatusError
		err    error
	}
	calls := make(chan call, 1)
	r := newRouter(sse.Config{MaxSessions: 1, RenderError: func(w http.ResponseWriter, r *http.Request, err error) {
		var c call
		c.err = err
		errors.As(err, &c.status)
		calls <- c
		w.WriteHeader(499)
		io.WriteString(w, "mine for "+chi.URLParam(r, "id"))
	}})
	own := errors.New("own")
	r.SSE("/status/{id}", func(*sse.ServerSession) error { return sse.Error(403, own) })
	r.SSE("/error/{id}", func(*sse.ServerSession) error { return own })

	for path, status := range map[string]int{"/status/7": 403, "/error/7": 0} {
		rec := record(r, "GET", path)
		require.Equal(t, 499, rec.Code)
		require.Equal(t, "mine for 7", rec.Body.String())
		c := testkit.Receive(t, calls)
		require.ErrorIs(t, c.err, own)
		if status != 0 {
			require.Equal(t, status, c.status.Status)
			require.Equal(t, own, c.status.Err)
		} else {
			require.Nil(t, c.status)
		}
	}
	// RenderError also writes the answer to a request that is refused.
	srv := serve(t, r)
	r.SSE("/held", untilDone)
	require.Equal(t, "open", connect(t, srv, "/held").next().Data)
	require.Equal(t, 499, get(t, srv, "/held").Status)
	c := testkit.Receive(t, calls)
	require.ErrorIs(t, c.err, sse.ErrTooManySessions)
	require.Equal(t, http.StatusServiceUnavailable, c.status.Status)
}

// browser is the header by which the plugin recognizes the EventSource of a browser.
var browser = []string{"Accept", "text/event-stream", "Sec-Fetch-Mode", "cors"}

// requireRefused checks the answers to requests that get no session. A browser's EventSource
// gets a stream with a retry time and a comment with the reason; every other client gets
// status 503 with Retry-After.
func requireRefused(t *testing.T, srv *httptest.Server, path, why string) {
	t.Helper()
	for name, header := range map[string][]string{
		"Chromium": {"Accept", "text/event-stream", "Sec-Fetch-Mode", "cors", "User-Agent", "Mozilla/5.0 Chrome"},
		"Safari":   {"Accept", "text/event-stream", "User-Agent", "Mozilla/5.0 (Macintosh)"},
		"no agent": {"Accept", "text/event-stream", "Sec-Fetch-Mode", "same-origin", "User-Agent", ""},
	} {
		a := get(t, srv, path, header...)
		require.NoError(t, a.Err)
		require.Equal(t, http.StatusOK, a.Status, name)
		require.Equal(t, "text/event-stream", a.Header.Get("Content-Type"), name)
		dec := newStream(t, &http.Response{Body: io.NopCloser(strings.NewReader(a.Body))}, nil)
		ev := dec.next()
		require.Equal(t, sse.Event{Retry: ev.Retry, Comment: why}, ev, name)
		require.GreaterOrEqual(t, ev.Retry, 3*time.Second)
		require.Less(t, ev.Retry, 8*time.Second)
		dec.end()
	}
	for name, header := range map[string][]string{
		"nothing":      nil,
		"a program":    {"Accept", "text/event-stream", "User-Agent", "curl/8"},
		"a page":       {"Accept", "text/html", "Sec-Fetch-Mode", "navigate", "User-Agent", "Mozilla/5.0"},
		"fetch":        {"Accept", "*/*", "Sec-Fetch-Mode", "cors", "User-Agent", "Mozilla/5.0"},
		"several kind": {"Accept", "text/event-stream, */*", "User-Agent", "Mozilla/5.0"},
	} {
		a := get(t, srv, path, header...)
		require.Equal(t, http.StatusServiceUnavailable, a.Status, name)
		seconds, err := strconv.Atoi(a.Header.Get("Retry-After"))
		require.NoError(t, err, name)
		require.GreaterOrEqual(t, seconds, 3)
		require.LessOrEqual(t, seconds, 8)
		require.JSONEq(t, fmt.Sprintf(`{"status":503,"error":"sse: %s"}`, why), a.Body, name)
		require.NotContains(t, a.Header, "X-Accel-Buffering", name)
	}
}

// The write timeout also bounds an answer without a stream, such as an error: a client that
// reads nothing cannot block it.
func TestAnswerWithoutASessionIsBoundedInTime(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			large := make([]byte, 8<<20)
			over := make(chan struct{})
			r := newRouter(sse.Config{
				WriteTimeout: 200 * time.Millisecond,
				RenderError: func(w http.ResponseWriter, _ *http.Request, _ error) {
					defer close(over)
					_, err := w.Write(large) // more than flow control windows and buffers hold
					require.Error(t, err)
				},
			})
			r.SSE("/", func(*sse.ServerSession) error { return sse.Error(http.StatusForbidden, nil) })
			srv := serve(t, r, proto.Setup)
			resp, err := srv.Client().Get(srv.URL)
			require.NoError(t, err)
			defer resp.Body.Close()
			select {
			case <-over:
			case <-time.After(10 * time.Second):
				require.Fail(t, "the write of the answer has no timeout")
			}
		})
	}
}

// OnRefuse is told of each request that gets no session, and why, before it is answered. No other
// hook is called.
func TestOnRefuse(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		for name, why := range map[string]error{
			"the plugin's limit": sse.ErrTooManySessions, "the route's limit": sse.ErrTooManySessions,
			"a shutdown": sse.ErrShutdown, "a writer": sse.ErrUnsupported,
		} {
			t.Run(name+" over "+proto.Name, func(t *testing.T) {
				t.Parallel()
				type call struct {
					room string
					err  error
				}
				refused := make(chan call, 10)
				cfg := sse.Config{
					OnRefuse: func(r *http.Request, err error) { refused <- call{chi.URLParam(r, "room"), err} },
					OnOpen:   func(*sse.ServerSession) {},
				}
				ends := endsOf(&cfg)
				var opts []sse.RouteOption
				switch name {
				case "the plugin's limit":
					cfg.MaxSessions = 1
				case "the route's limit":
					opts = append(opts, sse.WithSessionLimit(1))
				}
				r := newRouter(cfg)
				if name == "a writer" {
					r.Use(func(next http.Handler) http.Handler { return http.TimeoutHandler(next, time.Minute, "") })
				}
				r.SSE("/{room}", untilDone, opts...)
				srv := serve(t, r, proto.Setup)
				switch {
				case errors.Is(why, sse.ErrTooManySessions):
					require.Equal(t, "open", connect(t, srv, "/first").nextData())
				case errors.Is(why, sse.ErrShutdown):
					require.NoError(t, r.Plugin().Shutdown(t.Context()))
				}
				for _, header := range [][]string{nil, browser} {
					get(t, srv, "/second", header...)
					require.Len(t, refused, 1, "it is called before the answer")
					c := <-refused
					require.ErrorIs(t, c.err, why)
					require.Equal(t, "second", c.room)
				}
				require.Empty(t, ends)
			})
		}
	}
}
