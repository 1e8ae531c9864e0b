//go:build unix

package soak

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"
)

// fault is trouble that is to end.
type fault struct {
	what  string
	until time.Time
	heal  func() bool // ends it, and reports whether it has ended
	busy  []*bool     // what nothing else may be done to meanwhile
}

// disturb makes trouble until a time.
func (s *soak) disturb(until time.Time) {
	next := time.Now()
	for time.Now().Before(until) && !s.failed() {
		s.healDue(time.Now())
		for _, p := range s.nodes {
			p.checkRunning()
		}
		if now := time.Now(); now.After(next) && len(s.faults) < 4 {
			if f := s.pick(); f != nil {
				s.begin(f)
			}
			next = now.Add(time.Duration(100+s.rng.IntN(2500)) * time.Millisecond)
			if s.rng.IntN(6) == 0 { // sometimes there is peace
				next = next.Add(5 * time.Second)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// begin notes a fault that has begun.
func (s *soak) begin(f *fault) {
	for _, b := range f.busy {
		*b = true
	}
	s.faults = append(s.faults, f)
	s.trace("%s, for %v", f.what, time.Until(f.until).Round(time.Millisecond))
	s.trouble.Store(true)
}

// healDue ends the faults whose time has come.
func (s *soak) healDue(now time.Time) {
	s.faults = slices.DeleteFunc(s.faults, func(f *fault) bool {
		if now.Before(f.until) || !f.heal() {
			return false
		}
		for _, b := range f.busy {
			*b = false
		}
		s.trace("healed: %s", f.what)
		s.healed.Store(time.Now().UnixNano())
		return true
	})
	s.trouble.Store(len(s.faults) > 0)
}

// healAll ends all faults.
func (s *soak) healAll() {
	for _, f := range s.faults {
		f.until = time.Now()
	}
	for len(s.faults) > 0 && !s.failed() {
		s.healDue(time.Now())
		time.Sleep(10 * time.Millisecond)
	}
}

// span returns a random time.
func (s *soak) span(least, most time.Duration) time.Duration {
	return least + time.Duration(s.rng.Int64N(int64(most-least)))
}

// pick makes trouble of a random kind; nil if there is nothing left to trouble.
func (s *soak) pick() *fault {
	roll := s.rng.IntN(100)
	target := s.server(s.rng.IntN(2) == 0)
	switch {
	case roll < 22:
		return s.killed("kill a server", target)
	case roll < 30:
		return s.killed("kill the client", s.nodes[servers])
	case roll < 34:
		other := s.nodes[s.rng.IntN(servers)]
		if other == target {
			return nil
		}
		return s.killed("kill two", target, other)
	case roll < 38:
		return s.killed("kill all", s.nodes...)
	case roll < 46:
		return s.terminated(s.nodes[s.rng.IntN(len(s.nodes))])
	case roll < 54:
		return s.frozen(target)
	case roll < 57:
		return s.frozen(s.nodes[servers])
	case roll < 65:
		return s.isolated(target)
	}
	return s.cut(s.cables[s.rng.IntN(len(s.cables))])
}

// server returns a node with a server: the stream's leader, or a random one.
func (s *soak) server(leader bool) *process {
	p := s.nodes[s.rng.IntN(servers)]
	if !leader {
		return p
	}
	for i := range s.nodes { // those that do not answer in time do not know
		other := s.nodes[(p.index+i)%len(s.nodes)]
		if !other.open.Load() || other.isBusy {
			continue
		}
		st, err := other.ask("leader", time.Second)
		if i := slices.IndexFunc(s.nodes, func(p *process) bool { return p.cfg.Name == st.Leader }); err == nil && i >= 0 {
			s.leaders++
			return s.nodes[i]
		}
	}
	return p
}

// free reports whether no fault concerns the processes, and all may be killed.
func (s *soak) free(ps []*process) bool {
	return !slices.ContainsFunc(ps, func(p *process) bool { return p.isBusy || p == s.spared || !p.running() })
}

func names(ps []*process) string {
	all := make([]string, len(ps))
	for i, p := range ps {
		all[i] = p.cfg.Name
	}
	return strings.Join(all, ", ")
}

// killed kills processes, and starts them again later.
func (s *soak) killed(kind string, ps ...*process) *fault {
	ps = slices.DeleteFunc(slices.Clone(ps), func(p *process) bool { return p == s.spared || p.isBusy })
	if len(ps) == 0 || kind == "kill two" && len(ps) < 2 || kind == "kill all" && len(ps) < 3 || !s.free(ps) {
		return nil
	}
	s.count(kind)
	f := &fault{what: kind + ": " + names(ps), until: time.Now().Add(s.span(0, 4*time.Second))}
	for _, p := range ps {
		p.kill()
		f.busy = append(f.busy, &p.isBusy)
	}
	s.rng.Shuffle(len(ps), func(i, k int) { ps[i], ps[k] = ps[k], ps[i] })
	f.heal = func() bool {
		for _, p := range ps {
			p.restart()
		}
		return true
	}
	return f
}

// terminated asks a process to stop, and starts it again when it has.
func (s *soak) terminated(p *process) *fault {
	if !s.free([]*process{p}) {
		return nil
	}
	s.count("stop in order")
	p.signal(syscall.SIGTERM)
	p.stopping = true
	asked := time.Now()
	return &fault{what: "stop in order: " + p.cfg.Name, until: asked, busy: []*bool{&p.isBusy}, heal: func() bool {
		if !p.stopped(asked) {
			return false
		}
		s.slowestStop = max(s.slowestStop, time.Since(asked))
		p.stopping = false
		p.restart()
		return true
	}}
}

// frozen freezes a process for a while.
func (s *soak) frozen(p *process) *fault {
	if p.isBusy || !p.running() {
		return nil
	}
	s.count("freeze")
	p.freeze(true)
	return &fault{what: "freeze: " + p.cfg.Name, until: time.Now().Add(s.span(200*time.Millisecond, 9*time.Second)), busy: []*bool{&p.isBusy}, heal: func() bool {
		p.freeze(false)
		return true
	}}
}

// isolated cuts a server off from all other servers. Its own node still reaches it.
func (s *soak) isolated(p *process) *fault {
	f := &fault{what: "isolate: " + p.cfg.Name, until: time.Now().Add(s.span(time.Second, 10*time.Second))}
	var cables []*cable
	for _, c := range s.cables {
		if c.isRoute && (c.from == p.cfg.Name || c.to == p.cfg.Name) {
			if c.isBusy {
				return nil
			}
			cables = append(cables, c)
			f.busy = append(f.busy, &c.isBusy)
		}
	}
	s.count("isolate a server")
	held := s.rng.IntN(2) == 0
	for _, c := range cables {
		if held {
			c.hold(forth, back)
		} else {
			c.refuse()
		}
	}
	f.heal = func() bool {
		for _, c := range cables {
			c.heal()
		}
		return true
	}
	return f
}

// cut makes trouble in a cable.
func (s *soak) cut(c *cable) *fault {
	if c.isBusy {
		return nil
	}
	f := &fault{until: time.Now().Add(s.span(100*time.Millisecond, 8*time.Second)), busy: []*bool{&c.isBusy}, heal: func() bool { c.heal(); return true }}
	where := "hub"
	if c.isRoute {
		where = "route"
	}
	kinds := []string{"cut", "refuse", "delay", "hold", "hold one way", "hold and cut", "half-open"}
	kind := kinds[s.rng.IntN(len(kinds))]
	direction, delay := s.rng.IntN(2), s.span(time.Millisecond, 150*time.Millisecond)
	switch kind {
	case "cut":
		f.until = time.Now()
		c.cut()
	case "refuse":
		c.refuse()
	case "delay":
		c.slow(delay)
	case "hold":
		c.hold(forth, back)
	case "hold one way":
		c.hold(direction)
	case "hold and cut":
		c.hold(direction)
		f.heal = func() bool { c.cut(); c.heal(); return true }
	case "half-open":
		c.halve()
	}
	s.count(where + ": " + kind)
	f.what = fmt.Sprintf("%s: %s from %s to %s", where, kind, c.from, c.to)
	return f
}
