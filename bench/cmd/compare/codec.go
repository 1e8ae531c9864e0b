//go:build linux

package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/report"
	"github.com/chi-sse/sse/event"
)

var timedColumns = []report.Column{
	{Title: "events/s", Better: report.Higher, Ratio: true, Plot: true},
	{Title: "CPU per event, ns", Better: report.Lower, Ratio: true},
	{Title: "allocations per event", Better: report.Lower},
}

// encode measures for d how fast a process encodes events of shape s. It reuses its buffer
// if the library can do so.
func encode(s shape, d time.Duration) workload {
	return codec("encode-"+s.Name, "Encode events of "+s.Title, encoding, "encode", s, d)
}

// decode measures for d how fast a process decodes events of shape s from an io.Reader over
// memory.
func decode(s shape, d time.Duration) workload {
	return codec("decode-"+s.Name, "Decode events of "+s.Title, decoding, "decode", s, d)
}

// codec returns a workload that calls op, one of the server's operations, for d.
func codec(name, title string, of *discipline, op string, s shape, d time.Duration) workload {
	return workload{
		name:    name,
		title:   title,
		of:      of,
		columns: timedColumns,
		limit:   time.Minute + 2*d,
		run: func(ctx context.Context, lib library.Library) (out outcome, err error) {
			p, err := newPair(ctx, lib.Name)
			if err != nil {
				return out, err
			}
			defer p.end()
			var t timed
			err = p.server.call(op, codecArgs{s, d}, &t)
			out.figures = t.figures()
			return out, err
		},
	}
}

type codecArgs struct {
	Shape    shape
	Duration time.Duration // 0: check instead of measuring
}

// encode encodes the same thousand events over and over and returns how fast that was.
func (s *server) encode(args codecArgs) (t timed, err error) {
	if args.Duration == 0 {
		return t, checkEncode(s.lib)
	}
	encode := s.lib.NewEncode()
	messages := make([]library.Message, 1000)
	for i := range messages {
		messages[i] = args.Shape.message(i)
	}
	c := &counter{}
	all := func(d time.Duration) error {
		for deadline := now() + d; now() < deadline; {
			for i := range messages {
				frame, err := encode(messages[i])
				if err != nil {
					return err
				}
				c.bytes += len(frame)
			}
			c.events += len(messages)
		}
		return nil
	}
	return c.measure(all, args.Duration)
}

// decode decodes the same mebibyte over and over and returns how fast that was.
func (s *server) decode(args codecArgs) (t timed, err error) {
	if args.Duration == 0 {
		return t, checkDecode(s.lib)
	}
	text := args.Shape.text(args.Shape.mebibyte())
	c := &counter{}
	all := func(d time.Duration) error {
		for deadline := now() + d; now() < deadline; {
			before := c.events
			if err := s.lib.Decode(strings.NewReader(text), c); err != nil {
				return err
			}
			if n := c.events - before; n != args.Shape.mebibyte() {
				return fmt.Errorf("%d of %d events came", n, args.Shape.mebibyte())
			}
		}
		return nil
	}
	return c.measure(all, args.Duration)
}

// measure calls f for an eighth of d to warm up, then for d, and returns what c counted in
// the second call.
func (c *counter) measure(f func(time.Duration) error, d time.Duration) (t timed, err error) {
	if err := f(d / 8); err != nil {
		return t, err
	}
	runtime.GC()
	from := c.mark()
	err = f(d)
	return c.since(from), err
}

// checkEncodeInChild calls checkEncode in a new process.
func checkEncodeInChild(ctx context.Context, lib library.Library) error {
	return checkCodecInChild(ctx, lib, "encode")
}

// checkDecodeInChild calls checkDecode in a new process.
func checkDecodeInChild(ctx context.Context, lib library.Library) error {
	return checkCodecInChild(ctx, lib, "decode")
}

// checkCodecInChild checks the library by op in a new process, because the library may crash
// or hang.
func checkCodecInChild(ctx context.Context, lib library.Library, op string) error {
	p, err := newPair(ctx, lib.Name)
	if err != nil {
		return err
	}
	defer p.end()
	return p.server.call(op, codecArgs{}, nil)
}

// checkEncode decodes what the library encodes and compares it with what was given to it.
func checkEncode(lib library.Library) error {
	encode := lib.NewEncode()
	for _, s := range []shape{small, pages} {
		v := &verifier{shape: s, count: 200}
		for seq := range v.count {
			frame, err := encode(s.message(seq))
			if err != nil {
				return err
			}
			n := 0
			for ev, err := range event.NewDecoder(strings.NewReader(string(frame))).All() {
				if err != nil {
					return err
				}
				if n++; n == 1 {
					v.Event(ev.ID, ev.Name, ev.Data)
				}
			}
			if v.err != nil {
				return v.err
			}
			if n != 1 {
				return fmt.Errorf("event %d is encoded as %.300q, which is %d events", seq, frame, n)
			}
		}
	}
	return nil
}

// checkDecode compares what the library decodes with what was encoded. shape.text encodes
// it, without any library.
func checkDecode(lib library.Library) error {
	for _, s := range []shape{tokens, tiny, small, pages, large} {
		v := &verifier{shape: s, frames: lib.Kind == library.Limit, count: 200}
		if err := v.result(lib.Decode(strings.NewReader(s.text(v.count)), v)); err != nil {
			return err
		}
	}
	return nil
}
