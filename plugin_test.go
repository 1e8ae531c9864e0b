package sse_test

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

func TestRoutePluginOnASubRouterOfAPlainOne(t *testing.T) {
	t.Parallel()
	sub := newRouter(sse.Config{})
	sub.Use(reportIsStream, middleware.Compress(5))
	sub.SSE("/events/{id}", where)
	sub.SSE("", where)
	sub.Get("/page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, strings.Repeat("page ", 1000))
	})
	r := chi.NewRouter()
	r.Use(middleware.RequestID)
	r.Get("/", plain)
	r.Mount("/{tenant}/api", sub)
	srv := serve(t, r)

	for path, want := range map[string]string{
		"/acme/api/events/7": "/{tenant}/api/events/{id} tenant=acme id=7",
		"/acme/api":          "/{tenant}/api tenant=acme",
		"/acme/api/":         "/{tenant}/api tenant=acme",
	} {
		a := get(t, srv, path, "Accept-Encoding", "gzip")
		require.Equal(t, "data: "+want+"\n\n", a.Body, path)
		require.Equal(t, "true", a.Header.Get("Is-Stream"), path)
		require.NotContains(t, a.Header, "Content-Encoding", path)
	}
	a := get(t, srv, "/acme/api/page", "Accept-Encoding", "gzip")
	require.Equal(t, "false", a.Header.Get("Is-Stream"))
	require.Equal(t, "gzip", a.Header.Get("Content-Encoding"))
	require.Equal(t, "plain", get(t, srv, "/").Body)
}

func TestRouteTwoPluginsSideBySide(t *testing.T) {
	t.Parallel()
	a, b := newRouter(sse.Config{Retry: time.Second}), newRouter(sse.Config{Retry: 2 * time.Second})
	for _, r := range []*sse.Router{a, b} {
		r.Use(reportIsStream)
		r.SSE("/events", untilDone)
		r.Get("/plain", plain)
	}
	r := chi.NewRouter()
	r.Mount("/a", a)
	r.Mount("/b", b)
	srv := serve(t, r)

	sa, sb := connect(t, srv, "/a/events"), connect(t, srv, "/b/events")
	require.Equal(t, time.Second, sa.next().Retry)
	require.Equal(t, 2*time.Second, sb.next().Retry)
	for _, s := range []*stream{sa, sb} {
		require.Equal(t, "true", s.Header.Get("Is-Stream"))
		require.Equal(t, "open", s.next().Data)
	}
	require.Equal(t, 1, a.Plugin().Len())
	require.Equal(t, 1, b.Plugin().Len())
	require.Equal(t, "false", get(t, srv, "/b/plain").Header.Get("Is-Stream"))

	require.NoError(t, a.Plugin().Shutdown(t.Context()))
	require.NotZero(t, sa.next().Retry)
	sa.end()
	require.Equal(t, 1, b.Plugin().Len(), "the sessions of the other plugin go on")
	require.Equal(t, http.StatusServiceUnavailable, get(t, srv, "/a/events").Status)
	require.Equal(t, "open", connect(t, srv, "/b/events").nextData())
}

func TestRouteTwoPluginsOneInTheOther(t *testing.T) {
	t.Parallel()
	outer, inner := newRouter(sse.Config{}), newRouter(sse.Config{})
	inner.Use(reportIsStream)
	inner.SSE("/events", untilDone)
	inner.SSE("/{id}", where)
	inner.Get("/plain", plain)
	inner.Post("/function", inner.SSEHandler(where).ServeHTTP)
	outer.Use(reportIsStream, middleware.Compress(5))
	outer.SSE("/events", untilDone)
	outer.Mount("/inner", inner)
	srv := serve(t, outer)

	for path, isStream := range map[string]string{"/inner/7": "true", "/inner/plain": "false"} {
		a := get(t, srv, path, "Accept-Encoding", "gzip")
		require.Equal(t, []string{isStream, isStream}, a.Header["Is-Stream"], path)
	}
	a := request(t, srv, "POST", "/inner/function", "Accept-Encoding", "gzip")
	require.Equal(t, "data: /inner/function\n\n", a.Body)
	require.NotEqual(t, "gzip", a.Header.Get("Content-Encoding"))

	so, si := connect(t, srv, "/events"), connect(t, srv, "/inner/events")
	require.Equal(t, "open", so.nextData())
	require.Equal(t, "open", si.nextData())
	require.Equal(t, 1, outer.Plugin().Len())
	require.Equal(t, 1, inner.Plugin().Len(), "the inner plugin has the session")
	require.NoError(t, inner.Plugin().Shutdown(t.Context()))
	si.next()
	si.end()
	require.Equal(t, 1, outer.Plugin().Len())
}

// limitsOfThree are the settings that allow three sessions.
var limitsOfThree = map[string]struct {
	cfg     sse.Config
	options []sse.RouteOption
}{
	"of the plugin": {sse.Config{MaxSessions: 3}, nil},
	"of the route":  {sse.Config{}, []sse.RouteOption{sse.WithSessionLimit(3)}},
}

func TestSessionLimits(t *testing.T) {
	t.Parallel()
	for name, tt := range limitsOfThree {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRouter(tt.cfg)
			r.SSE("/", untilDone, tt.options...)
			r.SSE("/other", untilDone, tt.options...)
			srv := serve(t, r)
			p := r.Plugin()
			var streams []*stream
			for i := range 3 {
				s := connect(t, srv, "/")
				require.Equal(t, "open", s.nextData())
				streams = append(streams, s)
				require.Equal(t, i+1, p.Len())
			}
			requireRefused(t, srv, "/", "too many sessions")
			require.Equal(t, 3, p.Len())
			if tt.cfg.MaxSessions > 0 {
				requireRefused(t, srv, "/other", "too many sessions")
			} else {
				s := connect(t, srv, "/other")
				require.Equal(t, "open", s.nextData())
				require.Equal(t, 4, p.Len())
				s.leave()
			}

			streams[1].leave() // makes room for another session
			testkit.Eventually(t, func() bool { return p.Len() == 2 }, "the end of one session")
			s := connect(t, srv, "/")
			require.Equal(t, "open", s.nextData())
			requireRefused(t, srv, "/", "too many sessions")

			seen := make(map[*sse.ServerSession]bool)
			for s := range p.Sessions() {
				require.Equal(t, "/", s.Call().URL.Path)
				require.False(t, seen[s])
				seen[s] = true
			}
			require.Len(t, seen, 3)
			for s := range p.Sessions() {
				require.NoError(t, s.Close())
				break // one session is enough
			}
			testkit.Eventually(t, func() bool { return p.Len() == 2 }, "the end of the closed session")
			for _, s := range append(streams, s) {
				s.leave()
			}
			testkit.Eventually(t, func() bool { return p.Len() == 0 }, "the end of all sessions")
			require.Empty(t, slices.Collect(p.Sessions()))
			for range 3 {
				require.Equal(t, "open", connect(t, srv, "/").nextData(), "the count of sessions is still right")
			}
		})
	}
}

// A handler that fails or panics frees its place under the limit as well.
func TestSessionLimitCountsBrokenEnds(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{MaxSessions: 1})
	for name, tt := range brokenEnds {
		r.SSE("/open/"+strings.ReplaceAll(name, " ", "-"), func(s *sse.ServerSession) error { return errors.Join(s.Open(), tt.end(s)) })
		r.SSE("/pending/"+strings.ReplaceAll(name, " ", "-"), tt.end, sse.WithSessionLimit(1))
	}
	srv := serve(t, r)
	for range 3 {
		for name := range brokenEnds {
			for _, path := range []string{"/open/", "/pending/"} {
				resp, err := srv.Client().Do(newRequest(t, "GET", srv.URL+path+strings.ReplaceAll(name, " ", "-")))
				if err == nil {
					a := readAnswer(resp)
					require.NotEqual(t, http.StatusServiceUnavailable, a.Status)
				}
				testkit.Eventually(t, func() bool { return r.Plugin().Len() == 0 }, "the end of the session")
			}
		}
	}
}

func TestDetachSessionLimits(t *testing.T) {
	t.Parallel()
	for name, tt := range limitsOfThree {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDetachServer(t, overTCP, tt.cfg, func(d *detachServer) { d.SSE("/few", d.handler, tt.options...) })
			open := func() (*detached, *rawClient) {
				w := overTCP.ask(t, d.srv, "GET /few HTTP/1.1\r\nHost: test\r\n\r\n")
				require.Contains(t, w.head(), " 200 OK")
				s := testkit.Receive(t, d.sessions)
				testkit.Receive(t, s.returned)
				return s, w
			}
			refused := func() {
				t.Helper()
				w := overTCP.ask(t, d.srv, "GET /few HTTP/1.1\r\nHost: test\r\n\r\n")
				require.Equal(t, http.StatusServiceUnavailable, readStatus(t, w))
			}
			one, w := open()
			two, _ := open()
			three, _ := open()
			refused()
			w.Close()
			d.ended(one)
			four, _ := open()
			refused()
			require.NoError(t, two.Close())
			d.ended(two)
			five, _ := open()
			refused()
			require.Equal(t, 3, d.Plugin().Len())
			for _, s := range []*detached{three, four, five} {
				s.hub.End(errOwn)
				d.ended(s)
			}
			for range 3 {
				open()
			}
			refused()
		})
	}
}
