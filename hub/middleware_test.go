package hub_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// To middleware, a stream is a request with status 200. It counts the bytes that were
// written until the handler returned.
func TestMiddlewareSeesAnAnswer(t *testing.T) {
	forEach(t, func(t *test) {
		type answer struct{ status, bytes int }
		answers := make(chan answer, 1)
		var access testkit.Buffer
		a := t.start(plan{
			use: []func(http.Handler) http.Handler{
				middleware.RequestLogger(&middleware.DefaultLogFormatter{Logger: &printer{&access}, NoColor: true}),
				func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
						next.ServeHTTP(ww, r)
						answers <- answer{ww.Status(), ww.BytesWritten()}
					})
				},
			},
			sub: hub.Subscription{Start: hub.Beginning},
		})
		a.publishN("a", 1, 3)
		s := a.connect("/")
		read := 0
		for range 3 {
			b := s.block()
			require.False(t, b.silent)
			read += len(b.text)
		}
		if !t.detached {
			a.joined("a", 1)
			a.kick("a", nil)
		}
		require.Equal(t, answer{http.StatusOK, read}, testkit.Receive(t, answers))
		testkit.Eventually(t, func() bool { return access.String() != "" }, "a line in the access log")
		require.Contains(t, access.String(), fmt.Sprintf(" - 200 %dB in ", read))
	})
}

// printer implements middleware.LoggerInterface.
type printer struct{ w io.Writer }

func (p *printer) Print(v ...any) { fmt.Fprintln(p.w, v...) }

func TestMiddlewareAround(t *testing.T) {
	for name, use := range map[string]func(http.Handler) http.Handler{
		"Recoverer":  middleware.Recoverer,
		"Timeout":    middleware.Timeout(time.Nanosecond),
		"Timeout 10": middleware.Timeout(10 * time.Millisecond),
		"Compress":   middleware.Compress(5),
		"Throttle":   middleware.Throttle(10),
		"NoCache":    middleware.NoCache,
		"late write": func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(w, r)
				w.Header().Set("X-Late", "1")
				w.WriteHeader(http.StatusTeapot)
				io.WriteString(w, "data: late\n\n")
				_ = http.NewResponseController(w).Flush()
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				a := t.start(plan{
					use:     []func(http.Handler) http.Handler{use, middleware.RequestID},
					sub:     hub.Subscription{Start: hub.Beginning},
					expects: []string{"response.WriteHeader on hijacked connection", "response.Write on hijacked connection"},
				})
				a.publishN("a", 1, 3)
				s := a.connect("/", "Accept-Encoding", "gzip")
				require.Empty(t, s.Header.Get("X-Late"))
				s.expectN(1, 3)
				a.joined("a", 1)
				for m := range a.Members("a") {
					require.Equal(t, "/", chi.RouteContext(m.Session().Call().Context()).RoutePattern())
					if !t.detached {
						require.NotEmpty(t, middleware.GetReqID(m.Session().Context()), "the context has the values of middleware")
					}
					_, ok := m.Session().Context().Deadline()
					require.False(t, ok)
				}
				for i := 4; i < 20; i++ {
					time.Sleep(time.Millisecond) // longer in all than the Timeout
					a.publish("a", sse.Event{Data: strconv.Itoa(i)})
					s.expect(strconv.Itoa(i))
				}
				s = a.reconnect(s)
				a.joined("a", 1)
				require.NoError(t, a.Shutdown(t.Context()))
				s.expectEnd()
			})
		})
	}
}
