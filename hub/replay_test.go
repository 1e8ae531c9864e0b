package hub_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// replayed is the data of an event that takes 100 bytes with an id of 11 characters. The
// number has two digits.
func replayed(n int) string {
	const around = len("data: \nid: k3f9x2ab-10\n\n")
	return strconv.Itoa(n) + strings.Repeat("x", 100-2-around)
}

// MaxReplay bounds what a client is sent to catch up, whichever way it starts. It is told of
// the gap unless it is new.
func TestReplayIsBounded(t *testing.T) {
	for name, tt := range map[string]struct {
		query    string
		from     int // number of the event after which the client resumes; 0: it has no id
		start    hub.Start
		slow     hub.SlowPolicy
		snapshot bool
		gap      hub.GapReason
		want     string
	}{
		"just enough":                 {from: 17, want: "18 19 20"},
		"too much":                    {from: 16, gap: hub.GapReplay, want: "18 19 20"},
		"all":                         {from: 10, gap: hub.GapReplay, want: "18 19 20"},
		"expired":                     {from: 1, gap: hub.GapExpired, want: "18 19 20"},
		"too much, and a snapshot":    {from: 16, gap: hub.GapReplay, snapshot: true},
		"Now":                         {},
		"Beginning":                   {start: hub.Beginning, want: "18 19 20"},
		"Latest":                      {start: hub.Latest, want: "20"},
		"Latest of two topics":        {start: hub.Latest, query: "?topic=a&topic=c", want: "c 20"},
		"Beginning, of another topic": {start: hub.Beginning, query: "?topic=b", want: "b"},
		"two topics":                  {from: 10, query: "?topic=b&topic=a", gap: hub.GapReplay, want: "b 19 20"},
		"two topics, just enough":     {from: 18, query: "?topic=b&topic=a", want: "b 19 20"},
		"quiet topic":                 {from: 10, query: "?topic=b", want: "b"},
		"SlowLatest":                  {from: 10, slow: hub.SlowLatest, want: "20"},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				a := t.start(plan{
					hub: hub.Config{MaxReplay: 300, LogEvents: 12},
					serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
						sub.Start, sub.Slow = tt.start, tt.slow
						if tt.snapshot {
							sub.Snapshot = func(_ *sse.ServerSession, at hub.Position) (hub.Position, error) { return at, nil }
						}
						return h.Serve(s, sub)
					},
				})
				var header []string
				publish := func(topic, data string, n int) {
					if pos := a.publish(topic, sse.Event{Data: data}); n == tt.from && n > 0 {
						header = []string{"Last-Event-ID", pos.String()}
					}
				}
				for n := 1; n <= 20; n++ {
					publish("a", replayed(n), n)
					if n == 15 {
						publish("c", replayed(98), 0)
					}
					if n == 18 {
						publish("b", replayed(99), 0)
					}
				}
				s := a.connect("/"+tt.query, header...)
				require.Equal(t, string(tt.gap), s.Header.Get(hub.GapHeader))
				if tt.gap != "" {
					gap := s.expectGap()
					require.Equal(t, tt.gap, gap.Reason)
					require.Equal(t, tt.snapshot, gap.Snapshot)
				}
				for want := range strings.FieldsSeq(tt.want) {
					require.Contains(t, s.event().Data, strings.NewReplacer("b", "99", "c", "98").Replace(want))
				}
				// A client that has been told resumes without a gap, and live events are not
				// bounded.
				a.joined(s.topics()[0], 1)
				for n := range 10 {
					a.publish(s.topics()[0], sse.Event{Data: strconv.Itoa(n)})
				}
				if tt.slow != hub.SlowLatest {
					s.expectN(0, 9)
				}
			})
		})
	}
}

// A Snapshot of an old position is followed by no more than the newest events that fit.
func TestReplayAfterASnapshotIsBounded(t *testing.T) {
	forEach(t, func(t *test) {
		var old hub.Position
		a := t.start(plan{
			hub: hub.Config{MaxReplay: 300},
			serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
				sub.Snapshot = func(s *sse.ServerSession, _ hub.Position) (hub.Position, error) {
					return old, s.Send(sse.Event{Name: "state"})
				}
				return h.Serve(s, sub)
			},
		})
		old = a.publish("a", sse.Event{Data: "1"})
		for n := 10; n < 20; n++ {
			a.publish("a", sse.Event{Data: replayed(n)})
		}
		s := a.connect("/")
		require.Equal(t, "state", s.event().Name)
		gap := s.expectGap()
		require.Equal(t, hub.Gap{Reason: hub.GapReplay, LastEventID: old.String(), Position: gap.Position}, gap)
		for n := 17; n < 20; n++ {
			require.Equal(t, replayed(n), s.event().Data)
		}
	})
}

// An event that does not fit by itself is not sent again.
func TestReplayOfOneLargeEvent(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{hub: hub.Config{MaxReplay: 10}})
		before := a.Position()
		a.publish("a", sse.Event{Data: "large"})
		s := a.resume("/", before.String())
		require.Equal(t, hub.GapReplay, s.expectGap().Reason)
		require.Equal(t, a.Position().String(), s.id)
		a.publish("a", sse.Event{Data: "live"})
		s.expect("live")
	})
}
