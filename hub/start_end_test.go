package hub_test

import (
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// calls are the names of hooks, in the order of their calls.
type calls struct {
	mu    sync.Mutex
	names []string
	cause error // of OnEnd
}

func (c *calls) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names = append(c.names, name)
}

// expect waits for OnClose, and asserts that these calls have come. It returns OnEnd's cause.
func (c *calls) expect(t *test, want ...string) error {
	t.Helper()
	testkit.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.Contains(c.names, "close")
	}, "OnClose")
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Equal(t, want, c.names)
	return c.cause
}

// startCalls starts an app whose hooks are recorded. OnStart returns refuse. At the end of
// everything, sent is what OnSend was told last.
func startCalls(t *test, refuse error, sub hub.Subscription) (*app, *calls) {
	c := new(calls)
	sub.Topics = []string{"a", "b"}
	sub.OnStart = func(s *sse.ServerSession) error {
		c.add("start")
		return refuse
	}
	sub.OnEnd = func(cause error) {
		c.cause = cause
		c.add("end")
	}
	return t.start(plan{
		sub: sub,
		sse: sse.Config{
			OnOpen:  func(*sse.ServerSession) { c.add("open") },
			OnClose: func(*sse.ServerSession, sse.End) { c.add("close") },
		},
		hub: hub.Config{
			OnJoin:  func(_ *hub.Member, topic string) { c.add("join " + topic) },
			OnLeave: func(_ *hub.Member, topic string, _ error) { c.add("leave " + topic) },
		},
	}), c
}

func TestOnStartAndOnEnd(t *testing.T) {
	forEach(t, func(t *test) {
		for name, end := range map[string]struct {
			f     func(a *app, s *stream)
			cause error
		}{
			"client":   {func(_ *app, s *stream) { s.leave() }, sse.ErrClientGone},
			"kick":     {func(a *app, _ *stream) { a.kick("a", errOwn) }, errOwn},
			"shutdown": {func(a *app, _ *stream) { require.NoError(t, a.Shutdown(t.Context())) }, sse.ErrShutdown},
			"finish": {func(a *app, _ *stream) {
				a.finish("a")
				a.finish("b")
			}, hub.ErrFinished},
			"close": {func(a *app, _ *stream) {
				for s := range a.plugin.Sessions() {
					s.Close()
				}
			}, sse.ErrClosed},
		} {
			a, c := startCalls(t, nil, hub.Subscription{})
			s := a.connect("/")
			a.joined("b", 1)
			end.f(a, s)
			require.ErrorIs(t, c.expect(t, "start", "open", "join a", "join b", "leave a", "leave b", "end", "close"), end.cause, name)
		}
	})
}

// A client that OnStart refuses has not begun.
func TestOnStartRefuses(t *testing.T) {
	forEach(t, func(t *test) {
		a, c := startCalls(t, sse.Error(http.StatusForbidden, nil), hub.Subscription{})
		require.Equal(t, http.StatusForbidden, a.dial("/").StatusCode)
		require.NoError(t, c.expect(t, "start", "close"), "OnEnd is not called")
	})
}

// OnEnd is called when Serve fails after OnStart, too.
func TestOnEndWhenServeFails(t *testing.T) {
	forEach(t, func(t *test) {
		failed := errors.New("no state")
		a, c := startCalls(t, nil, hub.Subscription{Snapshot: func(*sse.ServerSession, hub.Position) (hub.Position, error) {
			return hub.Position{}, failed
		}})
		require.Equal(t, http.StatusInternalServerError, a.dial("/").StatusCode)
		require.ErrorIs(t, c.expect(t, "start", "end", "close"), failed)

		a, c = startCalls(t, nil, hub.Subscription{})
		a.finish("a")
		last := a.finish("b")
		require.Equal(t, http.StatusNoContent, a.dial("/", "Last-Event-ID", last.String()).StatusCode)
		var status *sse.StatusError
		require.ErrorAs(t, c.expect(t, "start", "end", "close"), &status)
		require.Equal(t, http.StatusNoContent, status.Status)
	})
}

// A kick reaches a session from OnStart on: who loses a right after OnStart has asked for it is
// kicked.
func TestKickWhileOnStartAsks(t *testing.T) {
	forEach(t, func(t *test) {
		var a *app
		a = t.start(plan{sub: hub.Subscription{Topics: []string{"a"}, OnStart: func(*sse.ServerSession) error {
			require.Equal(t, 1, a.kick("a", errOwn))
			return nil
		}}})
		s := a.connect("/")
		a.publish("a", sse.Event{Data: "secret"})
		s.expectEnd()
		require.Equal(t, sse.EndKicked, a.end().Reason)
	})
}

// A right that ends at a known time ends the session, and nothing that is published later reaches
// the client.
func TestUntil(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
			sub.Until = time.Now().Add(300 * time.Millisecond)
			return h.Serve(s, sub)
		}})
		s := a.connect("/")
		a.joined("a", 1)
		a.publish("a", sse.Event{Data: "before"})
		require.Equal(t, sse.EndExpired, a.end().Reason)
		a.publish("a", sse.Event{Data: "after"})
		s.expect("before")
		s.expectEnd()
	})
}
