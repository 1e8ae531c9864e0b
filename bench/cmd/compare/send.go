//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/report"
)

// send measures for d a handler that sends events on one connection, each flushed by itself.
func send(d time.Duration) workload {
	return workload{
		name:  "send",
		title: "One connection: events of about 100 bytes, each flushed by itself; two of the allocations are the benchmark's, to make the event",
		of:    oneByOne,
		columns: []report.Column{
			{Title: "events/s", Better: report.Higher, Ratio: true, Plot: true},
			{Title: "server CPU per event, µs", Better: report.Lower, Ratio: true},
			{Title: "allocations per event", Better: report.Lower},
			{Title: "generator CPU, µs"},
		},
		limit: time.Minute + 2*d,
		run: func(ctx context.Context, lib library.Library) (out outcome, err error) {
			p, err := startStream(ctx, lib.Name)
			if err != nil {
				return out, err
			}
			defer p.end()
			base, err := p.gather(1, eventSize, false)
			if err != nil {
				return out, err
			}
			var pub published
			var got collected
			err = p.both(
				"stream", streamArgs{Size: eventSize, Duration: d}, &pub,
				"collect", collectArgs{Base: base, Patience: stall}, &got)
			if err != nil {
				return out, err
			}
			if out.trouble = got.complaint(pub); out.trouble == "" && got.Lost > 0 {
				out.trouble = fmt.Sprintf("%d lost", got.Lost)
			}
			out.figures = []float64{
				float64(pub.Events) / pub.Duration.Seconds(),
				micros(pub.Usage.CPU, pub.Events),
				float64(pub.Usage.Mallocs) / float64(pub.Events),
				micros(got.CPU, got.Received),
			}
			return out, nil
		},
	}
}

// startStream starts a pair whose server serves one stream at a time.
func startStream(ctx context.Context, lib string) (*pair, error) {
	p, err := newPair(ctx, lib)
	if err != nil {
		return nil, err
	}
	if err := p.server.call("start", startArgs{Stream: true}, &p.hello); err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

// checkStream compares what the client of the library's single stream reads with what was
// sent.
func checkStream(ctx context.Context, lib library.Library) error {
	p, err := startStream(ctx, lib.Name)
	if err != nil {
		return err
	}
	defer p.end()
	return p.check(false)
}

// job is what the handler of the single stream must do: call run, and send its error to
// done.
type job struct {
	run  func(send func(library.Message) error) error
	done chan error
}

// startStream lets the library serve a stream whose handler carries out the server's jobs.
// From then on, publish sends on that stream.
func (s *server) startStream(ln net.Listener) error {
	s.jobs = make(chan job)
	s.publish = func(m library.Message) error {
		err := s.inStream(func(send func(library.Message) error) error { return send(m) })
		if errors.Is(err, errNoStream) {
			return err
		}
		return nil // any other error means that the client has just left
	}
	return s.lib.Stream(ln, func(ctx context.Context, send func(library.Message) error) error {
		for {
			select {
			case j := <-s.jobs:
				err := j.run(send)
				j.done <- err
				if err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
}

var errNoStream = errors.New("no stream is open")

// inStream lets the stream's handler call run, waits, and returns its error. It returns
// errNoStream if no handler takes the job.
func (s *server) inStream(run func(send func(library.Message) error) error) error {
	j := job{run, make(chan error, 1)}
	select {
	case s.jobs <- j:
		return <-j.done
	case <-time.After(stall):
		return errNoStream
	}
}

type streamArgs struct {
	Size     int
	Duration time.Duration
}

// stream sends events on the single stream for an eighth of args.Duration to warm up, and
// then for args.Duration. It waits until the generator says that they have arrived.
func (s *server) stream(args streamArgs) (p published, err error) {
	var first int
	var began time.Duration
	var before usage
	err = s.inStream(func(send func(library.Message) error) error {
		all := func(d time.Duration) error {
			for deadline := now() + d; now() < deadline; {
				if err := send(s.message(args.Size)); err != nil {
					return fmt.Errorf("send: %w", err)
				}
			}
			return nil
		}
		if err := all(args.Duration / 8); err != nil {
			return err
		}
		runtime.GC()
		first, began, before = s.next, now(), readUsage()
		return all(args.Duration)
	})
	if err != nil {
		return p, err
	}
	p.Events, p.End = s.next-first, s.next
	if err := s.link.tell(p.End); err != nil {
		return p, err
	}
	if err := s.awaitAck(p.End, stall); err != nil {
		return p, err
	}
	p.Duration, p.Usage = now()-began, readUsage().since(before)
	return p, nil
}
