package sse_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
	"github.com/chi-sse/sse/internal/testkit"
)

// chi takes route contexts from a pool and uses them again for other requests.
func TestRouteParametersOfCallOutliveTheHandler(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	type kept struct {
		s    *sse.ServerSession
		want string
	}
	keep := make(chan kept, 10_000)
	r.Route("/rooms/{room}", func(r chi.Router) {
		sse.From(r).SSE("/members/{member}", func(s *sse.ServerSession) error {
			keep <- kept{s, chi.URLParam(s.Call(), "room") + "/" + chi.URLParam(s.Call(), "member")}
			return nil
		})
	})
	r.Get("/other/{room}/{member}/{more}", plain)
	r.Get("/*", plain)

	check := func(k kept) {
		got := chi.URLParam(k.s.Call(), "room") + "/" + chi.URLParamFromCtx(k.s.Context(), "member")
		assert.Equal(t, k.want, got)
		assert.Equal(t, k.want, k.s.Call().PathValue("room")+"/"+k.s.Call().PathValue("member"))
		assert.Equal(t, "/rooms/{room}/members/{member}", chi.RouteContext(k.s.Context()).RoutePattern())
		assert.Empty(t, chi.RouteContext(k.s.Context()).URLParam("more"))
	}
	var clients, readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for k := range keep {
				for range 3 {
					check(k)
				}
			}
		})
	}
	for c := range 4 {
		clients.Go(func() {
			for i := range 300 {
				path := fmt.Sprintf("/rooms/r%d-%d/members/m%d", c, i, i)
				assert.Equal(t, http.StatusOK, record(r, "GET", path).Code)
				assert.Equal(t, "plain", record(r, "GET", fmt.Sprintf("/other/x%d/y/z", i)).Body.String())
				assert.Equal(t, "plain", record(r, "GET", "/what/ever").Body.String())
			}
		})
	}
	clients.Wait()
	close(keep)
	readers.Wait()
}

type tenantKey struct{}

// chi uses its route context again for the next request, and net/http does the same with its
// buffers. Neither may show in what Call returns.
func TestDetachCallStaysValid(t *testing.T) {
	t.Parallel()
	d := newDetachServer(t, overTCP, sse.Config{}, func(d *detachServer) {
		d.Use(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), tenantKey{}, r.URL.Query().Get("t")), time.Hour)
				defer cancel()
				next.ServeHTTP(w, r.WithContext(ctx))
			})
		})
		d.Get("/plain/{a}/{b}/{c}", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, chi.URLParam(r, "a")+chi.URLParam(r, "c"))
		})
	})
	const n = 30
	var all []*detached
	byID := make(map[*detached]int)
	for i := range n {
		w := overTCP.ask(t, d.srv, fmt.Sprintf("GET /a%d/b%d?t=t%d HTTP/1.1\r\nHost: h%d\r\nLast-Event-ID: %d\r\nX-My: x%d\r\nCookie: c=%d\r\n\r\n", i, i, i, i, i, i, i))
		w.head()
		w.expect(chunk(openFrame))
		s := testkit.Receive(t, d.sessions)
		testkit.Receive(t, s.returned)
		byID[s] = i
		all = append(all, s)
	}
	check := func(s *detached, i int) {
		r := s.Call()
		assert.Equal(t, fmt.Sprint("a", i), chi.URLParam(r, "a"))
		assert.Equal(t, fmt.Sprint("b", i), chi.URLParam(r, "b"))
		assert.Equal(t, fmt.Sprint("b", i), chi.URLParamFromCtx(s.Context(), "b"))
		assert.Equal(t, "/{a}/{b}", chi.RouteContext(r.Context()).RoutePattern())
		assert.Nil(t, s.Context().Value(tenantKey{}), "a detached session has no values of the request's context")
		assert.Equal(t, fmt.Sprintf("/a%d/b%d", i, i), r.URL.Path)
		assert.Equal(t, fmt.Sprint("h", i), r.Host)
		assert.Equal(t, fmt.Sprint("x", i), r.Header.Get("X-My"))
		assert.Equal(t, strconv.Itoa(i), s.LastEventID())
		assert.Equal(t, http.MethodGet, r.Method)
		assert.Equal(t, "HTTP/1.1", r.Proto)
		assert.NotEmpty(t, r.RemoteAddr)
		assert.Equal(t, fmt.Sprintf("t=t%d", i), r.URL.RawQuery)
		assert.Equal(t, fmt.Sprintf("/a%d/b%d?t=t%d", i, i, i), r.RequestURI)
		cookie, err := r.Cookie("c")
		testkit.NoError(t, err)
		assert.Equal(t, strconv.Itoa(i), cookie.Value)
		b, err := io.ReadAll(r.Clone(context.Background()).Body)
		testkit.NoError(t, err)
		assert.Empty(t, b)
		assert.Empty(t, s.Header(), "a detached session has no header")
		s.Header().Set("X", "of no effect")
		_, hasDeadline := s.Context().Deadline()
		assert.False(t, hasDeadline)
		testkit.NoError(t, s.Context().Err())
		assert.Equal(t, s.Context(), r.Context())
		assert.Equal(t, s.Context().Done(), s.Done())
	}
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for i := range 100 {
				a := get(t, d.srv, fmt.Sprintf("/plain/q%d/r/s%d", i, i))
				assert.Equal(t, fmt.Sprintf("q%ds%d", i, i), a.Body)
			}
		})
	}
	work.Go(func() {
		for range 10 {
			for _, s := range all {
				check(s, byID[s])
			}
		}
	})
	work.Wait()
	for i, s := range all {
		check(s, i)
		require.NoError(t, s.Close())
	}
	for i, s := range all {
		require.Equal(t, sse.ErrClosed, testkit.Receive(t, s.owner.ended))
		testkit.Receive(t, d.ends)
		require.Equal(t, fmt.Sprint("a", i), chi.URLParam(s.Call(), "a"), "after the end")
		require.Empty(t, s.Header())
		require.NotPanics(t, func() { s.Header().Set("X", "of no effect") })
	}
}

// Other goroutines may call Call at any time, even while the handler returns.
func TestDetachCallWhileTheHandlerReturns(t *testing.T) {
	t.Parallel()
	d := newDetachServer(t, overTCP, sse.Config{}, func(d *detachServer) { d.Post("/", d.SSEHandler(d.handler).ServeHTTP) })
	for range 20 {
		w := overTCP.ask(t, d.srv, "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody")
		w.head()
		w.expect(chunk(openFrame))
		s := testkit.Receive(t, d.sessions)
		for done := false; !done; {
			select {
			case <-s.returned:
				done = true
			default:
			}
			require.Equal(t, http.MethodPost, s.Call().WithContext(t.Context()).Method)
			require.NotNil(t, s.Call().Body)
		}
	}
}

// Call returns the same request before and after the session has packed it.
func TestDetachPackedCall(t *testing.T) {
	t.Parallel()
	type view struct {
		Method, URL, Path, RawPath, Query, Proto, Host, RequestURI, RemoteAddr, LastEventID, A, B, Pattern, RouteMethod string

		Major, Minor int
		Header       http.Header
		TLS          bool
	}
	look := func(s *sse.ServerSession) view {
		r := s.Call()
		rctx := chi.RouteContext(r.Context())
		return view{
			r.Method, r.URL.String(), r.URL.Path, r.URL.RawPath, r.URL.RawQuery, r.Proto, r.Host, r.RequestURI, r.RemoteAddr, s.LastEventID(),
			chi.URLParam(r, "a"), chi.URLParam(r, "b"), rctx.RoutePattern(), rctx.RouteMethod,
			r.ProtoMajor, r.ProtoMinor, r.Header, r.TLS != nil && r.TLS.HandshakeComplete,
		}
	}
	for name, request := range map[string]string{
		"plain":          "GET /x/y HTTP/1.1\r\nHost: test\r\n\r\n",
		"HTTP/1.0":       "GET /x/y HTTP/1.0\r\n\r\n",
		"query":          "GET /x/y?a=1&a=2&b=%00%20+ HTTP/1.1\r\nHost: test\r\n\r\n",
		"escaped":        "GET /x%2Fx/%C3%A9%20y HTTP/1.1\r\nHost: test\r\n\r\n",
		"odd":            "GET /x:%21//y HTTP/1.1\r\nHost: test\r\n\r\n",
		"absolute":       "GET http://other:1/x/y?z HTTP/1.1\r\nHost: test\r\n\r\n",
		"many headers":   "GET /x/y HTTP/1.1\r\nHost: test\r\nX-A: 1\r\nx-a: 2\r\nX-B:\r\nX-A: 3\r\nCookie: a=b; c=d\r\n\r\n",
		"last event id":  "GET /x/y HTTP/1.1\r\nHost: test\r\nLast-Event-ID: \xc3\xa9 7\r\n\r\n",
		"with encodings": "GET /x/y HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip, br\r\n\r\n",
		"a body":         "POST /post HTTP/1.1\r\nHost: test\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody",
	} {
		for _, tr := range transports {
			t.Run(name+" over "+tr.name, func(t *testing.T) {
				t.Parallel()
				views := make(chan view, 3)
				r := newRouter(sse.Config{})
				r.Use(func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tenantKey{}, "t")))
					})
				})
				goOn := make(chan struct{})
				stop := sync.OnceFunc(func() { close(goOn) })
				t.Cleanup(stop)
				h := func(s *sse.ServerSession) error {
					views <- look(s)
					engine.Of(s).Pack()
					engine.Of(s).Pack()
					views <- look(s)
					one, other := s.Call(), s.Call()
					assert.NotSame(t, one, other)
					assert.Equal(t, "t", s.Context().Value(tenantKey{}), "the session is not detached")
					assert.Equal(t, "t", s.Call().Context().Value(tenantKey{}))
					s.Call().Header.Set("X", "of no effect")
					s.Call().URL.Path = "likewise"
					chi.RouteContext(s.Context()).URLParams.Add("a", "likewise")
					testkit.NoError(t, s.SendData("open"))
					views <- look(s)
					<-goOn
					return nil
				}
				r.SSE("/{a}/{b}", h)
				r.SSE("/x:!//{b}", h)
				r.SSE("/post", h, sse.WithMethods(http.MethodPost))
				srv := serve(t, r, tr.setup)
				tr.ask(t, srv, request)
				before := testkit.Receive(t, views)
				require.Equal(t, tr.tls, before.TLS)
				require.Equal(t, before, testkit.Receive(t, views))
				require.Equal(t, before, testkit.Receive(t, views))
				stop()
			})
		}
	}
}

// Call returns the request as the handler saw it, byte for byte, also when the session has packed
// it.
func TestPackedCallIsTheRequest(t *testing.T) {
	t.Parallel()
	type view struct {
		Request *http.Request
		User    string
		Values  [3]string
		Params  chi.RouteParams
		Routes  []string
	}
	look := func(s *sse.ServerSession) view {
		r := s.Call()
		v := view{User: r.URL.User.String(), Values: [3]string{r.PathValue("name"), r.PathValue("*"), r.PathValue("id")}}
		if rctx := chi.RouteContext(r.Context()); rctx != nil {
			v.Params, v.Routes = rctx.URLParams, rctx.RoutePatterns
		}
		u := *r.URL
		u.User = nil
		v.Request = &http.Request{
			Method: r.Method, URL: &u, Proto: r.Proto, ProtoMajor: r.ProtoMajor, ProtoMinor: r.ProtoMinor, Header: r.Header,
			ContentLength: r.ContentLength, TransferEncoding: r.TransferEncoding, Close: r.Close, Host: r.Host,
			RemoteAddr: r.RemoteAddr, RequestURI: r.RequestURI, Pattern: r.Pattern,
		}
		return v
	}
	views := make(chan [2]view, 1)
	handler := func(s *sse.ServerSession) error {
		before := look(s)
		engine.Of(s).Pack()
		views <- [2]view{before, look(s)}
		return nil
	}
	r := newRouter(sse.Config{})
	r.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header["X-Bytes"] = []string{"", "a\x00b", "\xff"}
			r.Header["X-Empty"] = nil
			next.ServeHTTP(w, r)
		})
	})
	r.SSE("/u/{name}", handler)
	r.SSE("/u/{name}/*", handler)
	r.Method(http.MethodPost, "/u/{name}", r.SSEHandler(handler))
	mux := http.NewServeMux()
	mux.Handle("/", r)
	mux.Handle("GET /mux/{id}/{rest...}", r.SSEHandler(handler))
	srv := serve(t, mux)
	for _, head := range []string{
		"GET /u/alice%00 HTTP/1.1", "GET /u/alice%2F%00/x%2fy/%FF?a=%00&&b HTTP/1.1", "GET /u/a? HTTP/1.0",
		"GET http://user:pass@example.com/u/a HTTP/1.1", "GET http://user@example.com/u/a HTTP/1.1",
		"POST /u/a HTTP/1.1\r\nTransfer-Encoding: chunked", "GET /mux/7/8 HTTP/1.1\r\nConnection: close",
	} {
		conn := testkit.Dial(t, srv)
		_, err := io.WriteString(conn, head+"\r\nHost: test\r\nX-My: 1\r\nX-My: 2\r\n\r\n")
		require.NoError(t, err)
		v := testkit.Receive(t, views)
		require.NotEmpty(t, v[0].Request.Pattern)
		require.Equal(t, v[0], v[1], head)
		if strings.HasPrefix(head, "GET /u/alice%00 ") {
			require.Equal(t, "alice\x00", v[1].Values[0])
			require.Equal(t, "/u/{name}", v[1].Request.Pattern)
		}
		conn.Close()
	}
}
