package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

// server is a server of the SDK, with a tool.
type server struct {
	url      string
	mcp      *mcp.Server
	calls    sync.Map     // how often the tool was called, by its argument Name: *atomic.Int64
	canceled atomic.Int64 // how many calls of wait were canceled

	mu       sync.Mutex
	requests []*http.Request // all that have arrived, with their bodies
}

type countArgs struct {
	Name string // of the call
	N    int    // how many times it reports progress
	Cut  bool   `json:",omitempty"` // whether the server ends the stream after each report, and lets the client come back
}

// serve starts a server. wrap may put a handler before it.
func serve(t *testing.T, options mcp.StreamableHTTPOptions, wrap func(http.Handler) http.Handler) *server {
	t.Helper()
	s := &server{mcp: mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, nil)}
	mcp.AddTool(s.mcp, &mcp.Tool{Name: "count"}, func(ctx context.Context, req *mcp.CallToolRequest, in countArgs) (*mcp.CallToolResult, any, error) {
		n, _ := s.calls.LoadOrStore(in.Name, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		for i := range in.N {
			err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
				ProgressToken: req.Params.GetProgressToken(), Progress: float64(i), Message: in.Name,
			})
			if err != nil && options.EventStore == nil {
				return nil, nil, err
			}
			if in.Cut {
				req.Extra.CloseSSEStream(mcp.CloseSSEStreamArgs{RetryAfter: time.Millisecond})
			}
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: in.Name + " is done"}}}, nil, nil
	})
	mcp.AddTool(s.mcp, &mcp.Tool{Name: "wait"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		<-ctx.Done()
		s.canceled.Add(1)
		return nil, nil, ctx.Err()
	})
	h := http.Handler(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.mcp }, &options))
	if wrap != nil {
		h = wrap(h)
	}
	srv := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen := r.Clone(context.Background())
		seen.Body = io.NopCloser(bytes.NewReader(body))
		s.mu.Lock()
		s.requests = append(s.requests, seen)
		s.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		h.ServeHTTP(w, r)
	}), func(srv *httptest.Server) { srv.Config.ErrorLog = nil })
	s.url = srv.URL
	return s
}

// called returns how often the tool was called with the name.
func (s *server) called(name string) int64 {
	if n, ok := s.calls.Load(name); ok {
		return n.(*atomic.Int64).Load()
	}
	return 0
}

// seen returns the requests with the method that have arrived so far, or all if it is "".
func (s *server) seen(method string) (all []*http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if method == "" || r.Method == method {
			all = append(all, r)
		}
	}
	return all
}

// notify sends a notification to each session by its GET stream.
func (s *server) notify(t *testing.T, n int) {
	t.Helper()
	for ss := range s.mcp.Sessions() {
		require.NoError(t, ss.NotifyProgress(t.Context(), &mcp.ProgressNotificationParams{ProgressToken: "free", Progress: float64(n)}))
	}
}

// waitForListener waits until n GET requests have arrived.
func (s *server) waitForListener(t *testing.T, n int) {
	t.Helper()
	testkit.Eventually(t, func() bool { return len(s.seen(http.MethodGet)) >= n }, "GET")
}

// dial opens a session that records its notifications of progress.
func dial(t *testing.T, s *server, hc *http.Client) (*session, *progress) {
	t.Helper()
	p := &progress{}
	c, err := open(t.Context(), hc, s.url, p.add)
	require.NoError(t, err)
	return c, p
}

// retrySoon makes t wait for no more than a few milliseconds.
func retrySoon(t *transport, hc *http.Client) {
	t.client = client.Install(hc, client.Config{
		MaxReconnectionAttempts: 50,
		ReconnectionTime:        time.Millisecond,
		MaxBackoff:              10 * time.Millisecond,
		Logger:                  slog.New(slog.DiscardHandler),
		OnRequest:               t.prepare,
		OnOpen:                  func(r *http.Response) { t.setSession(r.Header) },
		OnFailure:               retryGET,
	})
}

// progress records notifications of progress by their tokens.
type progress struct {
	mu  sync.Mutex
	all map[string][]int
}

func (p *progress) add(method string, params json.RawMessage) {
	var v mcp.ProgressNotificationParams
	if method != "notifications/progress" || json.Unmarshal(params, &v) != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil {
		p.all = map[string][]int{}
	}
	token := fmt.Sprint(v.ProgressToken)
	p.all[token] = append(p.all[token], int(v.Progress))
}

func (p *progress) of(token string) []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.all[token])
}

// count calls the tool count. Its notifications have its name as their token.
func count(ctx context.Context, c *session, args countArgs) (text string, err error) {
	var result struct{ Content []struct{ Text string } }
	err = c.call(ctx, "tools/call", map[string]any{
		"name": "count", "arguments": args, "_meta": map[string]any{"progressToken": args.Name},
	}, &result)
	if err == nil && len(result.Content) == 1 {
		text = result.Content[0].Text
	}
	return text, err
}

// upTo returns 0, 1, ... n-1.
func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// cutter is an http.RoundTripper whose event streams break off after their first event and
// between 1 and limit bytes more. The connection is closed then.
type cutter struct {
	limit int
	cuts  atomic.Int64
}

func (c *cutter) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && resp.Header.Get("Content-Type") == "text/event-stream" {
		resp.Body = &cutBody{ReadCloser: resp.Body, cutter: c, left: 1 + rand.IntN(c.limit)}
	}
	return resp, err
}

type cutBody struct {
	io.ReadCloser
	cutter *cutter
	first  []byte // what was read, until the first event is complete
	begun  bool
	left   int
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.begun && b.left <= 0 {
		b.cutter.cuts.Add(1)
		_ = b.Close()
		return 0, io.ErrUnexpectedEOF
	}
	if !b.begun {
		n, err := b.ReadCloser.Read(p[:1])
		b.first = append(b.first, p[:n]...)
		// The GET stream begins with a comment, which is no event.
		b.begun = bytes.HasSuffix(b.first, []byte("\n\n")) && bytes.Contains(b.first, []byte("id: "))
		return n, err
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
