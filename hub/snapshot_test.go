package hub_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

func TestSnapshotIsTakenWhenItIsNeeded(t *testing.T) {
	forEach(t, func(t *test) {
		var taken atomic.Int32
		a := t.start(plan{
			hub: hub.Config{LogEvents: 5},
			sub: hub.Subscription{
				Start: hub.Beginning, // the snapshot replaces it
				Snapshot: func(s *sse.ServerSession, at hub.Position) (hub.Position, error) {
					taken.Add(1)
					return at, s.Send(sse.Event{Name: "state", Data: at.String()})
				},
			},
		})
		a.publishN("a", 1, 3)
		s := a.connect("/")
		requireNoGap(t, s)
		require.Equal(t, sse.Event{Name: "state", Data: a.Position().String()}, s.event(), "the snapshot comes first")
		require.Equal(t, a.Position().String(), s.block().ID, "the client can resume from there")
		require.EqualValues(t, 1, taken.Load())
		a.publishN("a", 4, 5)
		s.expectN(4, 5)
		s.leave()

		a.publishN("a", 6, 7)
		s = a.resume("/", s.id)
		requireNoGap(t, s)
		s.expectN(6, 7)
		require.EqualValues(t, 1, taken.Load(), "the log holds the missed events")
		s.leave()

		a.publishN("a", 8, 17)
		s = a.resume("/", s.id)
		require.Equal(t, "expired", s.Header.Get(hub.GapHeader))
		gap := s.expectGap()
		require.True(t, gap.Snapshot)
		require.Equal(t, "state", s.event().Name)
		a.publishN("a", 18, 19)
		s.expectN(18, 19)
		require.EqualValues(t, 2, taken.Load())
	})
}

func TestSnapshotWithoutAnEvent(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{sub: hub.Subscription{
			Snapshot: func(_ *sse.ServerSession, at hub.Position) (hub.Position, error) { return at, nil },
		}})
		a.publishN("a", 1, 3)
		s := a.connect("/")
		require.Equal(t, a.Position().String(), s.block().ID)
		a.publish("a", sse.Event{Data: "4"})
		s.expect("4")
	})
}

// The state and its position are taken under one lock. So the state and the events after it
// add up to the final state.
func TestSnapshotAndEventsAddUp(t *testing.T) {
	forEach(t, func(t *test) {
		const publishers, each, clients = 3, 60, 12
		var mu sync.Mutex
		sum := 0
		a := t.start(plan{serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
			sub.Topics = []string{"a", "b"}
			sub.Snapshot = func(s *sse.ServerSession, _ hub.Position) (hub.Position, error) {
				mu.Lock()
				state, pos := sum, h.Position()
				mu.Unlock()
				time.Sleep(time.Millisecond) // more events are published before the state is sent
				return pos, s.Send(sse.Event{Name: "state", Data: strconv.Itoa(state)})
			}
			return h.Serve(s, sub)
		}})
		change := func(by int) {
			mu.Lock()
			defer mu.Unlock()
			sum += by
			_, err := a.Publish(context.Background(), []string{"a", "b"}[by%2], sse.Event{Data: strconv.Itoa(by)})
			testkit.NoError(t, err)
		}
		var all, publishing sync.WaitGroup
		for i := range publishers {
			publishing.Go(func() {
				for n := range each {
					change(1000*i + n)
					time.Sleep(time.Duration(n%4) * 100 * time.Microsecond)
				}
			})
		}
		for i := range clients {
			all.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				got, id := 0, ""
				for { // the client reconnects after each few events
					var header []string
					if id != "" {
						header = []string{"Last-Event-ID", id}
					}
					s, err := a.try(a.client, "/", header...)
					if !testkit.NoError(t, err) {
						return
					}
					for range 10 + i {
						b, err := s.tryBlock()
						if !testkit.NoError(t, err) {
							return
						}
						switch {
						case b.Data == "end":
							mu.Lock()
							assert.Equal(t, sum, got)
							mu.Unlock()
							return
						case b.Name == "state":
							got, err = strconv.Atoi(b.Data)
							testkit.NoError(t, err)
						case !b.silent:
							by, err := strconv.Atoi(b.Data)
							testkit.NoError(t, err)
							got += by
						}
					}
					id = s.id
					s.leave()
				}
			})
		}
		publishing.Wait()
		a.publish("a", sse.Event{Data: "end"})
		done := make(chan struct{})
		go func() {
			all.Wait()
			close(done)
		}()
		for { // for clients that connect for the first time only now
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
				a.publish("a", sse.Event{Data: "end"})
			}
		}
	})
}

// A snapshot may be of a position before the hub's newest event.
func TestSnapshotOfAnOlderPosition(t *testing.T) {
	forEach(t, func(t *test) {
		var old hub.Position
		a := t.start(plan{
			hub: hub.Config{LogEvents: 5},
			serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
				sub.Snapshot = func(s *sse.ServerSession, _ hub.Position) (hub.Position, error) {
					return old, s.Send(sse.Event{Name: "state"})
				}
				return h.Serve(s, sub)
			},
		})
		old = a.publish("a", sse.Event{Data: "1"})
		a.publishN("a", 2, 4)
		s := a.connect("/")
		require.Equal(t, "state", s.event().Name)
		s.expectN(2, 4)
		s.leave()

		// If the log no longer holds every event after that position, the client is told of
		// a gap.
		a.publishN("a", 5, 10)
		s = a.connect("/")
		require.Equal(t, "state", s.event().Name)
		gap := s.expectGap()
		require.Equal(t, hub.GapExpired, gap.Reason)
		require.Equal(t, old.String(), gap.LastEventID)
		s.expectN(6, 10)
	})
}

// Events that are published while Snapshot runs come after the snapshot.
func TestSnapshotWhileEventsGoOn(t *testing.T) {
	forEach(t, func(t *test) {
		entered, leave := make(chan struct{}), make(chan struct{})
		a := t.start(plan{sub: hub.Subscription{
			Snapshot: func(s *sse.ServerSession, at hub.Position) (hub.Position, error) {
				close(entered)
				<-leave
				return at, s.Send(sse.Event{Name: "state"})
			},
		}})
		streams := make(chan *stream, 1)
		go func() {
			s, err := a.try(a.client, "/")
			testkit.NoError(t, err)
			streams <- s
		}()
		testkit.Receive(t, entered)
		a.publishN("a", 1, 100)
		require.Zero(t, a.Count("a"), "the member has not joined yet")
		close(leave)
		s := testkit.Receive(t, streams)
		require.Equal(t, "state", s.event().Name)
		s.expectN(1, 100)
	})
}

var errOwn = errors.New("an error of the application")

func TestSnapshotThatFails(t *testing.T) {
	type snapshot = func(s *sse.ServerSession, at hub.Position) (hub.Position, error)
	send := func(s *sse.ServerSession) { _ = s.Send(sse.Event{Name: "state"}) }
	for name, tt := range map[string]struct {
		snapshot snapshot
		status   int // 0: the stream is open, and is cut off
		reason   sse.EndReason
		is       error
	}{
		"status": {func(_ *sse.ServerSession, at hub.Position) (hub.Position, error) {
			return at, sse.Error(http.StatusForbidden, errOwn)
		}, http.StatusForbidden, sse.EndStatus, errOwn},
		"error": {
			func(_ *sse.ServerSession, at hub.Position) (hub.Position, error) { return at, errOwn },
			http.StatusInternalServerError, sse.EndHandlerError, errOwn,
		},
		"panic": {
			func(*sse.ServerSession, hub.Position) (hub.Position, error) { panic("of the application") },
			http.StatusInternalServerError, sse.EndPanic, nil,
		},
		"no position": {
			func(*sse.ServerSession, hub.Position) (hub.Position, error) { return hub.Position{}, nil },
			http.StatusInternalServerError, sse.EndHandlerError, nil,
		},
		"another epoch": {func(_ *sse.ServerSession, at hub.Position) (hub.Position, error) {
			at.Epoch++
			return at, nil
		}, http.StatusInternalServerError, sse.EndHandlerError, nil},
		"a position ahead": {func(_ *sse.ServerSession, at hub.Position) (hub.Position, error) {
			at.Offset++
			return at, nil
		}, http.StatusInternalServerError, sse.EndHandlerError, nil},
		"error too late": {func(s *sse.ServerSession, at hub.Position) (hub.Position, error) {
			send(s)
			return at, sse.Error(http.StatusForbidden, errOwn)
		}, 0, sse.EndHandlerError, errOwn},
		"panic too late": {func(s *sse.ServerSession, _ hub.Position) (hub.Position, error) {
			send(s)
			panic("of the application")
		}, 0, sse.EndPanic, nil},
		"ahead too late": {func(s *sse.ServerSession, at hub.Position) (hub.Position, error) {
			send(s)
			at.Offset++
			return at, nil
		}, 0, sse.EndHandlerError, nil},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				var joins atomic.Int32
				a := t.start(plan{
					hub: hub.Config{
						OnJoin:  func(*hub.Member, string) { joins.Add(1) },
						OnLeave: func(*hub.Member, string, error) { joins.Add(1) },
					},
					sub:     hub.Subscription{Snapshot: tt.snapshot},
					expects: []string{"of the application"},
				})
				a.publish("a", sse.Event{Data: "1"})
				s, err := a.try(a.client, "/")
				switch {
				case tt.reason == sse.EndPanic && tt.status != 0: // net/http closes the connection
					require.Error(t, err)
				case tt.status != 0:
					require.NoError(t, err)
					require.Equal(t, tt.status, s.StatusCode)
				default:
					require.NoError(t, err)
					require.Equal(t, "state", s.event().Name)
					_, err := s.rest()
					require.Error(t, err, "the stream must not look complete")
					require.NotEqual(t, io.EOF, err)
				}
				e := a.end()
				require.Equal(t, tt.reason, e.Reason)
				require.Equal(t, tt.status == 0, e.Opened)
				if tt.is != nil {
					require.ErrorIs(t, e.Err, tt.is)
				}
				if strings.Contains(name, "position") || strings.Contains(name, "ahead") || strings.Contains(name, "epoch") {
					var snapshotError *hub.SnapshotError
					require.ErrorAs(t, e.Err, &snapshotError)
					require.Contains(t, e.Err.Error(), snapshotError.Position.String())
				}
				require.Zero(t, joins.Load(), "the member has never joined")
				require.Zero(t, a.Count("a"))
				require.Equal(t, 1, a.Stats().Topics)
			})
		})
	}
}

// After a gap the session is open, so a Snapshot that fails cuts the stream off.
func TestSnapshotThatFailsAfterAGap(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{sub: hub.Subscription{
			Snapshot: func(_ *sse.ServerSession, at hub.Position) (hub.Position, error) { return at, errOwn },
		}})
		s := a.resume("/", "nonsense")
		s.expectGap()
		_, err := s.rest()
		require.Error(t, err)
		require.ErrorIs(t, a.end().Err, errOwn)
		require.Equal(t, "nonsense", s.id, "the client has not got the state, and the gap is not over")
	})
}
