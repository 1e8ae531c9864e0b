package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/client"
)

// patience is how long a test waits for something that must happen.
const patience = 20 * time.Second

// server is the program without its command line, in the test's process.
type server struct {
	t       *testing.T
	url     string
	app     *app
	streams *sse.Plugin
	opened  atomic.Int64 // requests for streams
	asked   atomic.Int64 // preflight requests
}

// newTestApp returns an app with a new file.
func newTestApp(t *testing.T, o options) *app {
	t.Helper()
	o.file = filepath.Join(t.TempDir(), "users.db")
	if o.lifetime == 0 {
		o.lifetime = time.Hour
	}
	if o.recheck == 0 {
		o.recheck = time.Hour
	}
	a, err := newApp(t.Context(), o)
	require.NoError(t, err)
	return a
}

// start starts a server, of the listener if there is one. The end of the test stops it.
func start(t *testing.T, o options, listener ...net.Listener) *server {
	t.Helper()
	a := newTestApp(t, o)
	r := a.routes()
	s := &server{t: t, app: a, streams: r.Plugin()}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/events" {
			s.opened.Add(1)
		}
		if req.Method == http.MethodOptions {
			s.asked.Add(1)
		}
		r.ServeHTTP(w, req)
	}))
	for _, l := range listener {
		require.NoError(t, srv.Listener.Close())
		srv.Listener = l
	}
	r.Plugin().Attach(srv.Config)
	srv.Start()
	s.url = srv.URL
	t.Cleanup(func() {
		require.NoError(t, r.Plugin().Shutdown(context.Background()))
		srv.Close()
		require.NoError(t, a.hub.Shutdown(context.Background()))
		require.NoError(t, a.store.close())
	})
	return s
}

// visitor is a browser without pages: it has cookies.
type visitor struct {
	t    *testing.T
	url  string
	http *http.Client
}

// visitor returns a browser in which a user has logged in.
func (s *server) visitor(name string) *visitor {
	s.t.Helper()
	return newVisitor(s.t, s.url, name, http.DefaultTransport)
}

func newVisitor(t *testing.T, server, name string, transport http.RoundTripper) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	v := &visitor{t, server, &http.Client{Jar: jar, Transport: transport}}
	require.Equal(t, http.StatusNoContent, v.post("/login", url.Values{"name": {name}}))
	return v
}

// post returns the status of the answer.
func (v *visitor) post(path string, form url.Values) int {
	v.t.Helper()
	resp, err := v.http.PostForm(v.url+path, form)
	require.NoError(v.t, err)
	require.NoError(v.t, resp.Body.Close())
	return resp.StatusCode
}

func (v *visitor) note(text string) {
	v.t.Helper()
	require.Equal(v.t, http.StatusNoContent, v.post("/notes", url.Values{"text": {text}}))
}

// tab is a client that reads a stream, and reconnects until it is refused.
type tab struct {
	t       *testing.T
	events  chan client.Event
	ended   chan error // the result, once it has ended
	session *client.Session
}

// open opens a stream.
func (v *visitor) open() *tab {
	v.t.Helper()
	b := v.reopen()
	require.NotNil(v.t, b.session, "the stream must open")
	return b
}

// reopen opens a stream if the server allows it.
func (v *visitor) reopen() *tab {
	v.t.Helper()
	b := &tab{t: v.t, events: make(chan client.Event, 100), ended: make(chan error, 1)}
	reader := client.Install(v.http, client.Config{MaxReconnectionAttempts: client.Unlimited})
	session, err := reader.Session(v.t.Context(), v.url+"/events")
	if err != nil {
		b.ended <- err
		return b
	}
	b.session = session
	go func() {
		var result error
		for ev, err := range session.Incoming() {
			if result = err; err == nil {
				b.events <- ev
			}
		}
		b.ended <- result
	}()
	return b
}

// expect asserts that the next event is this one.
func (b *tab) expect(name, data string) {
	b.t.Helper()
	select {
	case ev := <-b.events:
		require.Equal(b.t, []string{name, data}, []string{ev.Name, ev.Data})
	case <-time.After(patience):
		require.Fail(b.t, "no event has come")
	}
}

// refused asserts that the server has refused the client at last, with this status, and has sent
// no other events.
func (b *tab) refused(status int) {
	b.t.Helper()
	select {
	case err := <-b.ended:
		refused, ok := errors.AsType[*client.StatusError](err)
		require.True(b.t, ok, "%v", err)
		require.Equal(b.t, status, refused.Status)
	case <-time.After(patience):
		require.Fail(b.t, "the stream goes on")
	}
	require.Empty(b.t, b.events)
}

// gate is app.find with a stop in it.
type gate struct {
	mu      sync.Mutex
	calls   int
	entered chan struct{}
	leave   chan struct{}
}

// stopAt makes the nth call of a.find stop before or after it has looked.
func stopAt(a *app, nth int, after bool) *gate {
	g := &gate{entered: make(chan struct{}), leave: make(chan struct{})}
	find := a.find
	a.find = func(ctx context.Context, token string) (login, error) {
		g.mu.Lock()
		g.calls++
		stops := g.calls == nth
		g.mu.Unlock()
		if !stops {
			return find(ctx, token)
		}
		var l login
		var err error
		if after {
			l, err = find(ctx, token)
		}
		close(g.entered)
		<-g.leave
		if !after {
			l, err = find(ctx, token)
		}
		return l, err
	}
	return g
}
