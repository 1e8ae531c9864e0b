package sse_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
	"github.com/chi-sse/sse/internal/testkit"
)

func TestDetachWire(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"HTTP/1.1", "HTTP/1.0"} {
		overEachNamed(t, version, func(t *testing.T, tr transport) {
			t.Helper()
			framed, end := chunk, lastChunk
			if version == "HTTP/1.0" {
				framed, end = func(s string) string { return s }, ""
			}
			var sent []sse.Sent // OnSend appends to it; the writes come one after another
			cfg := sse.Config{Heartbeat: sse.Heartbeat{Period: time.Hour}}
			cfg.OnSend = func(_ *sse.ServerSession, s sse.Sent) { sent = append(sent, s) }
			d := newDetachServer(t, tr, cfg)
			w := tr.ask(t, d.srv, "GET / "+version+"\r\nHost: test\r\n\r\n")
			head := w.head()
			require.Equal(t, version == "HTTP/1.1", strings.Contains(head, "Transfer-Encoding: chunked\r\n"), head)
			require.Equal(t, version == "HTTP/1.1", strings.Contains(head, "Connection: close\r\n"), head)
			w.expect(framed(openFrame))
			s := testkit.Receive(t, d.sessions)
			testkit.Receive(t, s.returned)
			require.Equal(t, tr.mayBlock(), s.hub.MayBlock())

			events, size := 1, len(openFrame)
			next := func(frame string, n int) {
				t.Helper()
				w.expect(framed(frame))
				events, size = events+n, size+len(frame)
			}
			long := strings.Repeat("x", 70_000)
			require.NoError(t, s.Send(sse.Event{ID: "7", Name: "n", Data: "a\nb"}))
			next("event: n\ndata: a\ndata: b\nid: 7\n\n", 1)
			require.NoError(t, s.Comment("hi"))
			next(": hi\n\n", 1)
			require.NoError(t, s.SendData(map[string]int{"n": 1}))
			next("data: {\"n\":1}\n\n", 1)
			for _, data := range [][]string{{"one"}, {"one", "two"}, {strings.Repeat("x", 8)}, {strings.Repeat("x", 249)}, {"", ""}} {
				f := framesOf(data...)
				frame := string(f.Bytes())
				for range 2 { // frames can be written more than once
					pending, err := s.hub.TryWrite(f)
					require.NoError(t, err)
					require.False(t, pending)
					next(frame, len(data))
				}
			}
			large := make(chan error, 1)
			go func() { large <- s.SendData(long) }()
			next("data: "+long+"\n\n", 1)
			require.NoError(t, testkit.Receive(t, large))
			require.NoError(t, s.Open(), "Open does nothing for an open session")
			require.ErrorContains(t, s.Send(sse.Event{ID: "\n"}), "ID", "nothing is sent")

			require.NoError(t, s.Heartbeat(sse.Heartbeat{}))
			next(": heartbeat\n\n", 0)
			require.EqualValues(t, 1, s.owner.begun.Load())
			require.Zero(t, s.owner.beats.Load())
			s.owner.beat = func(dst []byte) ([]byte, bool) { return append(dst, "id: 8\n\n"...), true }
			require.NoError(t, s.Heartbeat(sse.Heartbeat{}))
			next("id: 8\n\n", 0)
			require.EqualValues(t, 1, s.owner.beats.Load())
			require.NoError(t, s.Heartbeat(sse.Heartbeat{Event: sse.Event{Name: "beat"}}))
			next("event: beat\ndata: \n\n", 0)
			require.EqualValues(t, 2, s.owner.begun.Load(), "the owner is not asked for a heartbeat with an event of its own")

			require.NoError(t, d.Plugin().Shutdown(t.Context()))
			rest := w.rest()
			require.True(t, strings.HasSuffix(rest, end))
			bye := regexp.MustCompile(`retry: \d+\n\n`).FindString(rest)
			require.Equal(t, framed(bye)+end, rest)
			e := d.ended(s)
			require.Equal(t, sse.EndShutdown, e.Reason)
			require.EqualValues(t, events, e.Events)
			require.EqualValues(t, size+len(bye), e.Bytes)
			total := 0
			for _, s := range sent {
				require.NoError(t, s.Err)
				total += s.Bytes
			}
			require.EqualValues(t, e.Bytes, total)
			require.Len(t, sent, 1+3+10+1+3+1)
			for i, s := range sent {
				require.Equal(t, slices.Contains([]int{15, 16, 17}, i), s.Heartbeat, "%d", i)
			}
		})
	}
}

// net/http writes the head before the session is detached, so the head is the same as that
// of an ordinary session, but for what it says of the connection.
func TestDetachHeadIsThatOfAnOrdinarySession(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]string{
		"1.1":              plainRequest,
		"1.1 close":        "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
		"1.1 gzip":         "GET / HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n",
		"1.0":              "GET / HTTP/1.0\r\n\r\n",
		"1.0 keep-alive":   "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
		"1.1 with a body":  "GET / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody",
		"1.1 with trailer": "GET / HTTP/1.1\r\nHost: test\r\nTE: trailers\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heads := make(map[string]string)
			for _, how := range []string{"ordinary", "detached", "announced"} {
				r := newRouter(sse.Config{})
				goesOn := make(chan struct{})
				r.Use(func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						w.Header().Add("Set-Cookie", "a=1")
						w.Header().Add("Set-Cookie", "b=2")
						w.Header().Set("Content-Length", "5")
						w.Header().Set("Trailer", "X")
						next.ServeHTTP(w, r)
					})
				}, middleware.Compress(5), middleware.NoCache)
				r.SSE("/", func(s *sse.ServerSession) error {
					s.Header().Set("X-Own", "1")
					switch how {
					case "announced":
						engine.Of(s).WillDetach()
					case "ordinary":
					default:
						s.Header().Set("Connection", "close") // otherwise the connection would stay with net/http
					}
					testkit.NoError(t, s.Send(sse.Event{Data: "open"}))
					if how != "ordinary" {
						assert.True(t, engine.Of(s).Detach())
						close(goesOn)
						return nil
					}
					close(goesOn)
					<-s.Done()
					return nil
				})
				srv := serve(t, r)
				w := overTCP.ask(t, srv, request)
				heads[how] = w.head()
				body := openFrame
				if strings.Contains(request, "HTTP/1.1") {
					body = chunk(body)
				}
				w.expect(body)
				testkit.Receive(t, goesOn)
				require.NoError(t, r.Plugin().Shutdown(t.Context()))
			}
			require.Contains(t, heads["detached"], "X-Own: 1\r\n")
			require.Contains(t, heads["detached"], "Set-Cookie: b=2\r\n")
			// A session that can be detached tells the client beforehand not to use the connection
			// again.
			want := strings.Replace(heads["ordinary"], "Connection: keep-alive\r\n", "Connection: close\r\n", 1)
			require.Equal(t, sortedLines(want), sortedLines(heads["announced"]))
			require.Equal(t, sortedLines(want), sortedLines(heads["detached"]))
		})
	}
}

func sortedLines(s string) []string { return slices.Sorted(strings.Lines(s)) }

// Many goroutines write to one session. Each frame is sent once and whole, and the frames of
// each goroutine stay in order.
func TestDetachWritersRace(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		const writers, each = 6, 150
		d := newDetachServer(t, tr, sse.Config{})
		s, w := d.connect() // the handler may still be returning
		s.owner.beat = nil
		var all sync.WaitGroup
		text := func(who string, i int) string {
			return fmt.Sprintf("%s %d %s", who, i, strings.Repeat("x", rand.N(3000)))
		}
		counts := make(map[string]int)
		for i := range writers {
			who := fmt.Sprint("send", i)
			counts[who] = each
			all.Go(func() {
				for n := range each {
					testkit.NoError(t, s.SendData(text(who, n)))
				}
			})
			whose := fmt.Sprint("comment", i)
			counts[whose] = each
			all.Go(func() {
				for n := range each {
					testkit.NoError(t, s.Comment(text(whose, n)))
				}
			})
		}
		counts["hub"] = 4 * each
		var pendings int
		all.Go(func() { // a hub makes one write at a time
			for n := 0; n < 4*each; n += 2 {
				pending, err := s.hub.TryWrite(framesOf(text("hub", n), text("hub", n+1)))
				testkit.NoError(t, err)
				if pending {
					pendings++
					testkit.NoError(t, s.hub.Finish())
				}
			}
		})
		var beats atomic.Int64
		all.Go(func() {
			for range each {
				testkit.NoError(t, s.Heartbeat(sse.Heartbeat{Period: time.Millisecond, Provider: func() sse.Event {
					return sse.Event{Data: text("beat", int(beats.Add(1)-1))}
				}}))
			}
		})
		done := make(chan struct{})
		t.Cleanup(func() { w.Close(); <-done })
		go func() {
			defer close(done)
			all.Wait()
			testkit.NoError(t, s.Close())
		}()

		resp := &http.Response{Body: io.NopCloser(newChunkedReader(w.r))}
		client := newStream(t, resp, nil)
		next := make(map[string]int)
		for {
			ev, err := client.dec.Decode()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			var who, rest string
			var n int
			_, err = fmt.Sscan(cmp.Or(ev.Data, ev.Comment), &who, &n)
			require.NoError(t, err, "%+v", ev)
			require.Equal(t, next[who], n, "of %s", who)
			_, rest, _ = strings.Cut(strings.TrimPrefix(cmp.Or(ev.Data, ev.Comment), fmt.Sprintf("%s %d", who, n)), " ")
			require.Empty(t, strings.Trim(rest, "x"))
			next[who]++
		}
		testkit.Receive(t, done)
		sentBeats := next["beat"]
		require.Positive(t, sentBeats)
		require.LessOrEqual(t, int64(sentBeats), beats.Load())
		delete(next, "beat")
		require.Equal(t, counts, next)
		e := d.ended(s)
		require.Equal(t, sse.EndClosed, e.Reason)
		require.EqualValues(t, 1+2*writers*each+4*each, e.Events)
		if !tr.mayBlock() {
			require.Positive(t, pendings, "no write was pending, so Finish was not tested")
		}
	})
}

// These tests use pipes, which run in the time of a synctest bubble. A pipe is not a socket,
// so writes wait for the client.
func TestDetachInItsTime(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T, cfg sse.Config) (*sse.ServerSession, *stream) {
		t.Helper()
		sessions := make(chan *sse.ServerSession, 1)
		r := newRouter(cfg)
		r.SSE("/", func(s *sse.ServerSession) error {
			s.Header().Set("Connection", "close") // otherwise the connection would stay with net/http
			testkit.NoError(t, s.SendData("open"))
			assert.True(t, engine.Of(s).Detach())
			assert.True(t, engine.Of(s).MayBlock())
			sessions <- s
			return nil
		})
		c := servePipe(t, r).connect("/")
		require.Equal(t, "open", c.next().Data)
		return <-sessions, c
	}
	t.Run("heartbeats", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s, c := open(t, sse.Config{})
			expectBeat := func() {
				t.Helper()
				began := time.Now()
				require.Equal(t, "heartbeat", c.next().Comment)
				require.GreaterOrEqual(t, time.Since(began), sse.DefaultHeartbeat)
				require.LessOrEqual(t, time.Since(began), sse.DefaultHeartbeat*9/8, "a comment may be late by an eighth of its period")
			}
			for range 100 {
				expectBeat()
			}
			time.Sleep(10 * time.Second)
			go func() { testkit.NoError(t, s.SendData("traffic")) }()
			require.Equal(t, "traffic", c.next().Data)
			expectBeat() // the traffic has delayed it
			go func() {
				testkit.NoError(t, s.Heartbeat(sse.Heartbeat{Period: time.Second, Event: sse.Event{Data: "own"}}))
			}()
			require.Equal(t, "own", c.next().Data)
			for range 20 {
				began := time.Now()
				require.Equal(t, "own", c.next().Data)
				require.Equal(t, time.Second, time.Since(began), "a heartbeat with an event of its own is on time")
			}
			go func() { testkit.NoError(t, s.Heartbeat(sse.Heartbeat{})) }()
			require.Equal(t, "heartbeat", c.next().Comment)
			expectBeat()
			require.NoError(t, s.Heartbeat(sse.Heartbeat{Period: -1}))
			time.Sleep(time.Hour)
			go func() { testkit.NoError(t, s.SendData("silence")) }()
			require.Equal(t, "silence", c.next().Data)
			s.Close()
			c.end()
		})
	})
	t.Run("write timeout", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			cfg := sse.Config{Heartbeat: sse.Heartbeat{Period: -1}, OpenDelay: -1}
			ends := endsOf(&cfg)
			s, c := open(t, cfg)
			time.Sleep(time.Hour)
			began := time.Now()
			err := s.SendData("not read")
			require.ErrorIs(t, err, sse.ErrWriteTimeout)
			require.Equal(t, sse.DefaultWriteTimeout, time.Since(began))
			require.Equal(t, sse.EndWriteTimeout, (<-ends).Reason)
			_, err = c.rest()
			require.Error(t, err)
		})
	})
	t.Run("a slow client at the end", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			cfg := sse.Config{Heartbeat: sse.Heartbeat{Period: -1}, OpenDelay: -1}
			ends := endsOf(&cfg)
			s, c := open(t, cfg)
			began := time.Now()
			s.Close()
			require.Equal(t, sse.EndClosed, (<-ends).Reason)
			require.Equal(t, time.Second, time.Since(began), "the client has a second to take the last chunk")
			_, err := c.rest()
			require.Error(t, err)
		})
	})
}

// On Linux, one goroutine is enough for all detached sessions, whatever their clients send.
func TestDetachNeedsNoGoroutine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("on other systems a goroutine reads from each connection")
	}
	before := runtime.NumGoroutine()
	t.Run("all", func(t *testing.T) {
		d := newDetachServer(t, overTCP, sse.Config{})
		few := runtime.NumGoroutine() + 1
		for range 30 {
			s, w := d.connectReturned()
			_, err := io.WriteString(w.Conn, "garbage")
			require.NoError(t, err)
			require.NoError(t, s.SendData("x"))
			w.expect(chunk("data: x\n\n"))
		}
		testkit.GoroutinesBackTo(t, few)
	})
	testkit.GoroutinesBackTo(t, before)
}

// The system gives a new connection the file descriptor of one that has just been closed. No
// session may be ended because of another one that has had its descriptor.
func TestDetachDescriptorsAreUsedAgain(t *testing.T) {
	t.Parallel()
	const workers, each = 4, 200
	d := newDetachServer(t, overTCP, sse.Config{Heartbeat: sse.Heartbeat{Period: -1}})
	kept := make(chan *detached, workers*each)
	var all sync.WaitGroup
	var mu sync.Mutex // held from a connect until it has the session of its own connection
	for range workers {
		all.Go(func() {
			for i := range each {
				mu.Lock()
				s, w := d.connectReturned()
				mu.Unlock()
				switch i % 4 {
				case 0:
					w.tcp.Close()
				case 1:
					s.Close()
				case 2:
					go s.Close()
					w.tcp.Close()
				default:
					if i%20 == 19 {
						kept <- s
						continue
					}
					_ = w.tcp.SetLinger(0)
					w.tcp.Close()
				}
				<-s.Done()
				want := []error{sse.ErrClientGone, sse.ErrClosed}
				switch i % 4 {
				case 1:
					want = want[1:]
				case 0, 3:
					want = want[:1]
				}
				assert.Contains(t, want, context.Cause(s.Context()))
			}
		})
	}
	all.Wait()
	close(kept)
	require.Len(t, kept, workers*each/20)
	testkit.Eventually(t, func() bool { return d.Plugin().Len() == len(kept) }, "the end of the other sessions")
	for s := range kept {
		require.NoError(t, s.Context().Err(), "the wrong session was ended")
		require.NoError(t, s.SendData("x"))
	}
}
