package sse

import (
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chi-sse/sse/internal/wheel"
)

// Rights that are checked again and again. The sessions of a plugin with the same period wait on
// one wheel. What comes up is queued for a few goroutines, which end when nothing is queued.

// maxRechecks is how many checks of a route run at a time.
const maxRechecks = 64

// WithRecheck calls check for each session of the route, every so often, for as long as the session
// lives. Use it for rights that can be taken away, if nothing tells the application when. every
// must be positive, and check not nil. The first check comes after every, so the handler has to
// check the right itself. A check may come up to an eighth of every sooner.
//
// If check returns an error, the session ends at once. Nothing that is sent or published from then
// on reaches the client; what a hub was sending may still arrive, for up to a second. The end has
// the reason [EndRevoked], and its cause matches [ErrRevoked] and the error. The client may
// reconnect: the handler must refuse it then. If check panics, the session ends as if its handler
// had panicked.
//
// The checks of a session come one at a time, and every begins anew when one has returned. Up to 64
// checks of the route run at a time, in goroutines of their own, so a check that takes long delays
// no other and no heartbeat. Checks that wait for something should give up after a time, because
// 64 that hang would delay all others. The log says so, once, at level Warn.
func WithRecheck(every time.Duration, check func(*ServerSession) error) RouteOption {
	if every <= 0 {
		panic(fmt.Sprintf("sse: WithRecheck(%v): the time between checks must be positive", every))
	}
	if check == nil {
		panic("sse: WithRecheck without a check")
	}
	return func(rt *route) {
		rt.mustLast("WithRecheck")
		rt.rechecks = &rechecks{every: every, check: check}
	}
}

// recheck is a session that is checked. It waits on the wheel, is queued, or its check is running.
// The wheel may hold it for a while after the session has ended, but not the session.
type recheck struct {
	session atomic.Pointer[ServerSession] // nil when the session is over
}

// forget lets go of the session.
func (x *extra) forget() {
	if x != nil && x.recheck != nil {
		x.recheck.session.Store(nil)
	}
}

// onWheel is called when r comes up on its wheel. It must not wait for anything.
func (r *recheck) onWheel(*wheel.Wheel[*recheck]) {
	if s := r.session.Load(); s != nil {
		s.route.rechecks.enqueue(r, s)
	}
}

// rechecks are the checks of a route.
type rechecks struct {
	every time.Duration
	check func(*ServerSession) error

	mu      sync.Mutex
	queue   []*recheck // queue[first:] are to be checked
	first   int
	workers int           // goroutines that run checks
	taken   time.Duration // since epoch: when a worker looked for a session last
	warned  bool
}

func (c *rechecks) enqueue(r *recheck, s *ServerSession) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, r)
	if c.workers < maxRechecks {
		c.startWorker()
		return
	}
	if hang := sinceEpoch() - c.taken; hang > c.every && !c.warned {
		c.warned = true
		go s.route.plugin.cfg.Logger.Warn("sse: checks of WithRecheck hang, and others wait for them; let a check give up after a time",
			"running", c.workers, "waiting", len(c.queue)-c.first, "for", hang)
	}
}

// startWorker starts a goroutine that runs checks. c.mu is held.
func (c *rechecks) startWorker() {
	c.workers++
	go c.work()
}

// work runs checks until none is queued.
func (c *rechecks) work() {
	working := true
	defer func() {
		if working { // the check has called runtime.Goexit
			c.mu.Lock()
			defer c.mu.Unlock()
			c.workers--
			if c.first < len(c.queue) {
				c.startWorker()
			}
		}
	}()
	for {
		r := c.next()
		if r == nil {
			working = false
			return
		}
		r.run(c)
	}
}

// next returns what is to be checked next. If there is none, it returns nil, and the worker has
// ended.
func (c *rechecks) next() *recheck {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken = sinceEpoch()
	if c.first == len(c.queue) {
		c.queue, c.first = nil, 0
		c.workers--
		return nil
	}
	r := c.queue[c.first]
	c.queue[c.first] = nil
	c.first++
	return r
}

// run checks the session of r, and puts r back on its wheel or ends the session.
func (r *recheck) run(c *rechecks) {
	s := r.session.Load()
	if s == nil || s.ctx.Err() != nil {
		return
	}
	returned := false
	defer func() {
		if !returned {
			s.end(&PanicError{recover(), debug.Stack()})
		}
	}()
	err := c.check(s)
	returned = true
	if err != nil {
		s.expel(&lifeError{ErrRevoked, EndRevoked, err})
		return
	}
	s.route.plugin.rechecks.Of(c.every).Add(r, c.every)
}
