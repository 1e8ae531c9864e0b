package soak

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/chi-sse/sse/hub"
)

// kick is the cause with which members are kicked.
type kick struct {
	before, after uint64 // the head before the call, and after it
	at            time.Time
	late          time.Duration // late.sum then
	done          chan struct{} // closed once after is set
}

func (*kick) Error() string { return "kicked by the soak" }

// kick kicks members at random until quiet is closed: one, or all of a topic.
func (m *mode) kick(r *rand.Rand, quiet <-chan struct{}) {
	for !closedAfter(exponential(r, 400*time.Millisecond), quiet) {
		h, t := m.era.Load().hub, m.randomTopic(r).String()
		k := &kick{at: time.Now(), late: m.soak.late.sum(), done: make(chan struct{}), before: h.Position().Offset}
		// With a Log, Hub.Kick also appends an order, which the ledger would not know.
		if r.IntN(15) == 0 && !m.file {
			n, _ := h.Kick(context.Background(), t, k) // without a Log it has no error
			m.soak.kicks.Add(int64(n))
		} else {
			for member := range h.Members(t) {
				member.Kick(k)
				m.soak.kicks.Add(1)
				break
			}
		}
		k.after = h.Position().Offset
		close(k.done)
	}
}

// move has members follow other topics, until quiet is closed.
func (m *mode) move(r *rand.Rand, quiet <-chan struct{}) {
	for !closedAfter(exponential(r, 60*time.Millisecond), quiet) {
		h := m.era.Load().hub
		for member := range h.Members(m.randomTopic(r).String()) {
			if cn, _ := hub.InfoOf[*conn](member); r.IntN(2) == 0 {
				cn.add(h, member, m.randomTopic(r))
			} else {
				cn.remove(h, member, r)
			}
			break
		}
	}
}

// add has cn's member follow t.
func (cn *conn) add(h *hub.Hub, member *hub.Member, t topic) {
	f := &follow{may: h.Position().Offset, must: never, until: never}
	cn.mu.Lock()
	known := cn.at == nil || cn.follows[t] != nil // it is still opening, or t is one of its topics, or was
	if !known {
		cn.follows[t] = f
	}
	cn.mu.Unlock()
	if known || member.Subscribe(t.String()) != nil {
		return
	}
	head := h.Position().Offset
	cn.mu.Lock()
	defer cn.mu.Unlock()
	f.must = head
	cn.note("subscribes after, before", t, f.may, head)
	cn.soak.subscribes.Add(1)
}

// remove has cn's member follow one topic less, but not none.
func (cn *conn) remove(h *hub.Hub, member *hub.Member, r *rand.Rand) {
	cn.mu.Lock()
	var t topic
	var f *follow
	left := 0
	for key, follow := range cn.follows {
		if follow.must != never {
			left++
			if f == nil || r.IntN(left) == 0 {
				t, f = key, follow
			}
		}
	}
	if left < 2 || cn.at == nil {
		cn.mu.Unlock()
		return
	}
	f.must, f.asked = never, false
	delete(cn.owed, t)
	cn.note("unsubscribes", t, 0, 0)
	cn.mu.Unlock()
	member.Unsubscribe(t.String())
	head := h.Position().Offset
	cn.mu.Lock()
	defer cn.mu.Unlock()
	f.until = head // what is published from now on must not arrive
	cn.soak.unsubscribes.Add(1)
}

// closedAfter waits for d, and reports whether done is closed.
func closedAfter(d time.Duration, done <-chan struct{}) bool {
	pause(d, done)
	select {
	case <-done:
		return true
	default:
		return false
	}
}
