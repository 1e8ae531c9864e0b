package sse_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/testkit"
)

func TestSessionRefusedEventLeavesItPending(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	var refused []error
	r.SSE("/", func(s *sse.ServerSession) error {
		for _, send := range []func() error{
			func() error { return s.Send(sse.Event{ID: "a\nb"}) },
			func() error { return s.Send(sse.Event{Name: "a\rb"}) },
			func() error { return s.Send(sse.Event{Data: "\xff"}) },
			func() error { return s.Send(sse.Event{Retry: -time.Second}) },
			func() error { return s.Comment("\xff") },
			func() error { return s.SendData("\xff") },
			func() error { return s.SendData([]byte("\xff")) },
			func() error { return s.SendTyped(sse.TypedEvent{ID: "\x00", Data: 1}) },
			func() error { return s.Heartbeat(sse.Heartbeat{Event: sse.Event{Name: "\n"}}) },
		} {
			refused = append(refused, send())
		}
		return sse.Error(http.StatusBadRequest, errors.New("nothing of it"))
	})
	rec := record(r, "GET", "/")
	require.Equal(t, http.StatusBadRequest, rec.Code)
	require.Contains(t, rec.Body.String(), "nothing of it")
	for i, err := range refused {
		var field *event.FieldError
		require.ErrorAs(t, err, &field, i)
		require.True(t, strings.HasPrefix(err.Error(), "sse: "), err)
		require.NotErrorIs(t, err, sse.ErrClosed)
	}
	require.ErrorContains(t, refused[0], "ID holds a line feed at byte 1")
}

func TestSessionProducersNeverInterleave(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			const producers, each = 8, 40
			r := newRouter(sse.Config{})
			r.SSE("/", func(s *sse.ServerSession) error {
				if err := s.Heartbeat(sse.Heartbeat{Period: time.Millisecond, Event: sse.Event{Name: "beat", Data: "thump"}}); err != nil {
					return err
				}
				var wg sync.WaitGroup
				for p := range producers {
					wg.Go(func() {
						letter := string(rune('a' + p))
						for i := range each {
							size := 1 + i*7
							if i%10 == 9 {
								size = 100_000 + i // larger than every buffer on the way
							}
							data := strings.Repeat(letter, size)
							id := fmt.Sprintf("%s%d", letter, i)
							var err error
							switch i % 4 {
							case 0:
								err = s.Send(sse.Event{ID: id, Name: letter, Data: data})
							case 1:
								err = s.SendTyped(sse.TypedEvent{ID: id, Name: letter, Data: data})
							case 2:
								err = s.SendTyped(sse.TypedEvent{ID: id, Name: letter, Data: []byte(data + "\n" + data)})
							case 3:
								err = errors.Join(s.Comment(data), s.Send(sse.Event{ID: id, Name: letter, Data: data}))
							}
							assert.NoError(t, err)
						}
					})
				}
				wg.Wait()
				return nil
			}, sse.WithSerializer(sse.Text))
			s := connect(t, serve(t, r, proto.Setup), "/")
			next := map[string]int{}
			comments, beats := 0, 0
			for ev, err := range s.dec.All() {
				require.NoError(t, err)
				switch {
				case ev.Name == "beat":
					require.Equal(t, "thump", ev.Data)
					beats++
				case ev.Comment != "":
					require.Equal(t, strings.Repeat(ev.Comment[:1], len(ev.Comment)), ev.Comment)
					require.Empty(t, ev.Data)
					comments++
				default:
					require.Equal(t, fmt.Sprintf("%s%d", ev.Name, next[ev.Name]), ev.ID)
					text := strings.ReplaceAll(ev.Data, "\n", "")
					require.Equal(t, strings.Repeat(ev.Name, len(text)), text)
					next[ev.Name]++
				}
			}
			require.Len(t, next, producers)
			for name, n := range next {
				require.Equal(t, each, n, name)
			}
			require.Equal(t, producers*each/4, comments)
			require.NotZero(t, beats)
		})
	}
}

// A pipe has no buffer, so a client that does not read blocks the write at once.
func TestSessionWriteTimeout(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cfg     sse.Config
		options []sse.RouteOption
		want    time.Duration
	}{
		"default":       {sse.Config{}, nil, 10 * time.Second},
		"of the plugin": {sse.Config{WriteTimeout: time.Second}, nil, time.Second},
		"of the route":  {sse.Config{WriteTimeout: time.Second}, []sse.RouteOption{sse.WithWriteTimeout(time.Minute)}, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				logs := testkit.NewLog()
				tt.cfg.Logger = logs.Logger()
				// The opening and the heartbeat would wait for the lock that the write holds, and a
				// goroutine that waits for a lock stops the time of the bubble.
				tt.cfg.OpenDelay, tt.cfg.Heartbeat.Period = -1, -1
				ends := endsOf(&tt.cfg)
				var sent []sse.Sent
				tt.cfg.OnSend = func(_ *sse.ServerSession, s sse.Sent) { sent = append(sent, s) }
				r := newRouter(tt.cfg)
				r.SSE("/", func(s *sse.ServerSession) error {
					testkit.NoError(t, s.SendData("read"))
					time.Sleep(tt.want / 50)
					began := time.Now()
					err := s.SendData("not read")
					took := time.Since(began)
					assert.LessOrEqual(t, took, tt.want)
					assert.Greater(t, took, tt.want*9/10)
					testkit.ErrorIs(t, err, sse.ErrWriteTimeout)
					assert.True(t, strings.HasPrefix(err.Error(), "sse: write timeout after "+tt.want.String()), err)
					<-s.Done()
					testkit.ErrorIs(t, context.Cause(s.Context()), sse.ErrWriteTimeout)
					again := s.SendData("more")
					testkit.ErrorIs(t, again, sse.ErrClosed)
					assert.ErrorIs(t, again, sse.ErrWriteTimeout)
					return err
				}, tt.options...)
				s := servePipe(t, r).connect("/")
				require.Equal(t, "read", s.next().Data)
				e := <-ends
				require.Equal(t, sse.EndWriteTimeout, e.Reason)
				require.ErrorIs(t, e.Err, sse.ErrWriteTimeout)
				require.EqualValues(t, 1, e.Events)
				require.EqualValues(t, len("data: read\n\n"), e.Bytes)
				require.Len(t, sent, 2)
				require.NoError(t, sent[0].Err)
				require.ErrorIs(t, sent[1].Err, sse.ErrWriteTimeout)
				require.Greater(t, sent[1].Duration, tt.want*9/10)
				logged := logs.Entries("session ended")
				require.Len(t, logged, 1)
				require.Equal(t, slog.LevelWarn, logged[0].Level)
				_, err := s.rest()
				require.Error(t, err)
			})
		})
	}
}

// Each write has the whole write timeout, however long after the previous one it comes.
func TestSessionWriteTimeoutIsOfEachWrite(t *testing.T) {
	t.Parallel()
	for _, pause := range []time.Duration{0, time.Millisecond, 300 * time.Millisecond, 9 * time.Second, time.Hour} {
		t.Run(pause.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(sse.Config{OpenDelay: -1, Heartbeat: sse.Heartbeat{Period: -1}}) // as in TestSessionWriteTimeout
				r.SSE("/", func(s *sse.ServerSession) error {
					for i := range 40 {
						if err := s.SendData(i); !assert.NoError(t, err) {
							return err
						}
						time.Sleep(pause)
					}
					return nil
				})
				s := servePipe(t, r).connect("/")
				for i := range 40 {
					require.Equal(t, fmt.Sprint(i), s.nextData())
					time.Sleep(9 * time.Second) // slow, but within the write timeout of 10 s
				}
				s.end()
			})
		})
	}
}

func TestSessionClientThatStopsReadingIsCutOff(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			const timeout = 500 * time.Millisecond
			var cfg sse.Config
			cfg.WriteTimeout = timeout
			ends := endsOf(&cfg)
			r := newRouter(cfg)
			data := strings.Repeat("x", 64<<10)
			r.SSE("/flood", func(s *sse.ServerSession) error {
				for {
					began := time.Now()
					if err := s.SendData(data); err != nil {
						assert.Less(t, time.Since(began), timeout+5*time.Second)
						assert.ErrorIs(t, err, sse.ErrWriteTimeout)
						return err
					}
				}
			})
			r.SSE("/clock", func(s *sse.ServerSession) error {
				for {
					if err := s.SendData("tick"); err != nil {
						return err
					}
					select {
					case <-s.Done():
						return nil
					case <-time.After(10 * time.Millisecond):
					}
				}
			})
			srv := serve(t, r, smallSendBuffer, proto.Setup)
			other := connect(t, srv, "/clock")
			var stop sync.WaitGroup
			defer stop.Wait()
			defer other.leave()
			slowest := make(chan time.Duration, 1)
			cut := make(chan struct{})
			stop.Go(func() {
				var gap time.Duration
				for last := time.Now(); ; last = time.Now() {
					if _, err := other.dec.Decode(); !assert.NoError(t, err) {
						return
					}
					gap = max(gap, time.Since(last))
					select {
					case <-cut:
						slowest <- gap
						return
					default:
					}
				}
			})

			if proto.Proto == "HTTP/1.1" {
				dialRaw(t, srv, "/flood")
			} else {
				tr := srv.Client().Transport.(*http.Transport)
				tr.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
				connect(t, srv, "/flood") // the connection may be the same as that of the other client
			}
			began := time.Now()
			e := testkit.Receive(t, ends)
			require.Equal(t, sse.EndWriteTimeout, e.Reason)
			require.GreaterOrEqual(t, time.Since(began), timeout*9/10-50*time.Millisecond)
			close(cut)
			require.Less(t, testkit.Receive(t, slowest), timeout, "the other client had to wait")
		})
	}
}
