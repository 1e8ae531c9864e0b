//go:build linux

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/event"
)

// verifier is a library.Sink that compares decoded events with what was sent, up to count
// events.
type verifier struct {
	shape  shape
	frames bool // an event's data is the whole encoded event
	count  int
	next   int   // the number of the next event
	err    error // the first difference
}

func (v *verifier) Event(id, name, data string) bool {
	if v.err == nil && v.next < v.count {
		v.err = v.verify(library.Message{ID: id, Name: name, Data: data})
		v.next++
	}
	return v.err == nil && v.next < v.count
}

func (v *verifier) RawEvent(id, name, data []byte) bool {
	return v.Event(string(id), string(name), string(data))
}

// verify compares got with the next event.
func (v *verifier) verify(got library.Message) error {
	if v.frames {
		ev, err := event.NewDecoder(strings.NewReader(got.Data + "\n\n")).Decode()
		if err != nil {
			return fmt.Errorf("event %d: %w", v.next, err)
		}
		got = library.Message{ID: ev.ID, Name: ev.Name, Data: ev.Data}
	}
	want := v.shape.message(v.next)
	if want.Name == "" && got.Name == "message" {
		got.Name = "" // the name that the specification gives to an event without one
	}
	if got != want {
		return fmt.Errorf("event %d is %.300q, want %.300q", v.next, got, want)
	}
	return nil
}

// result returns the first difference, or err, the library's own error, or an error that
// says that events are missing.
func (v *verifier) result(err error) error {
	switch {
	case v.err != nil:
		return v.err
	case err != nil:
		return err
	case v.next < v.count:
		return fmt.Errorf("%d of %d events came", v.next, v.count)
	}
	return nil
}

// counter is a library.Sink that counts events and bytes. If it has a duration, it ignores
// the first eighth of it, measures for the duration after that, and then wants no more.
type counter struct {
	events, bytes int
	duration      time.Duration

	began  time.Duration // 0 before the first event
	from   mark
	over   bool // the measurement has ended; the library may still send events
	result timed
}

// mark holds the counts and the usage at one moment of a measurement.
type mark struct {
	at     time.Duration
	events int
	usage  usage
}

// mark returns the present moment.
func (c *counter) mark() mark { return mark{now(), c.events, readUsage()} }

func (c *counter) Event(id, name, data string) bool { return c.count(len(id) + len(name) + len(data)) }

func (c *counter) RawEvent(id, name, data []byte) bool {
	return c.count(len(id) + len(name) + len(data))
}

// count adds an event of that many bytes and reports whether c wants more. It looks at the
// clock only once in 64 events.
func (c *counter) count(bytes int) bool {
	if c.over {
		return false
	}
	c.bytes += bytes
	c.events++
	return c.duration == 0 || c.events%64 != 1 || c.goOn()
}

// goOn begins and ends the measurement when it is time. It returns false at the end.
func (c *counter) goOn() bool {
	at := now()
	switch {
	case c.began == 0:
		c.began = at
	case c.from.at == 0:
		if at > c.began+c.duration/8 {
			c.from = c.mark()
		}
	case at > c.from.at+c.duration:
		c.result, c.over = c.since(c.from), true
		return false
	}
	return true
}

// since returns what happened since m.
func (c *counter) since(m mark) timed {
	return timed{Events: c.events - m.events, Duration: now() - m.at, Usage: readUsage().since(m.usage)}
}

// timed is what a process measured of itself.
type timed struct {
	Events   int
	Duration time.Duration
	Usage    usage
}

// figures returns the figures for timedColumns.
func (t timed) figures() []float64 {
	return []float64{
		float64(t.Events) / t.Duration.Seconds(),
		1000 * micros(t.Usage.CPU, t.Events),
		float64(t.Usage.Mallocs) / float64(t.Events),
	}
}
