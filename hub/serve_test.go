package hub_test

import (
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

func TestServeRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		sub  hub.Subscription
		text string
	}{
		"empty topic": {hub.Subscription{Topics: []string{"a", ""}}, "hub: serve: the topic must not be empty"},
		"no policy":   {hub.Subscription{Slow: 3}, "hub: serve: Subscription.Slow is 3, but must be SlowEnd, SlowSkip or SlowLatest"},
		"too many topics": {
			hub.Subscription{Topics: []string{"a", "b", "c", "d", "e", "f"}},
			"hub: serve: a member may follow at most 5 topics (Config.MaxTopics)",
		},
		"Key with SlowEnd": {
			hub.Subscription{Key: func(*hub.Message) string { return "" }},
			"hub: serve: Subscription.Key must be nil unless Slow is SlowLatest",
		},
		"Key with SlowSkip": {
			hub.Subscription{Slow: hub.SlowSkip, Key: func(*hub.Message) string { return "" }},
			"hub: serve: Subscription.Key must be nil unless Slow is SlowLatest",
		},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				a := t.start(plan{hub: hub.Config{MaxTopics: 5}, serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
					if s.Call().URL.Query().Has("status") {
						return h.Serve(s, tt.sub)
					}
					assert.Equal(t, tt.text, fmt.Sprint(h.Serve(s, tt.sub)))
					return h.Serve(s, sub) // the error has left the session unchanged
				}})
				require.Equal(t, 500, a.dial("/?status").StatusCode)
				require.Equal(t, sse.EndHandlerError, a.end().Reason)
				s := a.connect("/")
				a.publish("a", sse.Event{Data: "1"})
				s.expect("1")
			})
		})
	}
}

// Serve works with a session that is open already, and returns the session's error for one
// that has ended.
func TestServeASessionThatIsNotNew(t *testing.T) {
	forEach(t, func(t *test) {
		errs := make(chan error, 1)
		a := t.start(plan{serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
			testkit.NoError(t, s.Send(sse.Event{Data: "before"}))
			if s.Call().URL.Query().Has("closed") {
				s.Close()
				err := h.Serve(s, sub)
				errs <- err
				return err
			}
			return h.Serve(s, sub)
		}})
		s := a.connect("/")
		s.expect("before")
		a.joined("a", 1)
		a.publish("a", sse.Event{Data: "1"})
		s.expect("1")

		s = a.connect("/?closed")
		s.expect("before")
		s.expectEnd()
		require.ErrorIs(t, testkit.Receive(t, errs), sse.ErrClosed)
		require.Equal(t, sse.EndClosed, a.end().Reason)

		// It is too late for the header of a gap, but not for the event.
		s = a.resume("/", "nonsense")
		s.expect("before")
		s.expectGap()
	})
}

func TestServeTwice(t *testing.T) {
	forEach(t, func(t *test) {
		errs := make(chan error, 2)
		var h2 *hub.Hub
		a := t.start(plan{
			hub: hub.Config{},
			serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
				done := make(chan struct{})
				sub.Snapshot = func(s *sse.ServerSession, at hub.Position) (hub.Position, error) {
					defer close(done)
					errs <- h.Serve(s, hub.Subscription{Topics: []string{"a"}})
					errs <- h2.Serve(s, hub.Subscription{Topics: []string{"a"}})
					return at, s.Send(sse.Event{Data: "1"})
				}
				return h.Serve(s, sub)
			},
		})
		var err error
		h2, err = hub.New(hub.Config{Detached: t.detached})
		require.NoError(t, err)
		s := a.connect("/")
		s.expect("1")
		for range 2 {
			require.EqualError(t, testkit.Receive(t, errs), "hub: serve: a hub already serves this session")
		}
		require.Zero(t, h2.Stats().Members)
		a.publish("a", sse.Event{Data: "2"})
		s.expect("2")
	})
}

// If Serve fails before the session is open, it releases the session, and can be called
// again.
func TestServeAfterAFailure(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
			bad := sub
			bad.Snapshot = func(_ *sse.ServerSession, at hub.Position) (hub.Position, error) { return at, errOwn }
			testkit.ErrorIs(t, h.Serve(s, bad), errOwn)
			return h.Serve(s, sub)
		}})
		s := a.connect("/")
		a.publish("a", sse.Event{Data: "1"})
		s.expect("1")
		a.joined("a", 1)
	})
}

// Serve returns when the session has ended, with the cause. If the session is detached it
// returns at once.
func TestServeReturns(t *testing.T) {
	forEach(t, func(t *test) {
		errs := make(chan error, 1)
		a := t.start(plan{serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
			err := h.Serve(s, sub)
			errs <- err
			return err
		}})
		s := a.connect("/")
		m := receiveMember(t, a, "a")
		if t.detached {
			require.NoError(t, testkit.Receive(t, errs))
		} else {
			require.Empty(t, errs)
		}
		require.Equal(t, 1, a.plugin.Len())
		m.Kick(errOwn)
		s.expectEnd()
		if !t.detached {
			require.ErrorIs(t, testkit.Receive(t, errs), errOwn)
		}
		require.Equal(t, sse.EndKicked, a.end().Reason)
	})
}

// After Serve has returned for a detached session, the handler can still send, and an error
// that it returns ends the session.
func TestServeAndAnErrorOfTheHandlerBehindIt(t *testing.T) {
	for name, tt := range map[string]struct {
		end    func(s *sse.ServerSession) error
		reason sse.EndReason
	}{
		"error": {func(*sse.ServerSession) error { return errOwn }, sse.EndHandlerError},
		"panic": {func(*sse.ServerSession) error { panic("of the handler") }, sse.EndPanic},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				left := make(chan error, 1)
				a := t.start(plan{
					hub: hub.Config{OnLeave: func(_ *hub.Member, _ string, cause error) { left <- cause }},
					serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
						err := h.Serve(s, sub)
						if t.detached {
							testkit.NoError(t, err)
							testkit.NoError(t, s.Send(sse.Event{Data: "last words"}))
						}
						return tt.end(s)
					},
					expects: []string{"of the handler"},
				})
				s := a.connect("/")
				if !t.detached {
					receiveMember(t, a, "a").Kick(nil)
					_, err := s.rest()
					require.Equal(t, name == "panic", err != nil)
				} else {
					s.expect("last words")
					_, err := s.rest()
					require.Equal(t, io.ErrUnexpectedEOF, err)
				}
				require.ErrorIs(t, testkit.Receive(t, left), sse.ErrClosed)
				e := a.end()
				if t.detached || name == "panic" {
					require.Equal(t, tt.reason, e.Reason)
				}
			})
		})
	}
}
