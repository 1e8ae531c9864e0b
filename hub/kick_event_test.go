package hub_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/hub/logtest"
	"github.com/chi-sse/sse/internal/testkit"
)

var logout = sse.Event{Name: "logout", Data: "bye", Retry: time.Minute}

// A kick can tell the page: after what was published before, and before the end.
func TestKickWithAnEvent(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{})
		for i := range 20 {
			s := a.connect("/")
			m := receiveMember(t, a, "a")
			a.publish("a", sse.Event{Data: "before"})
			if i%2 == 0 {
				require.NoError(t, m.KickWith(errOwn, logout))
			} else {
				n, err := a.KickWith(t.Context(), "a", errOwn, logout)
				require.NoError(t, err)
				require.Equal(t, 1, n)
			}
			s.expect("before")
			id := s.id
			require.Equal(t, logout, s.event())
			s.expectEnd()
			require.Equal(t, id, s.id, "the event of a kick moves no client")
			e := a.end()
			require.Equal(t, sse.EndKicked, e.Reason)
			require.ErrorIs(t, e.Err, errOwn)
		}
	})
}

// An event that cannot be sent stops no kick.
func TestKickWithAnInvalidEvent(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{})
		for field, e := range map[string]sse.Event{"Name": {Name: "two\nlines"}, "ID": {ID: "7"}} {
			s := a.connect("/")
			m := receiveMember(t, a, "a")
			var invalid *event.FieldError
			require.ErrorAs(t, m.KickWith(nil, e), &invalid)
			require.Equal(t, field, invalid.Field)
			s.expectEnd()
			s = a.connect("/")
			a.joined("a", 1)
			_, err := a.KickWith(t.Context(), "a", nil, e)
			require.ErrorAs(t, err, &invalid)
			s.expectEnd()
		}
	})
}

// A client that is still opening gets it, and one that does not take what came before does not.
func TestKickWithAnEventInEachStage(t *testing.T) {
	forEach(t, func(t *test) {
		var a *app
		a = t.start(plan{small: true, sub: hub.Subscription{Topics: []string{"a"}, OnStart: func(s *sse.ServerSession) error {
			if s.Call().URL.RawQuery == "kick" {
				_, err := a.KickWith(t.Context(), "a", errOwn, logout)
				return err
			}
			return nil
		}}})
		s := a.connect("/?kick")
		require.Equal(t, logout, s.event())
		s.expectEnd()
		require.Equal(t, sse.EndKicked, a.end().Reason)

		s = a.connectSlow("/")
		m := receiveMember(t, a, "a")
		a.publish("a", sse.Event{Data: strings.Repeat("x", 8<<20)})
		require.NoError(t, m.KickWith(errOwn, logout))
		require.Equal(t, sse.EndKicked, a.end().Reason)
		rest, err := s.rest()
		require.Error(t, err, "the stream is not complete")
		require.NotContains(t, rest, "logout")
	})
}

func TestKickWithAnEventReachesAllHubs(t *testing.T) {
	t.Parallel()
	log := logtest.NewMemory(1)
	one, two := http1.start(t, plan{hub: hub.Config{Log: log}}), http1.start(t, plan{hub: hub.Config{Log: log}})
	s := two.connect("/")
	two.joined("a", 1)
	_, err := one.KickWith(t.Context(), "a", errors.New("logged out"), logout)
	require.NoError(t, err)
	require.Equal(t, logout, s.event())
	s.expectEnd()
	require.ErrorContains(t, two.end().Err, "logged out")

	for _, data := range []string{"not JSON", `{"cause":"c","last":1}`, `{"last":{"name":"a\nb"}}`} {
		s = two.connect("/")
		two.joined("a", 1)
		log.Insert(hub.Record{Kind: hub.ControlRecord, Topic: "a", Event: sse.Event{Name: "kick", Data: data}})
		s.expectEnd()
		testkit.Eventually(t, func() bool { return strings.Contains(two.log.String(), "kicked without an event") }, "a line of the log")
	}
}

func TestMemberSince(t *testing.T) {
	t.Parallel()
	a := http1.start(t, plan{})
	before := time.Now()
	a.connect("/")
	m := receiveMember(&test{t, http1}, a, "a")
	require.WithinRange(t, m.Since(), before.Add(-time.Second), time.Now().Add(time.Second))
}

func TestKickOfNoTopic(t *testing.T) {
	t.Parallel()
	a := http1.start(t, plan{})
	_, err := a.Kick(t.Context(), "", nil)
	require.ErrorContains(t, err, "topic must not be empty")
}
