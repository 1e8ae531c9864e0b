//go:build linux

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/event"
)

// verifier is a sink that compares what is decoded with what was sent, up to count
// events.
type verifier struct {
	shape  shape
	frames bool // data is the whole frame
	count  int
	next   int
	err    error
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
		got.Name = "" // what the specification has for none
	}
	if got != want {
		return fmt.Errorf("event %d is %.300q, want %.300q", v.next, got, want)
	}
	return nil
}

// result is the error of a library that has decoded, or what else was wrong.
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

// counter is a sink that counts, and looks at every length. If it has a duration, it
// measures that long after an eighth of it.
type counter struct {
	events, bytes int
	duration      time.Duration

	began  time.Duration // 0 before the first event
	from   mark
	over   bool // a library may go on for a while
	result timed
}

// mark is a moment of the measurement.
type mark struct {
	at     time.Duration
	events int
	usage  usage
}

func (c *counter) mark() mark { return mark{now(), c.events, readUsage()} }

func (c *counter) Event(id, name, data string) bool { return c.count(len(id) + len(name) + len(data)) }

func (c *counter) RawEvent(id, name, data []byte) bool {
	return c.count(len(id) + len(name) + len(data))
}

func (c *counter) count(bytes int) bool {
	if c.over {
		return false
	}
	c.bytes += bytes
	c.events++
	return c.duration == 0 || c.events%64 != 1 || c.goOn()
}

// goOn reports whether the time is not over yet.
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

// since is what happened since m.
func (c *counter) since(m mark) timed {
	return timed{Events: c.events - m.events, Duration: now() - m.at, Usage: readUsage().since(m.usage)}
}

// timed is the outcome of one process that measured itself.
type timed struct {
	Events   int
	Duration time.Duration
	Usage    usage
}

// figures are those of the columns that all such workloads have.
func (t timed) figures() []float64 {
	return []float64{
		float64(t.Events) / t.Duration.Seconds(),
		1000 * micros(t.Usage.CPU, t.Events),
		float64(t.Usage.Mallocs) / float64(t.Events),
	}
}
