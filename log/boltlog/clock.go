package boltlog

import "time"

// clock is the Log's time. It never goes back, and does not stop while the machine's clock,
// which was set back, catches up. So a record is never younger than one before it.
type clock struct {
	now  func() time.Time // the machine's
	seen time.Time        // what now returned last
	time time.Time        // what tell returned last
}

// newClock returns a clock that is not before last.
func newClock(now func() time.Time, last time.Time) *clock {
	c := &clock{now: now, seen: now()}
	c.time = later(c.seen.Round(0), last)
	return c
}

// tell returns the time. It goes on by what has passed since the last call, which Go measures
// without the machine's clock, or to that clock's time if that is later: it was asleep.
func (c *clock) tell() time.Time {
	now := c.now()
	passed := max(0, now.Sub(c.seen))
	c.seen = now
	c.time = later(c.time.Add(passed), now.Round(0))
	return c.time
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
