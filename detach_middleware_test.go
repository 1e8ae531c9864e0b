package sse_test

// Detached sessions behind the middleware of chi and others.

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

// lateWriter is a middleware that tries to change the response in every way after the handler
// has returned.
func lateWriter(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		w.Header().Set("X-Late", "1")
		w.WriteHeader(http.StatusGatewayTimeout)
		_, _ = w.Write([]byte("data: of a middleware\n\n"))
		_, _ = io.WriteString(w, "data: of a middleware\n\n")
		if rf, ok := w.(io.ReaderFrom); ok {
			_, _ = rf.ReadFrom(strings.NewReader("data: of a middleware\n\n"))
		}
		c := http.NewResponseController(w)
		_ = c.Flush()
		_ = c.SetWriteDeadline(time.Unix(1, 0))
		_ = c.SetReadDeadline(time.Unix(1, 0))
		_, _, _ = c.Hijack()
	})
}

func TestDetachMiddleware(t *testing.T) {
	t.Parallel()
	var logged testkit.Buffer
	logger := func() func(http.Handler) http.Handler {
		return middleware.RequestLogger(&middleware.DefaultLogFormatter{Logger: log.New(&logged, "", 0), NoColor: true})
	}
	counter := func(counted *atomic.Int64) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
				next.ServeHTTP(ww, r)
				counted.Store(int64(ww.Status()*1000 + ww.BytesWritten()))
			})
		}
	}
	var inside, outside atomic.Int64
	type chain = []func(http.Handler) http.Handler
	for name, tt := range map[string]struct {
		outside, inside chain
		check           func(t *testing.T)
	}{
		"Logger": {nil, chain{logger()}, func(t *testing.T) {
			t.Helper()
			require.Contains(t, logged.String(), fmt.Sprintf(" - 200 %dB in ", len(openFrame)))
		}},
		"WrapResponseWriter": {chain{counter(&outside)}, chain{counter(&inside)}, func(t *testing.T) {
			t.Helper()
			require.EqualValues(t, 200_000+len(openFrame), inside.Load())
			require.EqualValues(t, 200_000+len(openFrame), outside.Load())
		}},
		"Compress inside":  {nil, chain{middleware.Compress(5)}, nil},
		"Compress outside": {chain{middleware.Compress(5)}, nil, nil},
		"Compress twice":   {chain{middleware.Compress(5)}, chain{middleware.Compress(5)}, nil},
		"Timeout":          {nil, chain{middleware.Timeout(time.Millisecond)}, nil},
		"Timeout outside":  {chain{middleware.Timeout(time.Hour)}, nil, nil},
		"Recoverer":        {nil, chain{middleware.Recoverer}, nil},
		"Throttle":         {nil, chain{nil}, nil},
		"Throttle outside": {chain{nil}, nil, nil},
		"late words":       {nil, chain{lateWriter}, nil},
		"late words, too":  {nil, chain{lateWriter, middleware.Compress(5), lateWriter, logger()}, nil},
		"a whole stack": {chain{logger(), middleware.Compress(5)}, chain{
			middleware.RequestID, middleware.Compress(5), middleware.Recoverer, middleware.Timeout(time.Millisecond),
			middleware.NoCache, middleware.StripSlashes, middleware.CleanPath, middleware.SetHeader("X-A", "b"), nil,
		}, nil},
	} {
		for _, tr := range transports {
			t.Run(name+" over "+tr.name, func(t *testing.T) {
				t.Parallel()
				outside, inside := slices.Clone(tt.outside), slices.Clone(tt.inside)
				switch { // each subtest needs a Throttle of its own
				case name == "Throttle outside":
					outside[0] = middleware.Throttle(1)
				case name == "Throttle", name == "a whole stack":
					inside[len(inside)-1] = middleware.Throttle(1)
				}
				contexts := make(chan context.Context, 10)
				d := newDetachServer(t, tr, sse.Config{}, func(d *detachServer) {
					d.outside = outside
					d.Use(inside...)
					d.Use(func(next http.Handler) http.Handler {
						return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							contexts <- r.Context()
							next.ServeHTTP(w, r)
						})
					})
				})
				w := tr.ask(t, d.srv, "GET / HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n")
				require.NotContains(t, w.head(), "gzip")
				w.expect(chunk(openFrame))
				s := testkit.Receive(t, d.sessions)
				testkit.Receive(t, s.returned)
				testkit.Receive(t, testkit.Receive(t, contexts).Done()) // its deadline has passed, or the request has ended
				require.NoError(t, s.Context().Err())
				other, _ := d.connectReturned() // Throttle(1) lets it in, because the first request has ended
				require.NoError(t, s.SendData("x"))
				w.expect(chunk("data: x\n\n"))
				if tt.check != nil {
					tt.check(t)
				}
				require.NoError(t, s.Close())
				require.Equal(t, lastChunk, w.rest())
				require.Equal(t, sse.EndClosed, d.ended(s).Reason)
				require.NoError(t, other.Close())
				require.Equal(t, sse.EndClosed, d.ended(other).Reason)
			})
		}
	}
}

// A middleware cannot reach the connection of a session that has been detached.
func TestDetachMiddlewareHasNoConnection(t *testing.T) {
	t.Parallel()
	d := newDetachServer(t, overTCP, sse.Config{}, func(d *detachServer) {
		d.Use(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(w, r)
				c := http.NewResponseController(w)
				testkit.ErrorIs(t, c.SetWriteDeadline(time.Unix(1, 0)), http.ErrNotSupported)
				testkit.ErrorIs(t, c.SetReadDeadline(time.Unix(1, 0)), http.ErrNotSupported)
				_, _, err := c.Hijack()
				assert.Error(t, err)
				_, err = w.Write([]byte("x"))
				assert.Error(t, err)
			})
		})
	})
	s, w := d.connectReturned()
	require.NoError(t, s.SendData("x"))
	w.expect(chunk("data: x\n\n"))
}
