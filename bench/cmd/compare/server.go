//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"runtime"
	"strconv"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/stream"
)

// server is the measured process: a library that serves streams, and a publisher.
type server struct {
	lib     library.Library
	publish library.Publish
	jobs    chan job // for the handler of the single stream, if the workload has one
	link    *serverLink
	next    int // the number of the next event
}

// runServer carries out the server's operations with the library of that name until the
// parent ends it.
func runServer(name string) error {
	lib, ok := library.Find(name)
	if !ok {
		return fmt.Errorf("library %q does not exist", name)
	}
	link, err := openServerLink()
	if err != nil {
		return err
	}
	s := &server{lib: lib, link: link}
	ops := map[string]operation{
		"start":  op(s.start),
		"gather": op(s.gather),
		"encode": profiled(op(s.encode)),
		"decode": profiled(op(s.decode)),
		"read":   profiled(op(s.read)),
		"stream": profiled(op(s.stream)),
		"full":   profiled(op(s.full)),
		"rate":   profiled(op(s.rate)),
		"burst":  profiled(op(s.burst)),
		"memory": op(func(struct{}) (memory, error) { return readMemory() }),
	}
	maps.Copy(ops, growthOps())
	return serveCalls(ops)
}

type startArgs struct {
	Backlog int  // how many events a subscriber may be behind
	Stream  bool // serve one stream at a time, whose handler carries out jobs
}

// hello says where the streams are: the server's address and the request target.
type hello struct{ Addr, Target string }

// start lets the library serve streams on a new listener.
func (s *server) start(args startArgs) (h hello, err error) {
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return h, err
	}
	if args.Stream {
		err = s.startStream(ln)
	} else {
		s.publish, err = s.lib.Start(ln, library.Setup{Backlog: args.Backlog})
	}
	return hello{ln.Addr().String(), s.lib.Target}, err
}

// send publishes the next event, with size bytes of data.
func (s *server) send(size int) error { return s.publish(s.message(size)) }

// message returns the next event, with size bytes of data, and counts it.
func (s *server) message(size int) library.Message {
	m := library.Message{ID: strconv.Itoa(s.next), Name: eventName, Data: stream.Data(s.next, size)}
	s.next++
	return m
}

// eventName is the name of every event that has one.
const eventName = "e"

// published says what a publisher has done.
type published struct {
	Events   int           // events that were measured
	End      int           // the number of the event after the last
	Duration time.Duration // from the first event to the last acknowledgement
	Usage    usage
	Blocked  bool // the library's publishing was still blocked when the time was over
}

type gatherArgs struct{ Size int }

// gather publishes events until every subscriber has received one. Only that shows that all
// are subscribed: no library tells, and some do not even send the response's head before
// the first event.
func (s *server) gather(args gatherArgs) (p published, err error) {
	heard, pause := false, 10*time.Millisecond
	for !heard && err == nil {
		if err = s.send(args.Size); err == nil {
			heard, err = s.link.wait(pause)
			pause = min(2*pause, 250*time.Millisecond)
		}
	}
	p.End = s.next
	return p, err
}

type fullArgs struct {
	Size, Window int
	Warm         time.Duration // publish this long before measuring
	Duration     time.Duration
	Count        int // if not 0, publish this many events, whatever Duration says
}

// full publishes at full rate: each event as soon as all subscribers have received the one
// that is args.Window events before it.
func (s *server) full(args fullArgs) (p published, err error) {
	s.link.acked = s.next
	if args.Warm > 0 {
		if err := s.windowed(args.Size, min(4, args.Window), 0, args.Warm); err != nil {
			return p, err
		}
	}
	runtime.GC()
	first, began, before := s.next, now(), readUsage()
	if err := s.windowed(args.Size, args.Window, args.Count, args.Duration); err != nil {
		return p, err
	}
	p.Duration, p.Usage = now()-began, readUsage().since(before)
	p.Events, p.End = s.next-first, s.next
	return p, s.link.tell(s.next)
}

// stall is how long a measurement waits without progress before it fails.
const stall = 15 * time.Second

var errLost = errors.New("events were lost or streams were closed")

// windowed publishes count events, or if count is 0, events for d. At most window events are
// in flight. windowed returns when all subscribers have the last one, and fails if they make
// no progress for stall or if events are lost.
func (s *server) windowed(size, window, count int, d time.Duration) error {
	first, deadline := s.next, now()+d
	for more := true; more; {
		if err := s.send(size); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		if more = now() < deadline; count > 0 {
			more = s.next-first < count
		}
		for s.next-s.link.acked >= window || !more && s.link.acked < s.next {
			heard, err := s.link.wait(stall)
			switch {
			case err != nil:
				return err
			case !heard:
				return fmt.Errorf("event %d did not reach all subscribers in %v", s.link.acked-first, stall)
			case s.link.acked == gaveUp:
				return errLost
			}
		}
	}
	return nil
}

type rateArgs struct {
	Size, Count int
	Start       time.Duration // when the first event is due, by the monotonic clock
	Interval    time.Duration
	Grace       time.Duration // how long publishing may take beyond the time of the last event
}

// rate publishes args.Count events, each when it is due.
func (s *server) rate(args rateArgs) (p published, err error) {
	runtime.GC()
	sleepUntil(args.Start - time.Millisecond)
	return s.publishAll(args.Count, args.Interval*time.Duration(args.Count)+args.Grace, func(i int) error {
		sleepUntil(args.Start + time.Duration(i)*args.Interval)
		return s.send(args.Size)
	})
}

type burstArgs struct {
	Size, Count int
	Grace       time.Duration // how long publishing may take
}

// burst publishes args.Count events as fast as the library accepts them.
func (s *server) burst(args burstArgs) (p published, err error) {
	runtime.GC()
	return s.publishAll(args.Count, args.Grace, func(int) error { return s.send(args.Size) })
}

// publishAll publishes count events by send. Then it waits until the generator says that all
// subscribers have the last event, or that it gave up. A library may block forever, so
// publishAll reports Blocked if publishing takes longer than limit.
func (s *server) publishAll(count int, limit time.Duration, send func(i int) error) (p published, err error) {
	s.link.acked = s.next
	began, before := now(), readUsage()
	p.Events, p.End = count, s.next+count
	done := make(chan error, 1)
	go func() {
		for i := range count {
			if err := send(i); err != nil {
				done <- fmt.Errorf("publish: %w", err)
				return
			}
		}
		done <- nil
	}()
	select {
	case err := <-done:
		if err != nil {
			return p, err
		}
	case <-time.After(limit):
		p.Blocked = true
	}
	if err := s.link.tell(p.End); err != nil {
		return p, err
	}
	if err := s.awaitAck(p.End, limit+stall); err != nil {
		return p, err
	}
	p.Duration, p.Usage = now()-began, readUsage().since(before)
	return p, nil
}

// awaitAck waits until the generator has all events before end or has given up. It fails if
// the generator sends nothing for limit.
func (s *server) awaitAck(end int, limit time.Duration) error {
	for s.link.acked < end {
		if heard, err := s.link.wait(limit); err != nil {
			return err
		} else if !heard {
			return fmt.Errorf("the load generator sent nothing for %v", limit)
		}
	}
	return nil
}
