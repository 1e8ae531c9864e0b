package soak

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
)

// notices is a connection whose events a test makes up.
type notices struct {
	*conn
	events []event.Event // that were published to the topic of the connection
	other  event.Event   // to another topic
}

func newNotices(t *testing.T, policy hub.SlowPolicy, from string) *notices {
	t.Helper()
	s := &soak{t: t, began: time.Now()}
	m := &mode{soak: s, name: "made up"}
	m.era.Store(m.newEra())
	e := m.era.Load()
	if from == "" {
		from = e.hub.Position().String()
	}
	c := &client{soak: s, mode: m, policy: policy, owed: make(map[topic]uint64)}
	x := &notices{conn: &conn{client: c, asked: []topic{1 << 16}, from: from}}
	x.era.Store(e)
	publish := func(on topic, n int) event.Event {
		ev := sse.Event{Data: fmt.Sprintf("%v %d", on, n)}
		pos, err := e.hub.Publish(context.Background(), on.String(), ev)
		if err != nil {
			t.Fatal(err)
		}
		e.ledger.note(entry{offset: pos.Offset, sum: sumOf(ev.Data), topic: on})
		ev.ID = pos.String()
		return ev
	}
	x.begin(e, 0, "")
	for i := range 4 {
		x.events = append(x.events, publish(1<<16, i))
	}
	x.other = publish(2<<16, 4)
	return x
}

// receive has the connection receive the events with these numbers.
func (x *notices) receive(numbers ...int) {
	for _, i := range numbers {
		x.acceptEvent(x.events[i], time.Now())
	}
}

// A soak that notices nothing is worth nothing: its checks must fail when they should.
func TestSoakNotices(t *testing.T) {
	for name, tt := range map[string]struct {
		want   string // in the fault; "" means that there is none
		policy hub.SlowPolicy
		from   string
		f      func(x *notices)
	}{
		"all in order":     {"", hub.SlowEnd, "", func(x *notices) { x.receive(0, 1, 2, 3); x.acceptID(x.other.ID); x.checkComplete(5) }},
		"one is missing":   {"are missing", hub.SlowEnd, "", func(x *notices) { x.receive(0, 2) }},
		"the first":        {"are missing", hub.SlowEnd, "", func(x *notices) { x.receive(1) }},
		"twice":            {"sent twice", hub.SlowEnd, "", func(x *notices) { x.receive(0, 0) }},
		"out of order":     {"sent twice or out of order", hub.SlowLatest, "", func(x *notices) { x.receive(1, 0) }},
		"other data":       {"other data", hub.SlowEnd, "", func(x *notices) { x.events[0].Data += "x"; x.receive(0) }},
		"another topic":    {"not for this client", hub.SlowEnd, "", func(x *notices) { x.receive(0, 1, 2, 3); x.acceptEvent(x.other, time.Now()) }},
		"an unknown id":    {"was not published", hub.SlowEnd, "", func(x *notices) { x.events[0].ID = "x-1"; x.receive(0) }},
		"a gap untold":     {"instead of a gap", hub.SlowEnd, "x-1", func(x *notices) { x.receive(0) }},
		"a gap not due":    {"not due", hub.SlowEnd, "", func(x *notices) { x.receive(0); x.gap("expired", 2) }},
		"a slow one":       {"not due", hub.SlowSkip, "", func(x *notices) { x.receive(0); x.gap("slow", 2) }},
		"a replay":         {"not due", hub.SlowEnd, "", func(x *notices) { x.gap("replay", 2) }},
		"another reason":   {"want the reason", hub.SlowEnd, "x-1", func(x *notices) { x.gap("ahead", 5) }},
		"the right reason": {"", hub.SlowEnd, "x-1", func(x *notices) { x.gap("epoch", 0); x.receive(0) }},
		"an id too far":    {"are missing", hub.SlowEnd, "", func(x *notices) { x.receive(0); x.acceptID(x.events[2].ID) }},
		"an id too low":    {"is sent the id", hub.SlowEnd, "", func(x *notices) { x.receive(0, 1); x.acceptID(x.events[0].ID) }},
		"not complete":     {"are missing", hub.SlowEnd, "", func(x *notices) { x.receive(0); x.checkComplete(4) }},
		"a kick":           {"after its kick", hub.SlowEnd, "", func(x *notices) { x.receive(0, 1); x.checkKick(&kick{after: 1, at: time.Now()}) }},
		"the latest":       {"", hub.SlowLatest, "", func(x *notices) { x.receive(2, 3); x.acceptID(x.other.ID) }},
		"not the latest":   {"the newest of", hub.SlowLatest, "", func(x *notices) { x.receive(1); x.acceptID(x.other.ID) }},
		"unsubscribed": {"not for this client", hub.SlowEnd, "", func(x *notices) {
			x.receive(0)
			x.follows[1<<16].must, x.follows[1<<16].until = never, 2
			x.receive(1, 2)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			x := newNotices(t, tt.policy, tt.from)
			tt.f(x)
			if got := strings.Join(x.soak.faults, "\n"); !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
				t.Errorf("the faults are %q, want one with %q", got, tt.want)
			}
		})
	}
}

// gap has the connection be told of a gap up to the offset.
func (x *notices) gap(reason string, to uint64) {
	p := hub.Position{Epoch: x.at.epoch, Offset: to}
	x.acceptGap(event.Event{ID: p.String(), Data: fmt.Sprintf(`{"reason":%q,"lastEventId":"","position":%q,"snapshot":false}`, reason, p)})
}
