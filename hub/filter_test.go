package hub_test

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

func TestFilterIsOfEachSubscriber(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
			every, err := strconv.ParseUint(s.Call().URL.Query().Get("every"), 10, 64)
			noError(t, err)
			sub.Filter = func(m *hub.Message) bool { return m.Position.Offset%every == 0 }
			return h.Serve(s, sub)
		}})
		var streams []*stream
		for i := 1; i <= 5; i++ {
			streams = append(streams, a.connect(fmt.Sprint("/?topic=a&topic=b&every=", i)))
		}
		for i := 1; i <= 60; i++ {
			a.publish([]string{"a", "b", "c"}[i/2%3], sse.Event{Data: strconv.Itoa(i)})
		}
		for i, s := range streams {
			for n := 1; n <= 60; n++ {
				if n/2%3 != 2 && n%(i+1) == 0 {
					s.expect(strconv.Itoa(n))
				}
			}
			s.leave()
			s = a.resume(fmt.Sprint("/?topic=a&topic=b&every=", i+1), hub.Position{Epoch: a.Position().Epoch}.String())
			s.expect(strconv.Itoa([]int{1, 2, 3, 8, 15}[i])) // the first of them, with the log's help
		}
	})
}

func TestFilterSeesEachMessageOnceInOrder(t *testing.T) {
	for name, slow := range map[string]hub.SlowPolicy{"SlowEnd": hub.SlowEnd, "SlowLatest": hub.SlowLatest} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				var mu sync.Mutex
				var seen []hub.Message
				a := t.start(plan{sub: hub.Subscription{
					Topics: []string{"a", "b"},
					Start:  hub.Beginning,
					Slow:   slow,
					Filter: func(m *hub.Message) bool {
						mu.Lock()
						defer mu.Unlock()
						seen = append(seen, *m)
						return true
					},
				}})
				began := time.Now()
				var want []hub.Message
				publish := func() {
					for i := range 100 { // too many for one write
						e := sse.Event{Name: strconv.Itoa(i), Data: strings.Repeat("x", 3000)}
						topic := []string{"a", "b"}[i/3%2]
						want = append(want, hub.Message{Topic: topic, Position: a.publish(topic, e), Event: e})
					}
				}
				publish()
				s := a.connect("/")
				publish()
				for s.event().ID != a.Position().String() {
				}
				mu.Lock()
				defer mu.Unlock()
				require.Len(t, seen, len(want))
				if slow == hub.SlowLatest { // newest first, of what is due at a time
					slices.Reverse(want[:100])
					slices.SortFunc(seen[100:], func(a, b hub.Message) int { return cmp.Compare(a.Position.Offset, b.Position.Offset) })
				}
				for i := range seen {
					require.WithinRange(t, seen[i].Time, began, time.Now())
					seen[i].Time = time.Time{}
					require.Equal(t, want[i].Position, seen[i].Position)
					require.Equal(t, want[i], seen[i])
				}
			})
		})
	}
}

func TestFilterThatPanicsEndsOnlyItsSession(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{
			sub: hub.Subscription{},
			serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
				if s.Call().URL.Query().Has("bad") {
					sub.Filter = func(m *hub.Message) bool {
						if m.Event.Data == "2" {
							panic("of the filter")
						}
						return true
					}
				}
				return h.Serve(s, sub)
			},
		})
		good := []*stream{a.connect("/"), a.connect("/")}
		bad := a.connect("/?bad")
		good = append(good, a.connect("/"), a.connect("/"))
		a.publishN("a", 1, 1)
		bad.expect("1")
		a.publishN("a", 2, 5)
		rest, err := bad.rest()
		require.Empty(t, rest)
		require.Error(t, err, "it must not look whole")
		e := a.end()
		require.Equal(t, sse.EndPanic, e.Reason)
		var p *sse.PanicError
		require.ErrorAs(t, e.Err, &p)
		require.Equal(t, "of the filter", p.Value)
		require.Contains(t, string(p.Stack), "member_test.go")
		for _, s := range good {
			s.expectN(1, 5)
		}
		a.joined("a", 4)
		require.Contains(t, a.log.String(), "level=ERROR")

		// At the opening it is as if the handler had panicked.
		a.publish("a", sse.Event{Data: "2"})
		s, err := a.try(a.client, "/?bad", "Last-Event-ID", a.Position().String()[:9]+"0")
		if err == nil {
			require.NotEqual(t, http.StatusOK, s.StatusCode)
		}
		require.Equal(t, sse.EndPanic, a.end().Reason)
		a.publish("a", sse.Event{Data: "6"})
		good[0].expect("2", "6")
	})
}
