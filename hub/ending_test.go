package hub_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// A client that reads gets everything that was published before the kick, each time.
func TestKickAfterTheLastEvent(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{})
		for i := range 50 {
			s := a.connect("/")
			m := receiveMember(t, a, "a")
			a.publish("a", sse.Event{Data: "last"})
			if i%2 == 0 {
				m.Kick(errOwn)
			} else {
				require.Equal(t, 1, a.kick("a", errOwn))
			}
			s.expect("last")
			s.expectEnd()
			e := a.end()
			require.Equal(t, sse.EndKicked, e.Reason)
			require.ErrorIs(t, e.Err, hub.ErrKicked)
		}
	})
}

// A kick is no fault of anybody's: it is logged at level Debug, as "kicked", also if the session
// has not opened.
func TestKickIsLogged(t *testing.T) {
	forEach(t, func(t *test) {
		for _, open := range []bool{true, false} {
			logs := testkit.NewLog()
			var a *app
			p := plan{sse: sse.Config{Logger: logs.Logger(), OpenDelay: -1}, sub: hub.Subscription{Topics: []string{"a"}}}
			if !open {
				p.sub.Snapshot = func(*sse.ServerSession, hub.Position) (hub.Position, error) {
					a.kick("a", errOwn)
					return hub.Position{}, nil
				}
			}
			a = t.start(p)
			s := a.connect("/")
			if open {
				receiveMember(t, a, "a").Kick(errOwn)
			}
			s.expectEnd()
			e := a.end()
			require.Equal(t, sse.EndKicked, e.Reason)
			require.Equal(t, open, e.Opened)
			var entry []testkit.Entry
			testkit.Eventually(t, func() bool { entry = logs.Entries("session ended"); return len(entry) == 1 }, "the log of the end")
			require.Equal(t, slog.LevelDebug, entry[0].Level)
			require.Contains(t, entry[0].Text, "kicked")
		}
	})
}

// The same for a member with many topics, whose news the hub keeps apart.
func TestKickAfterTheLastEventsOfManyTopics(t *testing.T) {
	forEach(t, func(t *test) {
		var topics, data []string
		for i := range 60 {
			topics = append(topics, fmt.Sprint("t", i))
			data = append(data, fmt.Sprint("event ", i))
		}
		a := t.start(plan{sub: hub.Subscription{Topics: topics}})
		for range 20 {
			s := a.connect("/")
			m := receiveMember(t, a, "t7")
			for i, topic := range topics {
				a.publish(topic, sse.Event{Data: data[i]})
			}
			m.Kick(errOwn)
			s.expect(data...)
			s.expectEnd()
			a.end()
		}
	})
}

// A kick cuts at the hub's head, however many events are published at the time.
func TestKickBesidePublishers(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{})
		for range 10 {
			var streams []*stream
			for range 4 {
				streams = append(streams, a.connect("/"))
			}
			a.joined("a", len(streams))
			stop := make(chan struct{})
			var all sync.WaitGroup
			for range 3 {
				all.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						_, err := a.Publish(context.Background(), "a", sse.Event{Data: "x"})
						testkit.NoError(t, err)
						time.Sleep(20 * time.Microsecond)
					}
				})
			}
			time.Sleep(2 * time.Millisecond)
			before := a.Position()
			require.Equal(t, len(streams), a.kick("a", nil))
			after := a.Position()
			require.Zero(t, a.Count("a"))
			time.Sleep(2 * time.Millisecond)
			close(stop)
			all.Wait()
			for _, s := range streams {
				_, err := s.remaining()
				require.NoError(t, err)
				last, err := hub.ParsePosition(s.id)
				require.NoError(t, err)
				require.LessOrEqual(t, last.Offset, after.Offset, "published after the kick")
				require.GreaterOrEqual(t, last.Offset, before.Offset, "published before the kick")
			}
		}
	})
}

// remaining reads all blocks that are left. The error is nil if the stream ends in an orderly
// way.
func (s *stream) remaining() (data []string, err error) {
	for {
		b, err := s.tryBlock()
		switch {
		case err == io.EOF && b.text == "":
			return data, nil
		case err != nil:
			return data, err
		case !b.silent:
			data = append(data, b.Data)
		}
	}
}

// In each stage of a session, Kick takes the member out of its topics, nothing that comes
// after it reaches the client, and what came before it does if the client reads.
func TestKickInEachStage(t *testing.T) {
	for name, tt := range map[string]struct {
		plan  func(st *kickStage) plan
		start func(st *kickStage) *stream
		data  []string // that the client gets
		joins int
	}{
		"snapshot": {
			plan: func(st *kickStage) plan {
				return plan{sub: hub.Subscription{Snapshot: func(s *sse.ServerSession, at hub.Position) (hub.Position, error) {
					testkit.NoError(st.t, s.Send(sse.Event{Data: "first part"}))
					st.reached <- s
					<-st.goOn
					err := s.Send(sse.Event{Data: "second part"})
					for _, target := range []error{sse.ErrClosed, hub.ErrKicked, errOwn} {
						testkit.ErrorIs(st.t, err, target)
					}
					return at, err
				}}}
			},
			data: []string{"first part"},
		},
		"snapshot that ignores errors": {
			plan: func(st *kickStage) plan {
				return plan{sub: hub.Subscription{Snapshot: func(s *sse.ServerSession, at hub.Position) (hub.Position, error) {
					st.reached <- s
					<-st.goOn
					_ = s.Send(sse.Event{Data: "state"})
					return at, nil
				}}}
			},
		},
		"OnJoin": {
			plan: func(st *kickStage) plan {
				return plan{hub: hub.Config{OnJoin: func(m *hub.Member, topic string) {
					if topic == "a" {
						st.reached <- m.Session()
						<-st.goOn
					}
				}}}
			},
			joins: 1,
		},
		"idle": {
			start: func(st *kickStage) *stream {
				s := st.a.connect("/?topic=a&topic=b")
				st.reached <- receiveMember(st.t, st.a, "b").Session()
				return s
			},
			joins: 2,
		},
		"replay": {
			plan: func(*kickStage) plan {
				return plan{small: true, sub: hub.Subscription{Start: hub.Beginning}}
			},
			start: func(st *kickStage) *stream {
				for range 4 {
					st.a.publish("a", sse.Event{Data: strings.Repeat("x", 1<<18)})
				}
				s := st.a.connectSlow("/?topic=a&topic=b")
				_, err := s.r.Peek(1)
				require.NoError(st.t, err)
				for session := range st.a.plugin.Sessions() {
					st.reached <- session
				}
				return s
			},
			data: slices.Repeat([]string{strings.Repeat("x", 1<<18)}, 4),
		},
		"stalled": {
			plan: func(*kickStage) plan { return plan{small: true} },
			start: func(st *kickStage) *stream {
				s := st.a.connectSlow("/?topic=a&topic=b")
				st.reached <- receiveMember(st.t, st.a, "b").Session()
				st.a.blockWrite("a", s)
				st.a.publishN("a", 1, 2)
				return s
			},
			data:  []string{strings.Repeat(".", 1<<20), "1", "2"},
			joins: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				st := &kickStage{t: t, reached: make(chan *sse.ServerSession, 1), goOn: make(chan struct{})}
				var p plan
				if tt.plan != nil {
					p = tt.plan(st)
				}
				pr := &presence{t: t}
				cfg := pr.config()
				onJoin, stage := cfg.OnJoin, p.hub.OnJoin
				cfg.OnJoin = func(m *hub.Member, topic string) {
					onJoin(m, topic)
					if stage != nil {
						stage(m, topic)
					}
				}
				p.hub = cfg
				a := t.start(p)
				st.a = a
				opened := make(chan *stream, 1)
				if tt.start != nil {
					opened <- tt.start(st)
				} else {
					go func() {
						if s, err := a.try(a.client, "/?topic=a&topic=b"); err == nil {
							opened <- s
						}
					}()
				}
				release := sync.OnceFunc(func() { close(st.goOn) })
				defer release()
				session := testkit.Receive(t, st.reached)

				kicked := time.Now()
				require.Equal(t, 1, a.kick("b", errOwn))
				require.Zero(t, a.Count("a"))
				require.Zero(t, a.Count("b"))
				require.Empty(t, slices.Collect(a.Members("a")))
				require.Zero(t, a.kick("a", nil), "it was kicked already")
				a.publish("a", sse.Event{Data: "too late"})
				err := session.Send(sse.Event{Data: "too late"})
				for _, target := range []error{sse.ErrClosed, hub.ErrKicked, errOwn} {
					require.ErrorIs(t, err, target)
				}
				require.ErrorIs(t, session.Comment("too late"), hub.ErrKicked)
				if name != "replay" && name != "stalled" { // it would wait for the write that is under way
					require.ErrorIs(t, session.Heartbeat(sse.Heartbeat{Period: time.Hour, Event: sse.Event{Data: "too late"}}), hub.ErrKicked)
				}
				release()

				s := testkit.Receive(t, opened)
				data, err := s.remaining()
				want := tt.data
				if err != nil { // it was cut off: on a busy machine it may not take all in the second that a kick leaves it
					require.GreaterOrEqual(t, time.Since(kicked), time.Second, "%v", err)
					require.Less(t, len(data), len(want), "%v", err)
					want = want[:len(data)]
				}
				if strings.HasPrefix(name, "snapshot") {
					require.Empty(t, s.id, "a client that has not got the snapshot must not resume as if it had")
				}
				require.Equal(t, want, data)
				for _, cause := range pr.left(tt.joins) {
					require.ErrorIs(t, cause, hub.ErrKicked)
					require.ErrorIs(t, cause, errOwn)
				}
				e := a.end()
				require.Equal(t, sse.EndKicked, e.Reason)
				require.ErrorIs(t, e.Err, errOwn)
				testkit.Eventually(t, func() bool { return a.Stats().Members == 0 }, "the member to leave")
				require.Equal(t, 1, a.Stats().Topics, "only that of the event is left")
				require.Equal(t, tt.joins, pr.joins)
			})
		})
	}
}

// kickStage is a session that a test has brought to a stage of its life.
type kickStage struct {
	t       *test
	a       *app
	reached chan *sse.ServerSession
	goOn    chan struct{}
}

// A client that does not read is gone from its topics at once, and cut off after a second.
func TestKickOfAClientThatDoesNotRead(t *testing.T) {
	forEach(t, func(t *test) {
		left := make(chan error, 1)
		a := t.start(plan{
			small: true, sse: sse.Config{WriteTimeout: time.Hour},
			hub: hub.Config{OnLeave: func(_ *hub.Member, _ string, cause error) { left <- cause }},
		})
		s := a.connectSlow("/")
		a.joined("a", 1)
		a.blockWrite("a", s)
		a.publishN("a", 1, 3)
		began := time.Now()
		require.Equal(t, 1, a.kick("a", errOwn))
		require.Zero(t, a.Count("a"))
		require.ErrorIs(t, testkit.Receive(t, left), errOwn)
		require.Less(t, time.Since(began), 800*time.Millisecond, "OnLeave is called without waiting for the client")
		require.ErrorIs(t, a.end().Err, hub.ErrKicked)
		require.Less(t, time.Since(began), 5*time.Second)
		require.GreaterOrEqual(t, time.Since(began), time.Second)
		_, err := s.rest()
		require.Error(t, err, "an incomplete event must not look like an orderly end")
	})
}

// The bound of a kick holds for a send of the application as well.
func TestKickWhileTheApplicationSends(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{small: true, sse: sse.Config{WriteTimeout: time.Hour}})
		s := a.connectSlow("/")
		m := receiveMember(t, a, "a")
		require.NotEmpty(t, s.block().ID)
		sent := make(chan error, 1)
		go func() { sent <- m.Session().Send(sse.Event{Data: strings.Repeat(".", 4<<20)}) }()
		_, err := s.r.Peek(1)
		require.NoError(t, err)
		a.publish("a", sse.Event{Data: "1"})
		m.Kick(errOwn)
		require.Zero(t, a.Count("a"))
		require.Error(t, testkit.Receive(t, sent))
		require.ErrorIs(t, a.end().Err, errOwn)
		testkit.Eventually(t, func() bool { return a.Stats().Members == 0 }, "the member to leave")
	})
}

func TestKickInTheHooks(t *testing.T) {
	for name, in := range map[string]func(p *plan, kick func(m *hub.Member)){
		"OnJoin": func(p *plan, kick func(m *hub.Member)) {
			p.hub.OnJoin = func(m *hub.Member, _ string) { kick(m) }
		},
		"OnLeave after Unsubscribe": func(p *plan, kick func(m *hub.Member)) {
			p.hub.OnJoin = func(m *hub.Member, topic string) {
				if topic == "b" {
					m.Unsubscribe("a")
				}
			}
			p.hub.OnLeave = func(m *hub.Member, _ string, _ error) { kick(m) }
		},
		"OnLeave after Kick": func(p *plan, kick func(m *hub.Member)) {
			p.hub.OnJoin = func(m *hub.Member, _ string) { kick(m) }
			p.hub.OnLeave = func(m *hub.Member, _ string, _ error) { kick(m) }
		},
		"Filter": func(p *plan, kick func(m *hub.Member)) {
			var mu sync.Mutex
			var member *hub.Member
			p.hub.OnJoin = func(m *hub.Member, topic string) {
				mu.Lock()
				defer mu.Unlock()
				member = m
			}
			p.sub.Filter = func(*hub.Message) bool {
				mu.Lock()
				m := member
				mu.Unlock()
				kick(m)
				return true
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				var p plan
				in(&p, func(m *hub.Member) {
					m.Kick(errOwn)
					testkit.ErrorIs(t, m.Session().Send(sse.Event{Data: "too late"}), errOwn)
				})
				a := t.start(p)
				s := a.connect("/?topic=a&topic=b")
				if name == "Filter" {
					a.joined("b", 1)
					a.publish("a", sse.Event{Data: "1"})
					s.expect("1")
				}
				s.expectEnd()
				require.ErrorIs(t, a.end().Err, errOwn)
				require.Zero(t, a.Count("a")+a.Count("b"))
			})
		})
	}
}

// A caller of Kick may hold a lock that OnLeave takes.
func TestKickDoesNotWaitForOnLeave(t *testing.T) {
	forEach(t, func(t *test) {
		var mu sync.Mutex
		left := make(chan struct{})
		a := t.start(plan{hub: hub.Config{OnLeave: func(*hub.Member, string, error) {
			mu.Lock()
			defer mu.Unlock()
			close(left)
		}}})
		s := a.connect("/")
		m := receiveMember(t, a, "a")
		mu.Lock()
		testkit.Within(t, func() { m.Kick(nil) })
		require.Empty(t, m.Topics())
		require.ErrorIs(t, m.Subscribe("x"), sse.ErrClosed)
		m.Unsubscribe("a")
		mu.Unlock()
		testkit.Receive(t, left)
		s.expectEnd()
		a.end()
	})
}

func TestKickDuringAShutdownAndTheReverse(t *testing.T) {
	for name, end := range map[string]func(a *app, down chan<- error){
		"Hub.Shutdown, Kick": func(a *app, down chan<- error) {
			go func() { down <- a.Shutdown(context.Background()) }()
			testkit.Eventually(a.t, func() bool {
				_, err := a.Publish(context.Background(), "other", sse.Event{})
				return err != nil
			}, "the shutdown to begin")
			assert.Equal(a.t, 1, a.kick("a", errOwn))
		},
		"Plugin.Shutdown, Kick": func(a *app, down chan<- error) {
			go func() { down <- a.plugin.Shutdown(context.Background()) }()
			time.Sleep(10 * time.Millisecond)
			assert.Equal(a.t, 1, a.kick("a", errOwn))
		},
		"Kick, Hub.Shutdown": func(a *app, down chan<- error) {
			assert.Equal(a.t, 1, a.kick("a", errOwn))
			go func() { down <- a.Shutdown(context.Background()) }()
		},
		"Kick, Plugin.Shutdown": func(a *app, down chan<- error) {
			assert.Equal(a.t, 1, a.kick("a", errOwn))
			go func() { down <- a.plugin.Shutdown(context.Background()) }()
		},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				left := make(chan error, 1)
				a := t.start(plan{small: true, hub: hub.Config{OnLeave: func(_ *hub.Member, _ string, cause error) { left <- cause }}})
				s := a.connectSlow("/")
				m := receiveMember(t, a, "a")
				a.blockWrite("a", s)
				a.publishN("a", 1, 3)
				down := make(chan error, 1)
				end(a, down)
				require.Zero(t, a.Count("a"))
				require.ErrorIs(t, testkit.Receive(t, left), errOwn)
				require.ErrorIs(t, m.Session().Send(sse.Event{Data: "too late"}), sse.ErrClosed)
				require.Equal(t, "large", s.event().Name)
				s.expectN(1, 3)
				s.expectEnd()
				require.NoError(t, testkit.Receive(t, down))
				a.end()
			})
		})
	}
}

// A kicked client that is cut off before it has been sent everything must not take that for the
// end of the stream, even if no write is under way.
func TestKickCutsOffInTheMiddle(t *testing.T) {
	forEach(t, func(t *test) {
		filtering, release := make(chan bool), make(chan bool)
		a := t.start(plan{sub: hub.Subscription{Filter: func(m *hub.Message) bool {
			if m.Event.Data == "2" {
				close(filtering)
				<-release
			}
			return true
		}}})
		s := a.connect("/")
		a.joined("a", 1)
		a.publishN("a", 1, 1)
		s.expect("1")
		a.publishN("a", 2, 3)
		testkit.Receive(t, filtering)
		require.Equal(t, 1, a.kick("a", nil))
		require.ErrorIs(t, a.end().Err, hub.ErrKicked)
		rest, err := s.rest()
		require.Error(t, err, "the stream looks complete: %q", rest)
		close(release)
	})
}

// A session that is kicked at the end of its opening is still sent what was published before.
func TestKickAtTheEndOfTheOpening(t *testing.T) {
	forEach(t, func(t *test) {
		var a *app
		a = t.start(plan{sub: hub.Subscription{Start: hub.Beginning, Filter: func(m *hub.Message) bool {
			if m.Event.Data == "1" {
				a.publish("a", sse.Event{Data: "2"})
				a.kick("a", nil)
			}
			return true
		}}})
		a.publish("a", sse.Event{Data: "1"})
		s := a.connect("/")
		s.expect("1", "2")
		s.expectEnd()
	})
}
