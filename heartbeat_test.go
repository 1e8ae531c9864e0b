package sse_test

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

// sendAt returns a handler that sends an event at each of the times after its start, with
// that time as the data, and returns after the last.
func sendAt(times ...time.Duration) sse.Handler {
	return func(s *sse.ServerSession) error {
		began := time.Now()
		for _, at := range times {
			select {
			case <-s.Done():
				return nil
			case <-time.After(at - time.Since(began)):
			}
			if err := s.SendData(at.String()); err != nil {
				return err
			}
		}
		return nil
	}
}

// blocksOf returns the blocks that a client of r receives from "/", each with the time at
// which it came, in whole milliseconds since the request.
func blocksOf(t *testing.T, r *sse.Router) []string {
	t.Helper()
	began := time.Now()
	s := servePipe(t, r).connect("/")
	var all []string
	for ev, err := range s.dec.All() {
		require.NoError(t, err)
		what := ev.Data
		if ev.Name != "" {
			what = ev.Name + " " + what
		}
		if ev.Comment != "" {
			what += ":" + ev.Comment
		}
		all = append(all, fmt.Sprint(time.Since(began).Truncate(time.Millisecond), " ", what))
	}
	return all
}

func TestHeartbeatSchedule(t *testing.T) {
	t.Parallel()
	const sec = time.Second
	beat := sse.Event{Name: "beat"}
	provider := func() func() sse.Event {
		n := 0
		return func() sse.Event { n++; return sse.Event{Name: "beat", Data: fmt.Sprint(n)} }
	}
	for name, tt := range map[string]struct {
		cfg     sse.Config
		options []sse.RouteOption
		handler sse.Handler
		want    []string
	}{
		"by default a comment after 15 s of silence": {
			sse.Config{},
			nil, sendAt(0, 46*sec),
			[]string{"0s 0s", "15s :heartbeat", "30s :heartbeat", "45s :heartbeat", "46s 46s"},
		},
		"traffic pushes it back": {
			sse.Config{},
			nil, sendAt(0, 10*sec, 20*sec, 34*sec, 50*sec, 51*sec, 67*sec),
			[]string{"0s 0s", "10s 10s", "20s 20s", "34s 34s", "49s :heartbeat", "50s 50s", "51s 51s", "1m6s :heartbeat", "1m7s 1m7s"},
		},
		"a period of the plugin": {
			sse.Config{Heartbeat: sse.Heartbeat{Period: 2 * sec}},
			nil, sendAt(0, 1*sec, 6*sec),
			[]string{"0s 0s", "1s 1s", "3s :heartbeat", "5s :heartbeat", "6s 6s"},
		},
		"a period of the route": {
			sse.Config{Heartbeat: sse.Heartbeat{Period: 2 * sec}},
			[]sse.RouteOption{sse.WithHeartbeat(sse.Heartbeat{Period: 3 * sec})},
			sendAt(0, 7*sec),
			[]string{"0s 0s", "3s :heartbeat", "6s :heartbeat", "7s 7s"},
		},
		"none of the plugin": {
			sse.Config{Heartbeat: sse.Heartbeat{Period: -1}},
			nil, sendAt(0, time.Hour),
			[]string{"0s 0s", "1h0m0s 1h0m0s"},
		},
		"none of the route": {
			sse.Config{},
			[]sse.RouteOption{sse.WithHeartbeat(sse.Heartbeat{Period: -1})},
			sendAt(0, time.Hour),
			[]string{"0s 0s", "1h0m0s 1h0m0s"},
		},
		"a session that opens by itself": {
			sse.Config{},
			nil, sendAt(20 * sec),
			[]string{"500ms :open", "15.5s :heartbeat", "20s 20s"},
		},
		"an event of its own, beside traffic": {
			sse.Config{},
			[]sse.RouteOption{sse.WithHeartbeat(sse.Heartbeat{Period: 10 * sec, Event: beat})},
			sendAt(1*sec, 9*sec, 12*sec, 22*sec),
			[]string{"500ms :open", "500ms beat ", "1s 1s", "9s 9s", "10.5s beat ", "12s 12s", "20.5s beat ", "22s 22s"},
		},
		"an event with the plugin's period": {
			sse.Config{Heartbeat: sse.Heartbeat{Period: 10 * sec}},
			[]sse.RouteOption{sse.WithHeartbeat(sse.Heartbeat{Event: beat})},
			sendAt(0, 5*sec, 15*sec),
			[]string{"0s 0s", "0s beat ", "5s 5s", "10s beat ", "15s 15s"},
		},
		"an event of the plugin": {
			sse.Config{Heartbeat: sse.Heartbeat{Event: beat}},
			nil, sendAt(0, 31*sec),
			[]string{"0s 0s", "0s beat ", "15s beat ", "30s beat ", "31s 31s"},
		},
		"a provider": {
			sse.Config{},
			[]sse.RouteOption{sse.WithHeartbeat(sse.Heartbeat{Period: 10 * sec, Provider: provider()})},
			sendAt(0, 5*sec, 25*sec),
			[]string{"0s 0s", "0s beat 1", "5s 5s", "10s beat 2", "20s beat 3", "25s 25s"},
		},
		"a comment of its own": {
			sse.Config{},
			[]sse.RouteOption{sse.WithHeartbeat(sse.Heartbeat{Period: 10 * sec, Event: sse.Event{Comment: "tick"}})},
			sendAt(0, 5*sec, 15*sec),
			[]string{"0s 0s", "0s :tick", "5s 5s", "10s :tick", "15s 15s"},
		},
		"started by the handler": {
			sse.Config{},
			nil, func(s *sse.ServerSession) error {
				if err := s.Heartbeat(sse.Heartbeat{Period: 10 * sec, Event: beat}); err != nil {
					return err
				}
				return sendAt(5*sec, 15*sec, 21*sec)(s)
			},
			[]string{"0s beat ", "5s 5s", "10s beat ", "15s 15s", "20s beat ", "21s 21s"},
		},
		"started late by the handler": {
			sse.Config{},
			nil, func(s *sse.ServerSession) error {
				if err := sendAt(0, 7*sec)(s); err != nil {
					return err
				}
				if err := s.Heartbeat(sse.Heartbeat{Period: 10 * sec}); err != nil {
					return err
				}
				return sendAt(5*sec, 21*sec)(s)
			},
			[]string{"0s 0s", "7s 7s", "7s :heartbeat", "12s 5s", "22s :heartbeat", "28s 21s"},
		},
		"with the route's period": {
			sse.Config{},
			[]sse.RouteOption{sse.WithHeartbeat(sse.Heartbeat{Period: 10 * sec})},
			func(s *sse.ServerSession) error {
				if err := s.Heartbeat(sse.Heartbeat{Event: beat}); err != nil {
					return err
				}
				return sendAt(15 * sec)(s)
			},
			[]string{"0s beat ", "10s beat ", "15s 15s"},
		},
		"replaced": {
			sse.Config{},
			[]sse.RouteOption{sse.WithHeartbeat(sse.Heartbeat{Period: 2 * sec, Event: beat})},
			func(s *sse.ServerSession) error {
				if err := sendAt(0, 5*sec)(s); err != nil {
					return err
				}
				if err := s.Heartbeat(sse.Heartbeat{Period: 3 * sec, Event: sse.Event{Name: "other"}}); err != nil {
					return err
				}
				return sendAt(7 * sec)(s)
			},
			[]string{"0s 0s", "0s beat ", "2s beat ", "4s beat ", "5s 5s", "5s other ", "8s other ", "11s other ", "12s 7s"},
		},
		"replaced in the middle of a beat, which is let finish": {
			sse.Config{},
			[]sse.RouteOption{sse.WithHeartbeat(sse.Heartbeat{Period: time.Hour, Provider: func() sse.Event {
				time.Sleep(5 * sec)
				return beat
			}})},
			func(s *sse.ServerSession) error {
				if err := sendAt(0, 3*sec)(s); err != nil {
					return err
				}
				if err := s.Heartbeat(sse.Heartbeat{Period: 10 * sec, Event: sse.Event{Name: "other"}}); err != nil {
					return err
				}
				return sendAt(17 * sec)(s)
			},
			[]string{"0s 0s", "3s 3s", "5s beat ", "5s other ", "15s other ", "20s 17s"},
		},
		"stopped by the handler": {
			sse.Config{},
			[]sse.RouteOption{sse.WithHeartbeat(sse.Heartbeat{Period: 2 * sec, Event: beat})},
			func(s *sse.ServerSession) error {
				if err := sendAt(0, 5*sec)(s); err != nil {
					return err
				}
				if err := s.Heartbeat(sse.Heartbeat{Period: -1}); err != nil {
					return err
				}
				return sendAt(time.Hour)(s)
			},
			[]string{"0s 0s", "0s beat ", "2s beat ", "4s beat ", "5s 5s", "1h0m5s 1h0m0s"},
		},
		"stopped before it opens, which it does all the same": {
			sse.Config{},
			nil, func(s *sse.ServerSession) error {
				if err := s.Heartbeat(sse.Heartbeat{Period: -1}); err != nil {
					return err
				}
				return sendAt(time.Hour)(s)
			},
			[]string{"500ms :open", "1h0m0s 1h0m0s"},
		},
		"stopped and started again": {
			sse.Config{},
			nil, func(s *sse.ServerSession) error {
				for _, period := range []time.Duration{-1, 2 * sec, -1, 4 * sec} {
					if err := s.Heartbeat(sse.Heartbeat{Period: period, Event: sse.Event{Name: "beat", Data: period.String()}}); err != nil {
						return err
					}
					time.Sleep(5 * sec)
				}
				return nil
			},
			[]string{"500ms :open", "5s beat 2s", "7s beat 2s", "9s beat 2s", "15s beat 4s", "19s beat 4s"},
		},
		"stopped by the end, which Close is": {
			sse.Config{},
			[]sse.RouteOption{sse.WithHeartbeat(sse.Heartbeat{Period: 2 * sec, Provider: provider()})},
			func(s *sse.ServerSession) error {
				if err := sendAt(0, 3*sec)(s); err != nil {
					return err
				}
				s.Close()
				time.Sleep(time.Hour)
				return nil
			},
			[]string{"0s 0s", "0s beat 1", "2s beat 2", "3s 3s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(tt.cfg)
				r.SSE("/", tt.handler, tt.options...)
				require.Equal(t, tt.want, blocksOf(t, r))
			})
		})
	}
}

func TestHeartbeatIsAskedForNoMoreAfterTheEnd(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(s *sse.ServerSession){
		"return": func(*sse.ServerSession) {},
		"close":  func(s *sse.ServerSession) { s.Close(); time.Sleep(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var asked, atEnd atomic.Int64
				r := newRouter(sse.Config{})
				r.SSE("/", func(s *sse.ServerSession) error {
					if err := s.Heartbeat(sse.Heartbeat{Period: time.Second, Provider: func() sse.Event {
						asked.Add(1)
						return sse.Event{Name: "beat"}
					}}); err != nil {
						return err
					}
					time.Sleep(3500 * time.Millisecond)
					atEnd.Store(asked.Load())
					end(s)
					return nil
				})
				require.Len(t, blocksOf(t, r), 4)
				time.Sleep(time.Hour)
				require.EqualValues(t, 4, atEnd.Load())
				require.EqualValues(t, 4, asked.Load())
			})
		})
	}
}

func TestHeartbeatCountsAsHeartbeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var beats, others, bytes int
		var cfg sse.Config
		ends := endsOf(&cfg)
		cfg.OnSend = func(_ *sse.ServerSession, s sse.Sent) {
			mu.Lock()
			defer mu.Unlock()
			if bytes += s.Bytes; s.Heartbeat {
				beats++
			} else {
				others++
			}
		}
		r := newRouter(cfg)
		r.SSE("/", sendAt(0, 20*time.Second, 40*time.Second))
		require.Len(t, blocksOf(t, r), 5)
		e := <-ends
		require.EqualValues(t, 3, e.Events, "heartbeats are not events")
		require.EqualValues(t, bytes, e.Bytes)
		require.EqualValues(t, len("data: 0s\n\ndata: 20s\n\ndata: 40s\n\n")+2*len(": heartbeat\n\n"), e.Bytes)
		require.Equal(t, 2, beats)
		require.Equal(t, 3, others)
	})
}

func TestHeartbeatFindsAClientThatIsDead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var cfg sse.Config
		ends := endsOf(&cfg)
		r := newRouter(cfg)
		r.SSE("/", untilDone)
		s := servePipe(t, r).connect("/")
		require.Equal(t, "open", s.next().Data)
		e := <-ends // the client does not read any longer
		require.NotEqual(t, sse.EndReturned, e.Reason)
		require.Equal(t, 25*time.Second, e.Duration, "a heartbeat after 15 s, and 10 s until its write times out")
	})
}

func TestHeartbeatProviderPanics(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		at   int // the call that panics
		want string
	}{
		"in the handler's call": {1, ""},
		"later":                 {3, "event: beat\ndata: \n\nevent: beat\ndata: \n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				logs := testkit.NewLog()
				var cfg sse.Config
				cfg.Logger = logs.Logger()
				ends := endsOf(&cfg)
				r := newRouter(cfg)
				calls := 0
				r.SSE("/", func(s *sse.ServerSession) error {
					err := s.Heartbeat(sse.Heartbeat{Period: time.Second, Provider: func() sse.Event {
						if calls++; calls == tt.at {
							panic("in the provider")
						}
						return sse.Event{Name: "beat"}
					}})
					if err != nil {
						return err
					}
					<-s.Done()
					return s.SendData("more")
				})
				r.Get("/alive", plain)
				p := servePipe(t, r)
				conn := p.dial("/")
				raw, _ := io.ReadAll(conn)
				if tt.want != "" {
					require.Contains(t, string(raw), "HTTP/1.1 200")
					require.NotContains(t, string(raw), "\r\n0\r\n\r\n", "the stream must have no last chunk")
				} else {
					require.Empty(t, raw)
				}
				e := <-ends
				require.Equal(t, sse.EndPanic, e.Reason)
				var panicked *sse.PanicError
				require.ErrorAs(t, e.Err, &panicked)
				require.Equal(t, "in the provider", panicked.Value)
				require.Contains(t, string(panicked.Stack), "TestHeartbeatProviderPanics")
				require.EqualValues(t, len(tt.want), e.Bytes)
				logged := logs.Entries("session ended")
				require.Len(t, logged, 1)
				require.Equal(t, slog.LevelError, logged[0].Level)
				require.Contains(t, logged[0].Attrs["stack"].String(), "TestHeartbeatProviderPanics")

				alive := p.get("/alive")
				require.Equal(t, http.StatusOK, alive.StatusCode)
				alive.leave()
			})
		})
	}
}

func TestHeartbeatEventThatCannotBeSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		logs := testkit.NewLog()
		r := newRouter(sse.Config{Logger: logs.Logger()})
		n := 0
		r.SSE("/", sendAt(0, 35*time.Second), sse.WithHeartbeat(sse.Heartbeat{Period: 10 * time.Second, Provider: func() sse.Event {
			if n++; n%2 == 0 {
				return sse.Event{Name: "a\nb"}
			}
			return sse.Event{Name: "beat"}
		}}))
		require.Equal(t, []string{"0s 0s", "0s beat ", "10s :heartbeat", "20s beat ", "30s :heartbeat", "35s 35s"}, blocksOf(t, r))
		logged := logs.Entries("heartbeat")
		require.Len(t, logged, 2)
		require.Equal(t, slog.LevelError, logged[0].Level)
		require.Contains(t, logged[0].Text, "Name holds a line feed")
	})
}

func TestHeartbeatErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var refused, late error
		r := newRouter(sse.Config{})
		r.SSE("/", func(s *sse.ServerSession) error {
			if err := s.SendData("x"); err != nil {
				return err
			}
			refused = s.Heartbeat(sse.Heartbeat{Period: time.Second, Event: sse.Event{ID: "a\nb"}})
			time.Sleep(20 * time.Second) // the heartbeat from before continues
			s.Close()
			late = s.Heartbeat(sse.Heartbeat{Period: time.Second})
			return nil
		})
		require.Equal(t, []string{"0s x", "15s :heartbeat"}, blocksOf(t, r))
		require.ErrorContains(t, refused, "sse: heartbeat: event: ID holds a line feed")
		require.ErrorIs(t, late, sse.ErrClosed)
	})
}

// Heartbeat returns ErrClosed for a session that has ended, even while its Provider is
// running.
func TestHeartbeatAfterTheEndInTheMiddleOfABeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var late error
		r := newRouter(sse.Config{})
		r.SSE("/", func(s *sse.ServerSession) error {
			if err := s.Open(); err != nil {
				return err
			}
			time.Sleep(time.Second) // the Provider is running
			s.Close()
			late = s.Heartbeat(sse.Heartbeat{Period: time.Second})
			return nil
		}, sse.WithHeartbeat(sse.Heartbeat{Provider: func() sse.Event {
			time.Sleep(5 * time.Second)
			return sse.Event{Name: "beat"}
		}}))
		require.Equal(t, []string{"0s :open"}, blocksOf(t, r))
		require.ErrorIs(t, late, sse.ErrClosed)
		time.Sleep(time.Hour)
	})
}

// The calls of a Provider never overlap, however long they take, so it needs no lock.
func TestHeartbeatProviderIsNeverAskedTwiceAtATime(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]func(s *sse.ServerSession, h sse.Heartbeat) error{
		"slower than the period": func(s *sse.ServerSession, h sse.Heartbeat) error {
			if err := s.Heartbeat(h); err != nil {
				return err
			}
			return sendAt(0, time.Second, time.Minute)(s)
		},
		"replaced in the middle of a beat": func(s *sse.ServerSession, h sse.Heartbeat) error {
			for range 3 {
				if err := s.Heartbeat(h); err != nil {
					return err
				}
				time.Sleep(3500 * time.Millisecond)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var running, most atomic.Int64
				h := sse.Heartbeat{Period: 2 * time.Second, Provider: func() sse.Event {
					most.Store(max(most.Load(), running.Add(1)))
					time.Sleep(5 * time.Second)
					running.Add(-1)
					return sse.Event{Name: "beat"}
				}}
				r := newRouter(sse.Config{})
				r.SSE("/", func(s *sse.ServerSession) error { return handler(s, h) })
				blocksOf(t, r)
				time.Sleep(time.Hour)
				require.EqualValues(t, 1, most.Load())
			})
		})
	}
}

// An idle session needs the goroutines of net/http and no others.
func TestHeartbeatTakesNoGoroutine(t *testing.T) {
	const clients = 50
	count := func(h http.Handler) int {
		srv := serve(t, h)
		before := runtime.NumGoroutine()
		streams := make([]*stream, clients)
		for i := range streams {
			streams[i] = connect(t, srv, "/")
			require.Equal(t, "open", streams[i].nextData())
		}
		taken := math.MaxInt
		for range 50 { // some heartbeats may be running at the moment
			taken = min(taken, runtime.NumGoroutine()-before)
			time.Sleep(time.Millisecond)
		}
		for _, s := range streams {
			s.leave()
		}
		testkit.GoroutinesBackTo(t, before)
		return taken
	}
	bare := count(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: open\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	r := newRouter(sse.Config{})
	r.SSE("/", untilDone, sse.WithHeartbeat(sse.Heartbeat{Period: 20 * time.Millisecond, Event: sse.Event{Name: "beat", Data: strings.Repeat("x", 100)}}))
	ours := count(r)
	require.InDelta(t, bare, ours, clients/10, "goroutines for %d clients", clients)
}

func TestDetachHeartbeats(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		d := newDetachServer(t, tr, sse.Config{Heartbeat: sse.Heartbeat{Period: 10 * time.Millisecond}})
		_, w := d.connectReturned()
		for range 5 {
			w.expect(chunk(": heartbeat\n\n"))
		}
	})
}

// A panic of a Provider ends the session with EndPanic.
func TestDetachHeartbeatThatPanics(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		var beats atomic.Int64
		d := newDetachServer(t, tr, sse.Config{Heartbeat: sse.Heartbeat{Period: time.Millisecond, Provider: func() sse.Event {
			if beats.Add(1) > 3 {
				panic(errOwn)
			}
			return sse.Event{Comment: "beat"}
		}}})
		s := receiveSession(t, d)
		e := d.ended(s)
		require.Equal(t, sse.EndPanic, e.Reason)
		var p *sse.PanicError
		require.ErrorAs(t, e.Err, &p)
		require.Equal(t, errOwn, p.Value)
	})
}
