package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

func resumable() mcp.StreamableHTTPOptions {
	return mcp.StreamableHTTPOptions{EventStore: mcp.NewMemoryEventStore(nil)}
}

// Each kind of server: how it responds to a POST, and whether it has sessions and a stream.
func TestCallOfEachKindOfServer(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		options  mcp.StreamableHTTPOptions
		progress bool // it sends notifications with its response
		session  bool
	}{
		"stream":         {mcp.StreamableHTTPOptions{}, true, true},
		"with ids":       {resumable(), true, true},
		"JSON":           {mcp.StreamableHTTPOptions{JSONResponse: true}, false, true},
		"no sessions":    {mcp.StreamableHTTPOptions{Stateless: true}, true, false},
		"stateless JSON": {mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, tt.options, nil)
			c, p := dial(t, s, http.DefaultClient)
			listened := make(chan error, 1)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			go func() { listened <- c.listen(ctx) }()
			s.waitForListener(t, 1)

			n := 0
			if tt.progress {
				n = 3
			}
			text, err := count(t.Context(), c, countArgs{Name: "a", N: n})
			require.NoError(t, err)
			require.Equal(t, "a is done", text)
			require.Equal(t, upTo(n), append([]int{}, p.of("a")...))

			var tools struct{ Tools []struct{ Name string } }
			require.NoError(t, c.call(t.Context(), "tools/list", nil, &tools))
			require.Len(t, tools.Tools, 2)
			var e *rpcError
			require.ErrorAs(t, c.call(t.Context(), "tools/call", map[string]any{"name": "none"}, nil), &e)
			require.ErrorContains(t, e, "none")

			if tt.session {
				testkit.Eventually(t, func() bool { s.notify(t, 0); return len(p.of("free")) > 0 }, "a notification by GET")
				require.NoError(t, c.close(t.Context()))
				require.Len(t, s.seen(http.MethodDelete), 1)
				err = c.call(t.Context(), "tools/list", nil, nil)
				require.ErrorContains(t, err, "404")
				require.ErrorContains(t, err, "session not found")
				require.NoError(t, c.close(t.Context()), "it has ended already")
			} else {
				require.NoError(t, testkit.Receive(t, listened), "405 is no error")
				require.NoError(t, c.close(t.Context()))
				require.Empty(t, s.seen(http.MethodDelete))
			}

			for i, r := range s.seen("") {
				session, version := "", ""
				if i > 0 {
					version = "2025-11-25"
					if tt.session {
						session = c.sessionID
						require.NotEmpty(t, session)
					}
				}
				require.Equal(t, session, r.Header.Get("Mcp-Session-Id"), i)
				require.Equal(t, version, r.Header.Get("Mcp-Protocol-Version"), i)
			}
		})
	}
}

// The connection breaks again and again, at any byte of either stream.
func TestResume(t *testing.T) {
	t.Parallel()
	const calls, n = 20, 30
	cut := &cutter{limit: 1000}
	s := serve(t, resumable(), nil)
	c, p := dial(t, s, http.DefaultClient)
	hc := &http.Client{Transport: cut}
	retrySoon(c.transport, hc)
	ctx, stop := context.WithCancel(t.Context())
	var listener sync.WaitGroup
	listener.Go(func() { assert.ErrorIs(t, c.listen(ctx), context.Canceled) })
	s.waitForListener(t, 1)

	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			name := fmt.Sprint("call-", i)
			text, err := count(t.Context(), c, countArgs{Name: name, N: n})
			if assert.NoError(t, err) {
				assert.Equal(t, name+" is done", text)
				assert.Equal(t, upTo(n), p.of(name), name)
				assert.EqualValues(t, 1, s.called(name), name)
			}
		})
	}
	for i := range n {
		s.notify(t, i)
		time.Sleep(time.Millisecond)
	}
	wg.Wait()
	testkit.Eventually(t, func() bool { return len(p.of("free")) >= n }, "all notifications by GET")
	require.Equal(t, upTo(n), p.of("free"))
	stop()
	listener.Wait()
	require.Greater(t, cut.cuts.Load(), int64(calls), "the streams were not cut")
	for _, r := range s.seen(http.MethodGet) {
		require.Equal(t, "text/event-stream", r.Header.Get("Accept"))
		require.NotContains(t, r.Header, "Content-Type")
		require.NotEmpty(t, r.Header.Get("Mcp-Session-Id"))
	}
	for _, r := range s.seen(http.MethodPost) {
		require.NotContains(t, r.Header, "Last-Event-Id")
	}
}

// The server ends the stream in order, to be asked for the rest later.
func TestServerEndsTheStreamForAWhile(t *testing.T) {
	t.Parallel()
	s := serve(t, resumable(), nil)
	c, p := dial(t, s, http.DefaultClient)
	text, err := count(t.Context(), c, countArgs{Name: "a", N: 5, Cut: true})
	require.NoError(t, err)
	require.Equal(t, "a is done", text)
	require.Equal(t, upTo(5), p.of("a"))
	require.EqualValues(t, 1, s.called("a"))
	require.NotEmpty(t, s.seen(http.MethodGet))
}

// What a client does with a POST that fails depends on whether the server can have acted.
func TestPOSTIsNotSentAgainUnlessRefused(t *testing.T) {
	t.Parallel()
	abort := func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }
	status := func(status int) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { http.Error(w, "no", status) }
	}
	stream := func(text string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = w.Write([]byte(text))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}
	const done = `data: {"jsonrpc":"2.0","id":2,"result":{"content":[{"type":"text","text":"ok"}]}}` + "\n\n"
	for name, tt := range map[string]struct {
		answers []func(http.ResponseWriter) // to the requests of the call, before the server itself
		methods string                      // of these requests
		text    string
		err     string
	}{
		"refused":                   {[]func(http.ResponseWriter){status(503), status(429)}, "POST POST POST", "a is done", ""},
		"broken before the header":  {[]func(http.ResponseWriter){abort}, "POST", "", "EOF"},
		"500":                       {[]func(http.ResponseWriter){status(500)}, "POST", "", "500"},
		"502":                       {[]func(http.ResponseWriter){status(502)}, "POST", "", "502"},
		"409":                       {[]func(http.ResponseWriter){status(409)}, "POST", "", "409"},
		"broken before an id":       {[]func(http.ResponseWriter){stream("data: {}\n\n")}, "POST", "", "unexpected EOF"},
		"broken after an id":        {[]func(http.ResponseWriter){stream("id: 1\ndata:\n\n"), stream(done)}, "POST GET", "ok", ""},
		"an id without an event":    {[]func(http.ResponseWriter){stream("id: 1\n\n"), stream(done)}, "POST GET", "ok", ""},
		"the old stream is in use":  {[]func(http.ResponseWriter){stream("id: 1\ndata:\n\n"), status(409), status(503), abort, stream(done)}, "POST GET GET GET GET", "ok", ""},
		"the session is gone":       {[]func(http.ResponseWriter){stream("id: 1\ndata:\n\n"), status(404)}, "POST GET", "", "404"},
		"the rest is not there":     {[]func(http.ResponseWriter){stream("id: 1\ndata:\n\n"), func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }}, "POST GET", "", "no response"},
		"the response is not there": {[]func(http.ResponseWriter){func(w http.ResponseWriter) { w.WriteHeader(http.StatusAccepted) }}, "POST", "", "no response"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var answers []func(http.ResponseWriter)
			var methods []string
			var mu sync.Mutex
			s := serve(t, mcp.StreamableHTTPOptions{}, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					mu.Lock()
					methods = append(methods, r.Method)
					var answer func(http.ResponseWriter)
					if len(answers) > 0 {
						answer, answers = answers[0], answers[1:]
					}
					mu.Unlock()
					if answer != nil {
						answer(w)
						return
					}
					next.ServeHTTP(w, r)
				})
			})
			c, _ := dial(t, s, http.DefaultClient)
			retrySoon(c.transport, http.DefaultClient)
			mu.Lock()
			answers, methods = tt.answers, nil
			mu.Unlock()
			text, err := count(t.Context(), c, countArgs{Name: "a"})
			if tt.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tt.err)
			}
			require.Equal(t, tt.text, text)
			mu.Lock()
			defer mu.Unlock()
			require.Equal(t, tt.methods, strings.Join(methods, " "))
			require.LessOrEqual(t, s.called("a"), int64(1))
		})
	}
}

// A call whose context ends tells the server.
func TestCancel(t *testing.T) {
	t.Parallel()
	s := serve(t, resumable(), nil)
	c, _ := dial(t, s, http.DefaultClient)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, c.call(ctx, "tools/call", map[string]any{"name": "wait"}, nil), context.DeadlineExceeded)
	testkit.Eventually(t, func() bool { return s.canceled.Load() == 1 }, "the cancellation")
}

// The server makes requests by the stream of a POST, or by the GET stream.
func TestRequestsOfTheServer(t *testing.T) {
	t.Parallel()
	s := serve(t, resumable(), nil)
	var pinged atomic.Int64
	mcp.AddTool(s.mcp, &mcp.Tool{Name: "ask"}, func(ctx context.Context, req *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		if assert.NoError(t, req.Session.Ping(ctx, nil)) {
			pinged.Add(1)
		}
		return nil, nil, nil
	})
	c, _ := dial(t, s, http.DefaultClient)
	require.NoError(t, c.call(t.Context(), "tools/call", map[string]any{"name": "ask"}, nil))
	require.EqualValues(t, 1, pinged.Load())

	c.handle([]byte(`{"jsonrpc":"2.0","id":"x","method":"roots/list"}`))
	all := s.seen(http.MethodPost)
	answer, err := io.ReadAll(all[len(all)-1].Body)
	require.NoError(t, err)
	require.JSONEq(t, `{"jsonrpc":"2.0","id":"x","error":{"code":-32601,"message":"this client has no method roots/list"}}`, string(answer))

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { _ = c.listen(ctx) }()
	s.waitForListener(t, 1)
	for ss := range s.mcp.Sessions() {
		require.NoError(t, ss.Ping(t.Context(), nil))
	}
}

// listen gives up when the session has ended.
func TestListenAfterTheEndOfTheSession(t *testing.T) {
	t.Parallel()
	s := serve(t, resumable(), nil)
	c, _ := dial(t, s, http.DefaultClient)
	retrySoon(c.transport, http.DefaultClient)
	listened := make(chan error, 1)
	go func() { listened <- c.listen(t.Context()) }()
	s.waitForListener(t, 1)
	for ss := range s.mcp.Sessions() {
		require.NoError(t, ss.Close())
	}
	var status *client.StatusError
	require.ErrorAs(t, testkit.Receive(t, listened), &status)
	require.Equal(t, http.StatusNotFound, status.Status)
}

func TestRun(t *testing.T) {
	t.Parallel()
	s := serve(t, mcp.StreamableHTTPOptions{}, nil)
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out, s.url, "", ""))
	require.Contains(t, out.String(), `"name":"count"`)
	out.Reset()
	require.NoError(t, run(t.Context(), &out, s.url, "count", `{"Name": "x", "N": 1}`))
	require.Contains(t, out.String(), "x is done")
	require.Len(t, s.seen(http.MethodDelete), 2)
	require.Error(t, run(t.Context(), &out, s.url, "count", `{"Name": `))

	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	var status *client.StatusError
	require.ErrorAs(t, run(t.Context(), &out, srv.URL, "", ""), &status)
}

// The stream of the response to initialize breaks off, so it is resumed with the id of the
// session.
func TestInitializeResumes(t *testing.T) {
	t.Parallel()
	cut := &cutter{limit: 1}
	s := serve(t, resumable(), nil)
	c := newTransport(http.DefaultClient, s.url, func([]byte) {})
	retrySoon(c, &http.Client{Transport: cut})
	_, err := c.send(t.Context(), []byte(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}`))
	require.NoError(t, err)
	require.Equal(t, "2025-11-25", c.version)
	require.Equal(t, c.sessionID, s.seen(http.MethodGet)[0].Header.Get("Mcp-Session-Id"))
}

// Only events that are messages are handed on.
func TestOtherEventsAreLeftOut(t *testing.T) {
	t.Parallel()
	srv := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte("id: 1\ndata:\n\nevent: prime\nid: 2\ndata:\n\nevent: other\ndata: {\"method\":\"x\"}\n\n" +
			"event: message\ndata: {\"method\":\"y\"}\n\ndata: {\"method\":\"z\"}\n\ndata: {\"id\":7,\"result\":{}}\n\n"))
	}))
	var got []string
	c := newTransport(http.DefaultClient, srv.URL, func(msg []byte) { got = append(got, string(msg)) })
	response, err := c.send(t.Context(), []byte(`{"jsonrpc":"2.0","id":7,"method":"tools/list"}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"id":7,"result":{}}`, string(response))
	require.Equal(t, []string{`{"method":"y"}`, `{"method":"z"}`}, got)
}

// The client accepts an older version that it knows, and names it in each further request.
func TestOtherVersionsOfTheProtocol(t *testing.T) {
	t.Parallel()
	for version, known := range map[string]bool{"2025-11-25": true, "2025-06-18": true, "2024-11-05": false} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			seen := make(chan string, 10)
			srv := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				seen <- r.Method + " " + r.Header.Get("Mcp-Protocol-Version")
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Mcp-Session-Id", "a")
				_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":%q}}`, version)
			}))
			_, err := open(t.Context(), http.DefaultClient, srv.URL, nil)
			require.Equal(t, "POST ", <-seen)
			if known {
				require.NoError(t, err)
				require.Equal(t, "POST "+version, <-seen)
				return
			}
			require.ErrorContains(t, err, version)
			require.Equal(t, "DELETE "+version, <-seen)
		})
	}
}
