package main

import (
	"fmt"
	"time"
)

// tally counts what the summary reports.
type tally struct {
	began       time.Time
	connections int
	seen, shown int // events
	bytes       int // in the data of the events that were shown
}

// String returns the summary, such as "3 events, 1.5 kB of data, 843 ms, 1 reconnection".
func (t *tally) String() string {
	events := plural(t.shown, "event")
	if t.seen > t.shown {
		events = fmt.Sprintf("%d of %s", t.shown, plural(t.seen, "event"))
	}
	var took time.Duration
	if !t.began.IsZero() {
		took = time.Since(t.began)
	}
	return fmt.Sprintf("%s, %s of data, %s, %s", events, size(t.bytes), elapsed(took), plural(max(0, t.connections-1), "reconnection"))
}

// plural returns n and the noun in the right number.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// size returns n bytes in the largest unit of which there is at least one.
func size(n int) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1e6:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1e9:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	default:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	}
}

// duration rounds a delay or a limit to what a reader needs, and writes it as the flags take it.
func duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}

// elapsed returns d in the largest of ms, s, min and h of which it is at least ten, or in
// ms. Milliseconds from 10 on are whole, and every other number has one decimal.
func elapsed(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	case d.Round(time.Millisecond) < 10*time.Second:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
	case d < 10*time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 10*time.Hour:
		return fmt.Sprintf("%.1f min", d.Minutes())
	default:
		return fmt.Sprintf("%.1f h", d.Hours())
	}
}
