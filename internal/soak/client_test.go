package soak

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/chi-sse/sse/hub"
)

// client is a subscriber, with all its connections.
type client struct {
	soak   *soak
	mode   *mode
	r      *rand.Rand // its goroutine's
	topics []topic    // that it asks for
	policy hub.SlowPolicy
	odd    bool // its filter accepts only odd events

	id string // its last event id

	mu sync.Mutex // guards what follows, and the checkers of its connections: Subscribe and Unsubscribe are called elsewhere
	// Events that the hub has left out for SlowPolicy's sake, by topic. A newer one must come.
	owed map[topic]uint64
	trace
}

// live is the life of one client after the other, until the run ends.
func (s *soak) live(m *mode, r *rand.Rand) {
	for !s.stopping() {
		s.clients.Add(1)
		newClient(m, r).live()
	}
}

func newClient(m *mode, r *rand.Rand) *client {
	c := &client{soak: m.soak, mode: m, r: r, owed: make(map[topic]uint64)}
	c.policy = []hub.SlowPolicy{hub.SlowEnd, hub.SlowSkip, hub.SlowLatest}[r.IntN(3)]
	c.odd = c.policy != hub.SlowLatest && r.IntN(4) == 0
	for range []int{1, 2, 4, 8, 40}[pick(r, 15, 20, 30, 20, 15)] {
		if t := m.randomTopic(r); !slices.Contains(c.topics, t) {
			c.topics = append(c.topics, t)
		}
	}
	return c
}

// live connects again and again.
func (c *client) live() {
	for range 2 + c.r.IntN(10) {
		weights := []int{50, 12, 10, 6, 10, 10, 2}
		if c.soak.network == nil {
			weights[vanishing] = 0
		}
		c.connect(kind(pick(c.r, weights...)))
		if c.soak.stopping() {
			return
		}
		c.stayAway()
	}
}

// stayAway waits before the next connection, and says with which last event id that begins.
func (c *client) stayAway() {
	switch pick(c.r, 60, 30, 10) {
	case 0:
		pause(exponential(c.r, 30*time.Millisecond), c.soak.stop)
	case 1:
		pause(exponential(c.r, time.Second), c.soak.stop)
	case 2: // it may miss more than the log holds
		pause(exponential(c.r, 6*time.Second), c.soak.stop)
	}
	switch pick(c.r, 94, 4, 1, 1) {
	case 1:
		c.id = ""
	case 2:
		c.id = fmt.Sprintf("junk-%d-x", c.r.IntN(1000))
	case 3:
		head := c.mode.era.Load().hub.Position()
		head.Offset += 1_000_000
		c.id = head.String()
	}
}

// keep decides which of the topics that cn has got by Subscribe the client asks for from now on.
func (c *client) keep(cn *conn) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	for t, f := range cn.follows {
		if !f.asked && f.must != never && f.until == never && c.r.IntN(2) == 0 {
			c.topics = append(c.topics, t)
		}
	}
}
