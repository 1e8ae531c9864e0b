package sse_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

// streamOf is a plain handler that streams by h.
func streamOf(h sse.Handler, opts ...sse.RouteOption) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { sse.Serve(w, r, h, opts...) }
}

func TestServeInAServeMux(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			mux := http.NewServeMux()
			ends := make(chan error, 1)
			mux.HandleFunc("GET /rooms/{room}", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Room", r.PathValue("room"))
				sse.Serve(w, r, func(s *sse.ServerSession) error {
					if err := s.SendData(s.Call().PathValue("room")); err != nil {
						return err
					}
					<-s.Done()
					ends <- context.Cause(s.Context())
					return nil
				})
			})
			mux.HandleFunc("POST /chat", func(w http.ResponseWriter, r *http.Request) {
				question, err := io.ReadAll(r.Body)
				testkit.NoError(t, err)
				if len(question) == 0 {
					http.Error(w, "ask something", http.StatusBadRequest)
					return
				}
				sse.Serve(w, r, func(s *sse.ServerSession) error {
					if string(question) == "who?" {
						return sse.Error(http.StatusNotFound, errOwn)
					}
					return errors.Join(s.SendData("you said "+string(question)), s.SendData("bye"))
				})
			})
			mux.HandleFunc("/broken", streamOf(func(s *sse.ServerSession) error { return errors.Join(s.SendData("first"), errOwn) }))
			srv := serve(t, mux, proto.Setup)

			s := connect(t, srv, "/rooms/blue")
			require.Equal(t, "blue", s.Header.Get("Room"))
			require.Equal(t, "blue", s.nextData())
			s.leave()
			require.ErrorIs(t, testkit.Receive(t, ends), sse.ErrClientGone)

			post := func(body string) answer {
				resp, err := srv.Client().Post(srv.URL+"/chat", "text/plain", strings.NewReader(body))
				require.NoError(t, err)
				return readAnswer(resp)
			}
			a := post("hi")
			require.NoError(t, a.Err)
			require.Equal(t, "data: you said hi\n\ndata: bye\n\n", a.Body)
			require.Equal(t, http.StatusBadRequest, post("").Status)
			require.Equal(t, http.StatusNotFound, post("who?").Status)
			require.Equal(t, http.StatusOK, request(t, srv, http.MethodHead, "/rooms/blue").Status)

			a = get(t, srv, "/broken")
			require.Error(t, a.Err, "a broken stream must not look complete")
		})
	}
}

// The session belongs to the innermost plugin around, or else to that of the server.
func TestServeChoosesThePlugin(t *testing.T) {
	t.Parallel()
	type plugins struct{ around, nested, attached *sse.Plugin }
	for name, tt := range map[string]struct {
		path     string
		attached bool
		want     func(plugins) *sse.Plugin
	}{
		"around":               {"/around", false, func(p plugins) *sse.Plugin { return p.around }},
		"around, and attached": {"/around", true, func(p plugins) *sse.Plugin { return p.around }},
		"nested":               {"/around/nested", true, func(p plugins) *sse.Plugin { return p.nested }},
		"after a nested one":   {"/around/after", true, func(p plugins) *sse.Plugin { return p.around }},
		"attached":             {"/outside", true, func(p plugins) *sse.Plugin { return p.attached }},
		"none":                 {"/outside", false, func(plugins) *sse.Plugin { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			var p plugins
			var got []*sse.Plugin
			h := streamOf(func(s *sse.ServerSession) error {
				for _, p := range []*sse.Plugin{p.around, p.nested, p.attached} {
					if p.Len() > 0 {
						got = append(got, p)
					}
				}
				return s.Open()
			})
			around, nested, attached := newRouter(sse.Config{}), newRouter(sse.Config{}), newRouter(sse.Config{})
			p = plugins{around.Plugin(), nested.Plugin(), attached.Plugin()}
			nested.Get("/", h)
			nested.Get("/none", plain)
			around.Get("/", h)
			around.Get("/after", func(w http.ResponseWriter, r *http.Request) {
				r2 := r.Clone(context.WithValue(r.Context(), chi.RouteCtxKey, chi.NewRouteContext()))
				r2.URL.Path = "/none"
				nested.ServeHTTP(httptest.NewRecorder(), r2)
				h(w, r)
			})
			around.Mount("/nested", nested)
			mux := http.NewServeMux()
			mux.Handle("/around/", http.StripPrefix("/around", around))
			mux.Handle("/around", http.StripPrefix("/around", around))
			mux.Handle("/outside", h)
			srv := serve(t, mux, func(srv *httptest.Server) {
				if tt.attached {
					attached.Plugin().Attach(srv.Config)
				}
			})
			require.Equal(t, ": open\n\n", get(t, srv, tt.path).Body)
			if want := tt.want(p); want == nil {
				require.Empty(t, got)
			} else {
				require.Equal(t, []*sse.Plugin{want}, got)
			}
		})
	}
}

func TestServeTakesOptionsForOneSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(sse.Config{Retry: time.Second})
		r.Get("/own", streamOf(func(s *sse.ServerSession) error {
			time.Sleep(time.Second)
			return s.SendData(struct{ A int }{7})
		}, sse.WithSerializer(fields), sse.WithRetry(2*time.Second), sse.WithOpenDelay(time.Millisecond),
			sse.WithHeartbeat(sse.Heartbeat{Period: 300 * time.Millisecond}), sse.WithWriteTimeout(time.Second)))
		r.Get("/aged", streamOf(untilDone, sse.WithMaxAge(time.Minute)))
		r.Get("/default", streamOf(func(s *sse.ServerSession) error { return s.SendData(struct{ A int }{7}) }))
		r.Post("/post", streamOf(func(*sse.ServerSession) error {
			time.Sleep(time.Hour)
			return sse.Error(http.StatusBadGateway, errOwn)
		}))
		require.Equal(t, "retry: 2000\n\n: open\n\n: heartbeat\n\n: heartbeat\n\n: heartbeat\n\ndata: struct { A int } {A:7}\n\n", record(r, http.MethodGet, "/own").Body.String())
		require.Regexp(t, "^retry: 1000\n\ndata: open\n\n(: heartbeat\n\n)+retry: 1\\d\\d\\d\n\n$", record(r, http.MethodGet, "/aged").Body.String())
		require.Equal(t, "retry: 1000\n\ndata: {\"A\":7}\n\n", record(r, http.MethodGet, "/default").Body.String(), "options are for one call")
		require.Equal(t, http.StatusBadGateway, record(r, http.MethodPost, "/post").Code)
	})
}

func TestServeMisusePanicsWithAdvice(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	byUser := func(*http.Request) string { return "ann" }
	check := func(*sse.ServerSession) error { return nil }
	for name, opt := range map[string]sse.RouteOption{
		"WithSessionLimit":     sse.WithSessionLimit(1),
		"WithSessionLimitBy":   sse.WithSessionLimitBy(1, byUser),
		"WithNewestSessionsBy": sse.WithNewestSessionsBy(1, byUser),
		"WithOpenRate":         sse.WithOpenRate(1, time.Second),
		"WithRecheck":          sse.WithRecheck(time.Second, check),
		"WithMethods":          sse.WithMethods(http.MethodPost),
	} {
		for _, inside := range []bool{false, true} {
			var h http.Handler = streamOf(where, opt)
			if inside {
				r.Handle("/"+name, h)
				h = r
			}
			text := panicOf(t, func() { record(h, http.MethodGet, "/"+name) })
			require.Contains(t, text, "sse: "+name+" has no effect in Serve", name)
			require.Contains(t, text, "SSEHandler", name)
		}
	}
	require.Equal(t, "sse: Serve without a handler", panicOf(t, func() { record(streamOf(nil), http.MethodGet, "/") }))
}

// http.Server.Shutdown ends the sessions of its own server, in order, and no others.
func TestServeEndsWithTheServer(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			srv, other := serve(t, streamOf(untilDone), proto.Setup), serve(t, streamOf(untilDone), proto.Setup)
			s, stays := connect(t, srv, "/"), connect(t, other, "/")
			require.Equal(t, "open", s.nextData())
			require.Equal(t, "open", stays.nextData())
			done := make(chan error, 1)
			go func() { done <- srv.Config.Shutdown(t.Context()) }()
			require.Positive(t, s.next().Retry)
			s.end()
			require.NoError(t, testkit.Receive(t, done))
			again := connect(t, other, "/")
			require.Equal(t, "open", again.nextData(), "the other server goes on")
			again.leave()
			stays.leave()
		})
	}
}

// ListenAndServe gives the plain handlers of a server a plugin, with a Config, and ends their
// sessions.
func TestServeWithListenAndServe(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	cfg := sse.Config{Retry: 7 * time.Second, ShutdownSpread: -1}
	ends := endsOf(&cfg)
	r := newRouter(cfg)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /plain", streamOf(untilDone))
	mux.Handle("GET /limited", r.SSEHandler(untilDone, sse.WithSessionLimit(1)))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- sse.ListenAndServe(ctx, &http.Server{Handler: mux}, r, sse.WithListener(l)) }()
	open := func(path string) *http.Response {
		resp, err := http.DefaultClient.Do(newRequest(t, http.MethodGet, "http://"+l.Addr().String()+path))
		require.NoError(t, err)
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	first, second := open("/plain"), open("/limited")
	for _, resp := range []*http.Response{first, second} {
		s := newStream(t, resp, func() {})
		require.Equal(t, sse.Event{Retry: 7 * time.Second}, s.next())
		require.Equal(t, "open", s.next().Data)
	}
	require.Equal(t, http.StatusServiceUnavailable, open("/limited").StatusCode)
	require.Equal(t, 2, r.Plugin().Len())
	stop()
	for _, resp := range []*http.Response{first, second} {
		a := readAnswer(resp)
		require.NoError(t, a.Err)
	}
	require.NoError(t, testkit.Receive(t, done))
	for range 2 {
		require.Equal(t, sse.EndShutdown, testkit.Receive(t, ends).Reason)
	}
}

// What is around a plain handler without a plugin either lets the stream pass, or the client learns
// that it does not.
func TestServeBehindMiddlewareWithoutAPlugin(t *testing.T) {
	t.Parallel()
	setsEncoding := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			next.ServeHTTP(w, r)
		})
	}
	for name, tt := range map[string]struct {
		mw     func(http.Handler) http.Handler
		status int
		body   string
	}{
		"Compress":       {middleware.Compress(5, "text/event-stream"), http.StatusOK, ""},
		"Timeout":        {middleware.Timeout(time.Nanosecond), http.StatusOK, ""},
		"Recoverer":      {middleware.Recoverer, http.StatusOK, ""},
		"TimeoutHandler": {func(h http.Handler) http.Handler { return http.TimeoutHandler(h, time.Hour, "") }, http.StatusInternalServerError, "timeoutWriter"},
		"an encoding":    {setsEncoding, http.StatusInternalServerError, "keep it off the paths of streams"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := tt.mw(streamOf(func(s *sse.ServerSession) error {
				if err := s.SendData("first"); err != nil {
					return err
				}
				time.Sleep(10 * time.Millisecond) // the deadline passes
				return s.SendData("second")
			}))
			srv := serve(t, h)
			a := get(t, srv, "/", "Accept-Encoding", "gzip")
			require.NoError(t, a.Err)
			require.Equal(t, tt.status, a.Status)
			if tt.status == http.StatusOK {
				require.Equal(t, "data: first\n\ndata: second\n\n", a.Body)
			} else {
				require.Contains(t, a.Body, tt.body)
			}
		})
	}
}
