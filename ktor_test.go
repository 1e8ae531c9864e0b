package sse_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

// These are the rules that Ktor's tests set for its SSE plugin, with one test for each. The
// numbers in the names are those of the tables in docs/KTOR.md. The tests without a number
// are of what Ktor's code does and Ktor does not test.

func TestKtor01FieldsStandInKtorsOrder(t *testing.T) {
	t.Parallel()
	want := sse.Event{
		ID: "7", Name: "greeting", Data: "hello", Comment: "said twice", Retry: 1500 * time.Millisecond,
	}
	r := newRouter(sse.Config{})
	r.SSE("/", func(s *sse.ServerSession) error { return s.Send(want) })
	srv := serve(t, r)

	require.Equal(t, "event: greeting\ndata: hello\nid: 7\nretry: 1500\n: said twice\n\n", get(t, srv, "/").Body)

	s := connect(t, srv, "/")
	require.Equal(t, want, s.next())
	s.end()
}

func TestKtor02HundredEventsArriveWholeAndInOrder(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.SSE("/", func(s *sse.ServerSession) error {
		for i := range 100 {
			if err := s.Send(sse.Event{ID: strconv.Itoa(i), Name: "tick", Data: fmt.Sprint("hello ", i)}); err != nil {
				return err
			}
		}
		return nil
	})
	s := connect(t, serve(t, r), "/")
	for i := range 100 {
		require.Equal(t, sse.Event{ID: strconv.Itoa(i), Name: "tick", Data: fmt.Sprint("hello ", i)}, s.next())
	}
	s.end()
}

func TestKtor03TwoProducersDoNotMixTheirFields(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.SSE("/", func(s *sse.ServerSession) error {
		var producers sync.WaitGroup
		for _, name := range []string{"a", "b"} {
			producers.Go(func() {
				for i := range 100 {
					assert.NoError(t, s.SendData(fmt.Sprint(name, i)))
				}
			})
		}
		producers.Wait()
		return nil
	})
	a := get(t, serve(t, r), "/")
	require.NoError(t, a.Err)
	require.Equal(t, http.StatusOK, a.Status)
	require.Equal(t, []string{"text/event-stream"}, a.Header["Content-Type"])

	lines := strings.Split(a.Body, "\n")
	require.Len(t, lines, 401)
	next := map[byte]int{}
	for i, line := range lines {
		if i%2 == 1 || i == 400 {
			require.Empty(t, line, "line %d", i)
			continue
		}
		data, ok := strings.CutPrefix(line, "data: ")
		require.True(t, ok, line)
		require.Equal(t, strconv.Itoa(next[data[0]]), data[1:], "in order for each producer")
		next[data[0]]++
	}
}

func TestKtor04OneClientAfterTheOther(t *testing.T) {
	t.Parallel()
	var visits atomic.Int64
	r := newRouter(sse.Config{})
	r.SSE("/", func(s *sse.ServerSession) error {
		visit := visits.Add(1)
		for i := range 20 {
			if err := s.SendData(fmt.Sprintf("%d/%d", visit, i)); err != nil {
				return err
			}
		}
		return nil
	})
	srv := serve(t, r)
	for visit := range 10 {
		s := connect(t, srv, "/")
		for i := range 20 {
			require.Equal(t, fmt.Sprintf("%d/%d", visit+1, i), s.next().Data)
		}
		s.end()
	}
}

func TestKtor05NoHeaderTwiceAndAnEmptyHandlerIsAnEmptyStream(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			r := newRouter(sse.Config{})
			r.Use(func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					for _, name := range []string{"Content-Type", "Cache-Control", "X-Accel-Buffering", "Connection"} {
						w.Header().Add(name, "of a middleware")
						w.Header().Add(name, "twice")
					}
					w.Header().Set("Content-Length", "100")
					w.Header().Set("Etag", `"1"`)
					w.Header().Set("X-Other", "stays")
					next.ServeHTTP(w, r)
				})
			})
			r.SSE("/empty", func(*sse.ServerSession) error { return nil })
			r.SSE("/full", func(s *sse.ServerSession) error { return s.SendData("x") })
			srv := serve(t, r, proto.Setup)

			for path, body := range map[string]string{"/empty": "", "/full": "data: x\n\n"} {
				a := get(t, srv, path)
				require.NoError(t, a.Err)
				require.Equal(t, http.StatusOK, a.Status)
				require.Equal(t, body, a.Body)
				for name, values := range a.Header {
					require.Len(t, values, 1, name)
				}
				require.Equal(t, "text/event-stream", a.Header.Get("Content-Type"))
				require.Equal(t, "no-store, no-transform", a.Header.Get("Cache-Control"))
				require.Equal(t, "no", a.Header.Get("X-Accel-Buffering"))
				require.Equal(t, "stays", a.Header.Get("X-Other"))
				require.NotContains(t, a.Header, "Etag")
				require.NotContains(t, a.Header, "Content-Length")
			}
		})
	}

	t.Run("raw", func(t *testing.T) {
		t.Parallel()
		r := newRouter(sse.Config{})
		r.SSE("/", func(*sse.ServerSession) error { return nil })
		conn := dialRaw(t, serve(t, r), "/")
		require.NoError(t, conn.CloseWrite())
		raw, err := io.ReadAll(conn)
		require.NoError(t, err)
		head, _, ok := bytes.Cut(raw, []byte("\r\n\r\n"))
		require.True(t, ok, "%s", raw)
		seen := map[string]bool{}
		for line := range strings.SplitSeq(string(head), "\r\n") {
			name, _, _ := strings.Cut(strings.ToLower(line), ":")
			require.False(t, seen[name], "%s twice in\n%s", name, head)
			seen[name] = true
		}
	})
}

func TestKtor06LinesOfDataBecomeDataLines(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ data, wire string }{
		{"a\nb\nc", "data: a\ndata: b\ndata: c\n\n"},
		{"a\r\nb\rc", "data: a\ndata: b\ndata: c\n\n"},
		{"First Line\n\ndata: Third Line", "data: First Line\ndata: \ndata: data: Third Line\n\n"},
		{"ends with one\n", "data: ends with one\ndata: \n\n"},
	} {
		t.Run(tt.data, func(t *testing.T) {
			t.Parallel()
			r := newRouter(sse.Config{})
			r.SSE("/", func(s *sse.ServerSession) error { return s.Send(sse.Event{Data: tt.data}) })
			srv := serve(t, r)
			require.Equal(t, tt.wire, get(t, srv, "/").Body)
			lines := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(tt.data)
			require.Equal(t, lines, connect(t, srv, "/").next().Data)
		})
	}
}

type (
	ktorAge    struct{ Age int }
	ktorNumber struct{ Number int64 }
)

func TestKtor07SerializerOfTheRoute(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	send := func(s *sse.ServerSession) error { return s.SendData(ktorAge{22}) }
	r.SSE("/fields", send, sse.WithSerializer(fields))
	r.SSE("/plugin", send)
	srv := serve(t, r)
	require.Equal(t, "data: sse_test.ktorAge {Age:22}\n\n", get(t, srv, "/fields").Body)
	require.Equal(t, "data: {\"Age\":22}\n\n", get(t, srv, "/plugin").Body)
}

func TestKtor08SeveralTypesInOneSession(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{Serializer: fields})
	r.SSE("/", func(s *sse.ServerSession) error {
		if err := s.SendData(ktorAge{22}); err != nil {
			return err
		}
		return s.SendData(ktorNumber{123456})
	})
	require.Equal(t, "data: sse_test.ktorAge {Age:22}\n\ndata: sse_test.ktorNumber {Number:123456}\n\n",
		get(t, serve(t, r), "/").Body)
}

func TestKtor09JSONByteForByte(t *testing.T) {
	t.Parallel()
	type customer struct {
		ID        int    `json:"id"`
		FirstName string `json:"firstName"`
		LastName  string `json:"lastName"`
	}
	type product struct {
		ID     int   `json:"id"`
		Prices []int `json:"prices"`
	}
	r := newRouter(sse.Config{})
	r.SSE("/", func(s *sse.ServerSession) error {
		if err := s.SendData(customer{0, "Jet", "Brains"}); err != nil {
			return err
		}
		return s.SendData(product{0, []int{100, 200}})
	}, sse.WithSerializer(sse.JSON))
	require.Equal(t,
		`data: {"id":0,"firstName":"Jet","lastName":"Brains"}`+"\n\n"+`data: {"id":0,"prices":[100,200]}`+"\n\n",
		get(t, serve(t, r), "/").Body)
}

func TestKtor10HeartbeatBesideTheHandlersEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(sse.Config{})
		r.SSE("/", func(s *sse.ServerSession) error {
			if err := s.Heartbeat(sse.Heartbeat{Period: 10 * time.Millisecond, Event: sse.Event{Data: "heartbeat"}}); err != nil {
				return err
			}
			for range 19 {
				time.Sleep(7 * time.Millisecond)
				if err := s.SendData("hello"); err != nil {
					return err
				}
			}
			return nil
		})
		s := servePipe(t, r).connect("/")
		seen := map[string]int{}
		for ev, err := range s.dec.All() {
			require.NoError(t, err)
			seen[ev.Data]++
		}
		require.Equal(t, 19, seen["hello"])
		require.Equal(t, 14, seen["heartbeat"], "one heartbeat at once, and one every 10 ms of 133 ms")
	})
}

func TestKtor11ProviderIsAskedForEachBeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var beats atomic.Int64
		r := newRouter(sse.Config{})
		r.SSE("/", func(s *sse.ServerSession) error {
			if err := s.Heartbeat(sse.Heartbeat{Period: 10 * time.Millisecond, Provider: func() sse.Event {
				return sse.Event{Data: fmt.Sprint("beat-", beats.Add(1))}
			}}); err != nil {
				return err
			}
			<-s.Done()
			return nil
		})
		s := servePipe(t, r).connect("/")
		for i := range 50 {
			require.Equal(t, fmt.Sprint("beat-", i+1), s.next().Data)
		}
		s.leave()
	})
}

func TestKtor12ProviderGoesBeforeTheStaticEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(sse.Config{})
		r.SSE("/", func(s *sse.ServerSession) error {
			if err := s.Heartbeat(sse.Heartbeat{
				Period:   10 * time.Millisecond,
				Event:    sse.Event{Data: "static"},
				Provider: func() sse.Event { return sse.Event{Data: "provided"} },
			}); err != nil {
				return err
			}
			<-s.Done()
			return nil
		})
		s := servePipe(t, r).connect("/")
		for range 10 {
			require.Equal(t, sse.Event{Data: "provided"}, s.next())
		}
		s.leave()
	})
}

func TestKtor14StreamsOfOthersStayUncompressedToo(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(middleware.Compress(5))
	r.SSE("/plugin", func(s *sse.ServerSession) error { return s.SendData("hello") })
	r.Get("/own", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: hello\n\n")
	})
	r.Get("/text", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "hello")
	})
	srv := serve(t, r)
	for _, path := range []string{"/plugin", "/own"} {
		a := get(t, srv, path, "Accept-Encoding", "gzip, deflate")
		require.NotContains(t, a.Header, "Content-Encoding", path)
		require.Equal(t, "data: hello\n\n", a.Body, path)
	}
	require.Equal(t, "gzip", get(t, srv, "/text", "Accept-Encoding", "gzip").Header.Get("Content-Encoding"), "a response that is not a stream is compressed")
}

func TestKtor15ConnectionHeaderOnHTTP1Only(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			r := newRouter(sse.Config{})
			r.SSE("/", func(s *sse.ServerSession) error { return s.SendData("hello") })
			a := get(t, serve(t, r, proto.Setup), "/")
			require.Equal(t, proto.Proto, a.Proto)
			require.Equal(t, "text/event-stream", a.Header.Get("Content-Type"))
			require.Equal(t, "data: hello\n\n", a.Body)
			if proto.Proto == "HTTP/1.1" {
				require.Equal(t, []string{"keep-alive"}, a.Header["Connection"])
			} else {
				require.NotContains(t, a.Header, "Connection")
			}
		})
	}
}

// Over HTTP/2, net/http removes the Connection header. Another server may not, so the plugin
// must not set it.
func TestKtor15ConnectionHeaderByVersion(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.SSE("/", func(s *sse.ServerSession) error { return s.SendData("hello") })
	for proto, want := range map[string][]string{
		"HTTP/1.0": nil, "HTTP/1.1": {"keep-alive"}, "HTTP/2.0": nil, "HTTP/3.0": nil,
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			req := httptest.NewRequest(method, "/", http.NoBody)
			req.Proto = proto
			req.ProtoMajor, req.ProtoMinor, _ = http.ParseHTTPVersion(proto)
			rec := httptest.NewRecorder()
			rec.Header().Set("Connection", "of a middleware")
			r.ServeHTTP(rec, req)
			require.Equal(t, want, rec.Header()["Connection"], "%s %s", method, proto)
		}
	}
}

// Number 17 is h2, where the stream and the other requests share one connection.
func TestKtor16And17AnOpenStreamHoldsUpNoOtherRequest(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			peers := make(chan string, 20)
			r := newRouter(sse.Config{})
			r.SSE("/events", func(s *sse.ServerSession) error {
				peers <- s.Call().RemoteAddr
				return untilDone(s)
			})
			r.Get("/", func(w http.ResponseWriter, r *http.Request) {
				peers <- r.RemoteAddr
				io.WriteString(w, "ordinary")
			})
			srv := serve(t, r, proto.Setup)
			s := connect(t, srv, "/events")
			require.Equal(t, "open", s.nextData())
			peer := <-peers
			for range 10 {
				began := time.Now()
				require.Equal(t, "ordinary", get(t, srv, "/").Body)
				require.Less(t, time.Since(began), 3*time.Second)
				if proto.Proto == "HTTP/2.0" {
					require.Equal(t, peer, <-peers, "the same connection")
				} else {
					require.NotEqual(t, peer, <-peers, "another connection")
				}
			}
			require.Equal(t, 1, r.Plugin().Len(), "the stream is still open")
		})
	}
}

func TestKtorPathFormAnswersGETOnly(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.SSE("/", func(s *sse.ServerSession) error { return s.SendData("hello") })
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "QUERY"} {
		rec := record(r, method, "/")
		require.Equal(t, http.StatusMethodNotAllowed, rec.Code, method)
		require.ElementsMatch(t, []string{"GET", "HEAD", "OPTIONS"}, rec.Header()["Allow"], method)
	}
	require.Equal(t, "data: hello\n\n", record(r, "GET", "/").Body.String())
}

// Differs: Ktor's path-less route takes any method.
func TestKtorPathlessFormsTakeTheirMethods(t *testing.T) {
	t.Parallel()
	hello := func(s *sse.ServerSession) error { return s.SendData(s.Call().Method) }
	r := newRouter(sse.Config{})
	r.Route("/route", func(r chi.Router) { sse.From(r).SSE("", hello) })
	r.Route("/methods", func(r chi.Router) {
		sse.From(r).SSE("", hello, sse.WithMethods("GET", "POST", "PUT", "PATCH", "DELETE"))
	})
	r.Handle("/handler", r.SSEHandler(hello))
	r.Post("/function", r.SSEHandler(hello).ServeHTTP)
	srv := serve(t, r)
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		for _, path := range []string{"/methods", "/methods/", "/handler"} {
			a := request(t, srv, method, path)
			require.Equal(t, http.StatusOK, a.Status, "%s %s", method, path)
			require.Equal(t, "data: "+method+"\n\n", a.Body, "%s %s", method, path)
		}
		for _, path := range []string{"/route", "/route/"} {
			want := http.StatusMethodNotAllowed
			if method == "GET" {
				want = http.StatusOK
			}
			require.Equal(t, want, request(t, srv, method, path).Status, "%s %s", method, path)
		}
	}
	require.Equal(t, "data: POST\n\n", request(t, srv, "POST", "/function").Body)
	require.Equal(t, http.StatusMethodNotAllowed, request(t, srv, "GET", "/function").Status, "chi checks the method of this route")
}

func TestKtorHEADHasTheHeaderAndDoesNotRunTheHandler(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			var cfg sse.Config
			var runs, opens atomic.Int64
			cfg.OnOpen = func(*sse.ServerSession) { opens.Add(1) }
			r := newRouter(cfg)
			h := func(s *sse.ServerSession) error {
				runs.Add(1)
				return s.SendData("hello")
			}
			r.SSE("/path", h)
			r.Route("/route", func(r chi.Router) { sse.From(r).SSE("", h) })
			r.Handle("/handler", r.SSEHandler(h))
			srv := serve(t, r, proto.Setup)
			for i, path := range []string{"/path", "/route", "/handler"} {
				head := request(t, srv, http.MethodHead, path)
				require.Equal(t, http.StatusOK, head.Status)
				require.Empty(t, head.Body)
				require.EqualValues(t, i, runs.Load(), "the handler did not run")
				require.EqualValues(t, i, opens.Load())

				want := get(t, srv, path).Header
				want["Date"], head.Header["Date"] = nil, nil
				require.Equal(t, want, head.Header)
			}
		})
	}
}

func TestKtorUseWithoutInstallPanics(t *testing.T) {
	t.Parallel()
	require.Contains(t, panicOf(t, func() { sse.From(chi.NewRouter()) }), "sse.Install")
	require.Contains(t, panicOf(t, func() { sse.From(nil) }), "sse.Install")
	chi.NewRouter().Route("/nested", func(r chi.Router) {
		require.Contains(t, panicOf(t, func() { sse.From(r) }), "sse.Install")
	})
}

func TestKtorEachEventIsFlushed(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			send := make(chan string)
			r := newRouter(sse.Config{})
			r.SSE("/", func(s *sse.ServerSession) error {
				for data := range send {
					if err := s.SendData(data); err != nil {
						return err
					}
				}
				return nil
			})
			srv := serve(t, r, proto.Setup)
			go func() { send <- "0" }()
			s := connect(t, srv, "/")
			require.Equal(t, "0", s.next().Data)
			for i := range 20 { // the handler waits after each event, so an event comes only if it was flushed
				send <- strconv.Itoa(i)
				require.Equal(t, strconv.Itoa(i), s.next().Data)
			}
			close(send)
			s.end()
		})
	}
}

func TestKtorEndOfTheHandlerClosesTheStream(t *testing.T) {
	t.Parallel()
	finish := make(chan struct{})
	r := newRouter(sse.Config{})
	r.SSE("/", func(s *sse.ServerSession) error {
		if err := s.SendData("last"); err != nil {
			return err
		}
		<-finish
		return nil
	})
	srv := serve(t, r)
	s := connect(t, srv, "/")
	require.Equal(t, "last", s.next().Data)
	require.Equal(t, 1, r.Plugin().Len())
	close(finish)
	s.end()
	require.Equal(t, 0, r.Plugin().Len())
}

func TestKtorCloseIsIdempotentAndSendsNothing(t *testing.T) {
	t.Parallel()
	for _, opened := range []bool{true, false} {
		t.Run(fmt.Sprint("opened ", opened), func(t *testing.T) {
			t.Parallel()
			var cfg sse.Config
			ends := endsOf(&cfg)
			r := newRouter(cfg)
			r.SSE("/", func(s *sse.ServerSession) error {
				if opened {
					testkit.NoError(t, s.SendData("only"))
				}
				var closers sync.WaitGroup
				for range 10 {
					closers.Go(func() { assert.NoError(t, s.Close()) })
				}
				closers.Wait()
				<-s.Done()
				testkit.NoError(t, s.Close())
				testkit.ErrorIs(t, s.SendData("after"), sse.ErrClosed)
				return s.Open()
			})
			a := get(t, serve(t, r), "/")
			require.NoError(t, a.Err)
			require.Equal(t, http.StatusOK, a.Status)
			require.Equal(t, "text/event-stream", a.Header.Get("Content-Type"))
			e := testkit.Receive(t, ends)
			require.Equal(t, sse.EndClosed, e.Reason)
			require.NoError(t, e.Err)
			require.Equal(t, opened, e.Opened)
			if opened {
				require.Equal(t, "data: only\n\n", a.Body)
			} else {
				require.Empty(t, a.Body)
			}
		})
	}
}

func TestKtorSendsAfterTheEndFail(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			sessions := make(chan *sse.ServerSession, 1)
			r := newRouter(sse.Config{})
			r.SSE("/", func(s *sse.ServerSession) error {
				sessions <- s
				return s.SendData("last")
			})
			r.Get("/other", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "untouched") })
			srv := serve(t, r, proto.Setup)
			require.Equal(t, "data: last\n\n", get(t, srv, "/").Body)
			s := <-sessions
			<-s.Done()

			var late sync.WaitGroup
			for range 4 {
				late.Go(func() {
					for range 50 {
						for name, send := range sendsOf(s) {
							testkit.ErrorIs(t, send(), sse.ErrClosed, name)
						}
						testkit.NoError(t, s.Close())
						testkit.ErrorIs(t, context.Cause(s.Context()), sse.ErrClosed)
						assert.Empty(t, s.LastEventID())
						assert.Equal(t, "/", s.Call().URL.Path)
					}
				})
			}
			for range 50 { // on the connection that the session has used
				require.Equal(t, "untouched", get(t, srv, "/other").Body)
			}
			late.Wait()
		})
	}
}

func TestKtorHeartbeatIsAtOnceThenEveryFifteenSecondsUntilTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(sse.Config{})
		r.SSE("/", func(s *sse.ServerSession) error {
			if err := s.Heartbeat(sse.Heartbeat{}); err != nil {
				return err
			}
			time.Sleep(50 * time.Second)
			return nil
		})
		began := time.Now()
		s := servePipe(t, r).connect("/")
		for _, at := range []time.Duration{0, 15 * time.Second, 30 * time.Second, 45 * time.Second} {
			require.Equal(t, sse.Event{Comment: "heartbeat"}, s.next())
			require.Equal(t, at, time.Since(began))
		}
		s.end()
		require.Equal(t, 50*time.Second, time.Since(began))
	})
}
