package hub_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

func TestStartOfAFirstConnection(t *testing.T) {
	forEach(t, func(t *test) {
		var after hub.Position
		a := t.start(plan{serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
			sub.Start = map[string]hub.Start{
				"":          {},
				"now":       hub.Now,
				"beginning": hub.Beginning,
				"latest":    hub.Latest,
				"after":     hub.After(after),
			}[s.Call().URL.Query().Get("start")]
			return h.Serve(s, sub)
		}})
		publish := func(topic string, data ...string) (pos hub.Position) {
			for _, d := range data {
				pos = a.publish(topic, sse.Event{Data: d})
			}
			return pos
		}
		a.publish("other", sse.Event{Data: "other"})
		publish("a", "a1", "a2")
		after = publish("b", "b1")
		publish("a", "a3")
		publish("b", "b2")
		publish("a", "a4", "a5")
		for _, tt := range []struct {
			query string
			want  string
		}{
			{"?", ""},
			{"?start=now", ""},
			{"?start=beginning", "a1 a2 a3 a4 a5"},
			{"?start=beginning&topic=a&topic=b", "a1 a2 b1 a3 b2 a4 a5"},
			{"?start=beginning&topic=none", ""},
			{"?start=latest", "a5"},
			{"?start=latest&topic=a&topic=b", "b2 a5"},
			{"?start=latest&topic=b", "b2"},
			{"?start=latest&topic=none", ""},
			{"?start=latest&topic=none&topic=b", "b2"},
			{"?start=after", "a3 a4 a5"},
			{"?start=after&topic=a&topic=b", "a3 b2 a4 a5"},
			{"?start=after&topic=none", ""},
		} {
			s := a.connect("/" + tt.query)
			requireNoGap(t, s)
			for data := range strings.FieldsSeq(tt.want) {
				require.Equal(t, data, s.event().Data, tt.query)
			}
			a.endOf(s)
		}
		// A client with an id starts there, whatever Start says.
		for _, start := range []string{"", "now", "beginning", "latest", "after"} {
			s := a.resume("/?start="+start, after.String())
			requireNoGap(t, s)
			s.expect("a3", "a4", "a5")
			s.leave()
		}
		require.Empty(t, a.Stats().Gaps)
	})
}

func TestStartAtTheBeginningOfWhatIsLeft(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{hub: hub.Config{LogEvents: 5}, sub: hub.Subscription{Start: hub.Beginning}})
		a.publish("b", sse.Event{Data: "lost"})
		a.publishN("a", 1, 20)
		s, b := a.connect("/"), a.connect("/?topic=b")
		requireNoGap(t, s)
		requireNoGap(t, b)
		s.expectN(16, 20)
		a.publish("b", sse.Event{Data: "b"})
		b.expect("b")
	})
}

func TestStartAfterAPositionThatHasExpiredIsAGap(t *testing.T) {
	forEach(t, func(t *test) {
		var after hub.Position
		a := t.start(plan{
			hub: hub.Config{LogEvents: 5},
			serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
				sub.Start = hub.After(after)
				return h.Serve(s, sub)
			},
		})
		after = a.publish("a", sse.Event{Data: "1"})
		a.publishN("a", 2, 10)
		s := a.connect("/")
		require.Equal(t, "expired", s.Header.Get(hub.GapHeader))
		gap := s.expectGap()
		require.Equal(t, hub.Gap{Reason: hub.GapExpired, LastEventID: after.String(), Position: gap.Position}, gap)
		s.expectN(6, 10)
	})
}
