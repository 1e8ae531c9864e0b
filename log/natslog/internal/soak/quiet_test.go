//go:build unix

package soak

import (
	"bytes"
	"os"
	"slices"
	"time"
)

// What follows is done while there is no trouble. The bounds on time are for a machine that is
// busy with something else; the report has the times.

const (
	recoverPatience = 2 * time.Minute
	catchUpPatience = 2 * time.Minute

	// A server that has led, and leads again, can refuse a key until the duplicate_window of two
	// minutes is over, because a publication with it was under way when it stopped to lead.
	publishPatience = 2*time.Minute + 30*time.Second
)

// awaitHealth waits until all nodes serve and follow the stream. It returns how long that took.
func (s *soak) awaitHealth() time.Duration {
	began := time.Now()
	for _, p := range s.nodes {
		for !s.failed() {
			err := p.healthy()
			if err == nil {
				break
			}
			if time.Since(began) > recoverPatience {
				s.fail("%s has not come back within %v: %v", p.cfg.Name, recoverPatience, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	s.trace("all nodes are well after %v", time.Since(began).Round(time.Millisecond))
	return time.Since(began)
}

// await waits until f returns true.
func (s *soak) await(patience time.Duration, what string, f func() bool) {
	for deadline := time.Now().Add(patience); !f() && !s.failed(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.fail("%s: not within %v", what, patience)
		}
	}
}

// awaitPositions waits until each reader is connected, so that it has a position. Without one, it
// would miss what happens before its first event, and could not know.
func (s *soak) awaitPositions() {
	s.await(catchUpPatience, "the readers connect", func() bool { return s.members() == len(s.readers) })
	time.Sleep(2 * beat) // a new client is sent a position at once, and a quiet one with its heartbeat
}

// members returns how many sessions the nodes have.
func (s *soak) members() (n int) {
	for _, p := range s.nodes {
		if st, err := p.ask("", time.Second); err == nil {
			n += st.Members
		}
	}
	return n
}

// sweep kicks each reader on some node. Each must lose its connection and come again.
func (s *soak) sweep() {
	for _, r := range s.readers {
		if r.stay > 0 || s.failed() {
			continue
		}
		var before int
		s.await(catchUpPatience, r.name+" has a connection", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			before = len(r.connections)
			return s.isAdmitted(r.connections[before-1].id)
		})
		began := time.Now()
		s.await(catchUpPatience, "kick "+r.name, func() bool { return s.kicker.kick(userTopic(r.index)) == nil })
		s.await(catchUpPatience, r.name+" was kicked and comes again", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return len(r.connections) > before
		})
		s.slowestKick = max(s.slowestKick, time.Since(began))
		s.swept++
	}
}

// awaitReaders waits until all readers have everything that was acknowledged.
func (s *soak) awaitReaders() {
	began := time.Now()
	for _, r := range s.readers {
		r.hurry.Store(true)
	}
	for _, r := range s.readers {
		last := s.ledger.last(r.follow)
		s.await(catchUpPatience, r.name+" has everything", func() bool { return r.cursor.Load() >= last })
		if s.failed() {
			s.fail("%s is at %d and must get up to %d", r.name, r.cursor.Load(), last)
		}
	}
	s.slowestCatchUp = max(s.slowestCatchUp, time.Since(began))
}

// check compares what the readers got with what was acknowledged, and forgets it.
func (s *soak) check() {
	events, head, err := s.ledger.events()
	if err != nil {
		s.fail("%v", err)
		return
	}
	for _, r := range s.readers {
		r.mu.Lock()
		if err := r.checkSegments(events, head); err != nil {
			s.fail("%s: %v", r.name, err)
		}
		if err := s.checkKicks(r); err != nil {
			s.fail("%s: %v", r.name, err)
		}
		for _, seg := range r.segments {
			s.delivered += len(seg.got)
		}
		r.segments = []*segment{{after: r.cursor.Load()}}
		r.connections = r.connections[len(r.connections)-1:]
		r.mu.Unlock()
	}
	s.ledger.prune()
	s.kicker.forget()
	s.mu.Lock()
	clear(s.admitted)
	s.mu.Unlock()
}

// checkSegments checks that each event of the reader's topics is in the segment that covers it.
func (r *reader) checkSegments(events []*sent, head uint64) error {
	last := r.segments[len(r.segments)-1]
	last.upTo = max(head, r.cursor.Load())
	for _, seg := range r.segments {
		if err := seg.check(events, r.follow); err != nil {
			return err
		}
	}
	return nil
}

// sample looks at the memory, goroutines and descriptors of the nodes, which have no sessions
// then. They must not have grown since the node's first sample.
func (s *soak) sample() {
	s.http.CloseIdleConnections()
	for _, p := range s.nodes {
		var st state
		var err error
		s.await(catchUpPatience, p.cfg.Name+" has neither sessions nor more goroutines, descriptors and memory than at first", func() bool {
			if st, err = p.ask("memory", 10*time.Second); err != nil || st.Members > 0 {
				return false
			}
			first, ok := s.samples[p.cfg.Name]
			return !ok || st.Goroutines <= first.Goroutines+first.Goroutines/4+24 && st.Descriptors <= first.Descriptors+24 && st.Heap <= 2*first.Heap+(32<<20)
		})
		if _, ok := s.samples[p.cfg.Name]; !ok {
			time.Sleep(beat)
			if st, err = p.ask("memory", 10*time.Second); err != nil {
				s.fail("%s: %v", p.cfg.Name, err)
			}
			s.samples[p.cfg.Name] = st
		}
		s.noteSample(p, st)
		if s.failed() {
			if st, err := p.ask("stacks=1", 10*time.Second); err == nil {
				s.trace("%s: %+v", p.cfg.Name, st)
			}
			return
		}
	}
}

// awaitFewConsumers waits until the stream has only the consumers of the hubs, and those of
// hubs that were killed are deleted.
func (s *soak) awaitFewConsumers() {
	began := time.Now()
	n := 0
	s.await(catchUpPatience, "there are only the consumers of the hubs", func() bool {
		st, err := s.nodes[0].ask("leader", 2*time.Second)
		if err == nil && st.Leader != "" {
			n = st.Consumers
			return n == len(s.nodes)
		}
		return false
	})
	s.trace("%d consumers are left after %v", n, time.Since(began).Round(time.Millisecond))
}

// findPanics looks for panics, and races if there is a detector, in the logs of the nodes.
func (s *soak) findPanics() {
	for _, p := range s.nodes {
		log, err := os.ReadFile(p.logFile())
		if err != nil {
			s.fail("%v", err)
		}
		for _, sign := range []string{"panic", "DATA RACE"} {
			if i := bytes.Index(log, []byte(sign)); i >= 0 {
				s.fail("%s: %.3000s", p.cfg.Name, log[max(0, i-100):])
			}
		}
	}
}

// forget forgets all orders.
func (k *kicker) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.orders = slices.Delete(k.orders, 0, len(k.orders))
}
