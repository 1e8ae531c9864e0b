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

// encode is how fast a process encodes events, into a buffer that it uses again if the
// library has it that way.
func encode(s shape, d time.Duration) workload {
	return codec("encode-"+s.Name, "Encode events of "+s.Title, encoding, "encode", s, d)
}

// decode is how fast a process decodes events from an io.Reader over memory.
func decode(s shape, d time.Duration) workload {
	return codec("decode-"+s.Name, "Decode events of "+s.Title, decoding, "decode", s, d)
}

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
	Duration time.Duration // 0: check, in place of measuring
}

// encode encodes the same thousand events, over and over.
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

// decode decodes the same mebibyte, over and over.
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

// measure measures f for d, after an eighth of it.
func (c *counter) measure(f func(time.Duration) error, d time.Duration) (t timed, err error) {
	if err := f(d / 8); err != nil {
		return t, err
	}
	runtime.GC()
	from := c.mark()
	err = f(d)
	return c.since(from), err
}

func checkedEncode(ctx context.Context, lib library.Library) error {
	return checkedCodec(ctx, lib, "encode")
}

func checkedDecode(ctx context.Context, lib library.Library) error {
	return checkedCodec(ctx, lib, "decode")
}

// checkedCodec has a process do the check, which may crash or hang.
func checkedCodec(ctx context.Context, lib library.Library, op string) error {
	p, err := newPair(ctx, lib.Name)
	if err != nil {
		return err
	}
	defer p.end()
	return p.server.call(op, codecArgs{}, nil)
}

// checkEncode has what the library encodes decoded.
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

// checkDecode has the library decode what was encoded with care.
func checkDecode(lib library.Library) error {
	for _, s := range []shape{tokens, small, pages, large} {
		v := &verifier{shape: s, frames: lib.Kind == library.Limit, count: 200}
		if err := v.result(lib.Decode(strings.NewReader(s.text(v.count)), v)); err != nil {
			return err
		}
	}
	return nil
}
