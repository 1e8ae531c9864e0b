package sse_test

// What a detached session keeps in memory, and what is left after it has ended.

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

// A detached session keeps nothing of its request alive except what Call returns.
func TestDetachHoldsNothingOfTheRequest(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		for name, request := range map[string]string{
			"GET":            plainRequest,
			"GET, too late":  "GET /late HTTP/1.1\r\nHost: test\r\n\r\n",
			"GET, unguarded": "GET /unguarded HTTP/1.1\r\nHost: test\r\n\r\n",
			"HTTP/1.0":       "GET / HTTP/1.0\r\n\r\n",
			"POST":           "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody",
			"POST, chunked":  "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
			"POST, SSE only": "POST /post HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody",
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var held atomic.Int64
				var kinds sync.Map
				// keep counts the object that v points to until it is collected.
				keep := func(what string, v any) {
					held.Add(1)
					kinds.Store(what, true)
					runtime.AddCleanup((*byte)(reflect.ValueOf(v).UnsafePointer()), func(what string) {
						kinds.Delete(what)
						held.Add(-1)
					}, what)
				}
				watch := func(what string) func(http.Handler) http.Handler {
					return func(next http.Handler) http.Handler {
						return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							ww := &plainWrap{w}
							keep(what+" wrapper", ww)
							keep(what+" request", r)
							next.ServeHTTP(ww, r)
						})
					}
				}
				d := newDetachServer(t, tr, sse.Config{}, func(d *detachServer) {
					d.outside = []func(http.Handler) http.Handler{
						func(next http.Handler) http.Handler {
							return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
								keep("net/http's writer", w)
								keep("net/http's request", r)
								if r.Body != http.NoBody {
									keep("net/http's body", r.Body)
								}
								next.ServeHTTP(w, r)
							})
						}, watch("outer"),
					}
					d.Use(watch("inner"), middleware.Compress(5), middleware.Timeout(time.Hour), middleware.RequestID)
					d.Post("/", d.SSEHandler(d.handler).ServeHTTP)
					d.SSE("/post", d.handler, sse.WithMethods(http.MethodPost))
					late := d.With(func(next http.Handler) http.Handler {
						return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							ctx, cancel := context.WithDeadline(r.Context(), time.Unix(1, 0))
							defer cancel()
							next.ServeHTTP(w, r.WithContext(ctx))
						})
					})
					late.Get("/late", d.SSEHandler(d.handler).ServeHTTP)
					d.outside = append(d.outside, func(next http.Handler) http.Handler {
						unguarded := d.SSEHandler(d.handler)
						return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							h := next
							if r.URL.Path == "/unguarded" {
								h = unguarded
							}
							h.ServeHTTP(w, r)
						})
					})
				})
				w := tr.ask(t, d.srv, request)
				w.head()
				body := openFrame
				if !strings.Contains(request, "HTTP/1.0") {
					body = chunk(body)
				}
				w.expect(body)
				s := testkit.Receive(t, d.sessions)
				testkit.Receive(t, s.returned)
				all := held.Load()
				for deadline := time.Now().Add(testkit.Patience / 2); held.Load() > 0 && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
					runtime.GC()
				}
				kinds.Range(func(what, _ any) bool {
					t.Errorf("%s is still reachable", what)
					return true
				})
				require.Zero(t, held.Load(), "of %d objects", all)
				require.NoError(t, s.SendData("x"), "the session is still open")
				require.Equal(t, strings.Fields(request)[0], s.Call().Method)
			})
		}
	})
}

// plainWrap is a writer of a middleware that adds nothing.
type plainWrap struct{ http.ResponseWriter }

func (w *plainWrap) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *plainWrap) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// A detached session can be collected as soon as it has ended, even while another session
// is open.
func TestDetachSessionIsCollectedAtItsEnd(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		const n = 20
		var collected atomic.Int64
		d := newDetachServer(t, tr, sse.Config{Heartbeat: sse.Heartbeat{Period: 40 * time.Millisecond}}, func(d *detachServer) {
			d.after = func(s *detached) error {
				runtime.AddCleanup(s.ServerSession, func(int) { collected.Add(1) }, 0)
				return nil
			}
		})
		survivor, _ := d.connectReturned()
		for i := range n {
			s, w := d.connectReturned()
			switch i % 3 {
			case 0:
				w.tcp.Close()
			case 1:
				s.Close()
			default:
				s.hub.End(errOwn)
			}
			d.ended(s)
		}
		testkit.Eventually(t, func() bool { runtime.GC(); return collected.Load() == n }, "the collection of the ended sessions")
		require.NoError(t, survivor.SendData("x"))
	})
}

func TestDetachLeaksNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	descriptors := openDescriptors()
	t.Run("all", func(t *testing.T) {
		overEach(t, func(t *testing.T, tr transport) {
			t.Helper()
			for range 3 { // in each round the watch for clients that leave stops and starts again
				d := newDetachServer(t, tr, sse.Config{Heartbeat: sse.Heartbeat{Period: time.Millisecond}, WriteTimeout: time.Second})
				var clients sync.WaitGroup
				for range 40 {
					s, w := d.connect()
					clients.Go(func() {
						for range rand.N(20) {
							if s.SendData(strings.Repeat("x", rand.N(2000))) != nil {
								return
							}
						}
					})
					clients.Go(func() {
						_, _ = io.CopyN(io.Discard, w.r, int64(rand.N(2000)))
						switch rand.N(5) {
						case 0:
							_ = w.tcp.SetLinger(0)
							fallthrough
						case 1:
							w.tcp.Close()
						case 2:
							s.Close()
							w.tcp.Close()
						case 3:
							s.hub.End(errOwn)
						case 4: // the client stays and does not read
						}
					})
				}
				clients.Wait()
				require.NoError(t, d.Plugin().Shutdown(t.Context()))
				for range 40 {
					testkit.Receive(t, d.ends)
				}
				require.Empty(t, d.ends)
			}
		})
	})
	testkit.GoroutinesBackTo(t, before)
	if descriptors > 0 {
		testkit.Eventually(t, func() bool { return openDescriptors() <= descriptors }, "the end of all connections")
	}
}

// openDescriptors returns how many file descriptors the process has open, or 0 if the system
// has no /proc/self/fd.
func openDescriptors() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}
