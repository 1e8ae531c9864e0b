package sse_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

type closeNotifier = http.CloseNotifier //nolint:staticcheck // deprecated, but in use

// optional has the optional interfaces that a writer may have.
type optional struct{}

func (optional) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, http.ErrHijacked }
func (optional) ReadFrom(io.Reader) (int64, error)            { return 42, nil }
func (optional) Push(string, *http.PushOptions) error         { return http.ErrNotSupported }
func (optional) CloseNotify() <-chan bool                     { return nil }

// abilities names the optional interfaces that w has.
func abilities(w http.ResponseWriter) (names []string) {
	_, hijacks := w.(http.Hijacker)
	_, reads := w.(io.ReaderFrom)
	_, pushes := w.(http.Pusher)
	_, notifies := w.(closeNotifier)
	for i, has := range []bool{hijacks, reads, pushes, notifies} {
		if has {
			names = append(names, [...]string{"Hijacker", "ReaderFrom", "Pusher", "CloseNotifier"}[i])
		}
	}
	return names
}

// An ordinary handler gets a writer with exactly the optional interfaces that the server's writer
// has, whatever combination that is.
func TestOrdinaryHandlersKeepEachCombinationOfInterfaces(t *testing.T) {
	t.Parallel()
	type (
		W = http.ResponseWriter
		H = http.Hijacker
		R = io.ReaderFrom
		P = http.Pusher
		C = closeNotifier
	)
	rec := httptest.NewRecorder()
	var o optional
	writers := []http.ResponseWriter{
		struct{ W }{rec},
		struct {
			W
			H
		}{rec, o},
		struct {
			W
			R
		}{rec, o},
		struct {
			W
			P
		}{rec, o},
		struct {
			W
			C
		}{rec, o},
		struct {
			W
			H
			R
		}{rec, o, o},
		struct {
			W
			H
			P
		}{rec, o, o},
		struct {
			W
			H
			C
		}{rec, o, o},
		struct {
			W
			R
			P
		}{rec, o, o},
		struct {
			W
			R
			C
		}{rec, o, o},
		struct {
			W
			P
			C
		}{rec, o, o},
		struct {
			W
			H
			R
			P
		}{rec, o, o, o},
		struct {
			W
			H
			R
			C
		}{rec, o, o, o},
		struct {
			W
			H
			P
			C
		}{rec, o, o, o},
		struct {
			W
			R
			P
			C
		}{rec, o, o, o},
		struct {
			W
			H
			R
			P
			C
		}{rec, o, o, o, o},
	}
	var got []string
	r := newRouter(sse.Config{})
	r.Get("/", func(w http.ResponseWriter, _ *http.Request) {
		got = abilities(w)
		if rf, ok := w.(io.ReaderFrom); ok {
			n, err := rf.ReadFrom(nil)
			testkit.NoError(t, err)
			got = append(got, fmt.Sprint(n))
		}
	})
	seen := make(map[string]bool)
	for _, w := range writers {
		want := abilities(w)
		seen[fmt.Sprint(want)] = true
		if _, ok := w.(io.ReaderFrom); ok {
			want = append(want, "42") // of the server's own ReadFrom
		}
		r.ServeHTTP(w, newRequest(t, http.MethodGet, "/"))
		require.Equal(t, want, got)
	}
	require.Len(t, seen, 1<<4, "a combination is missing from the test")
}

// An ordinary handler finds all methods that net/http's own writer has.
func TestOrdinaryHandlersKeepTheMethodsOfTheServersWriter(t *testing.T) {
	t.Parallel()
	methods := func(w http.ResponseWriter) (names []string) {
		for m := range reflect.TypeOf(w).Methods() {
			names = append(names, m.Name)
		}
		return names
	}
	var inside, outside []string
	r := newRouter(sse.Config{})
	r.Get("/", func(w http.ResponseWriter, _ *http.Request) { inside = methods(w) })
	for _, proto := range protocols {
		srv := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			outside = methods(w)
			r.ServeHTTP(w, req)
		}), proto.Setup)
		require.Equal(t, http.StatusOK, get(t, srv, "/").Status)
		require.Subset(t, inside, outside)
		require.Contains(t, outside, "CloseNotify")
		require.Equal(t, proto.Proto == "HTTP/1.1", slices.Contains(inside, "Hijack"))
	}
}

// What the guard adds to an ordinary response is nothing: each of these reaches net/http.
func TestOrdinaryHandlersUseTheServersWriter(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Get("/function", r.SSEHandler(where).ServeHTTP)
	r.Get("/hijack", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if testkit.NoError(t, err) {
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhijacked")
		}
	})
	r.Get("/copy", func(w http.ResponseWriter, _ *http.Request) {
		_, err := io.Copy(w, io.LimitReader(strings.NewReader("copied and more"), 6))
		testkit.NoError(t, err)
	})
	r.Get("/status", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, "created")
	})
	for _, proto := range protocols {
		srv := serve(t, r, proto.Setup)
		require.Equal(t, "copied", get(t, srv, "/copy").Body)
		a := get(t, srv, "/status")
		require.Equal(t, http.StatusCreated, a.Status)
		require.Equal(t, "created", a.Body)
		require.Equal(t, "data: /function\n\n", get(t, srv, "/function").Body)
		if proto.Proto == "HTTP/1.1" {
			require.Equal(t, "hijacked", get(t, srv, "/hijack").Body)
		}
	}
}

// A handler that waits for CloseNotify, as gin's Context.Stream does, learns that its client has
// left.
func TestOrdinaryHandlersAreToldOfAClientThatLeaves(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		left := make(chan bool, 1)
		r := newRouter(sse.Config{})
		r.Get("/", func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			left <- <-w.(closeNotifier).CloseNotify()
		})
		s := dial(t, serve(t, r, proto.Setup), "/")
		s.leave()
		require.True(t, testkit.Receive(t, left))
	}
}

// Both ends of a full-duplex request may be used at once.
func TestOrdinaryHandlersCanUseFullDuplex(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Post("/", func(w http.ResponseWriter, _ *http.Request) {
		duplex, ok := w.(interface{ EnableFullDuplex() error })
		if ok {
			testkit.NoError(t, duplex.EnableFullDuplex())
		}
		fmt.Fprint(w, ok)
	})
	srv := serve(t, r)
	require.Equal(t, "true", request(t, srv, http.MethodPost, "/").Body)
}
