package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestSizesAndDurations(t *testing.T) {
	for n, want := range map[int]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 1234567: "1.2 MB", 2e9: "2.0 GB"} {
		assert.Equal(t, want, size(n))
	}
	for d, want := range map[time.Duration]string{
		0:                       "0s",
		1234 * time.Microsecond: "1ms",
		1540 * time.Millisecond: "1.5s",
		3723400 * 1e6:           "1h2m3s",
	} {
		assert.Equal(t, want, duration(d))
	}
	for d, want := range map[time.Duration]string{
		200 * time.Microsecond:   "0.2 ms",
		843 * time.Millisecond:   "843 ms",
		12300 * time.Millisecond: "12.3 s",
		62 * time.Minute:         "62.0 min",
		25 * time.Hour:           "25.0 h",
	} {
		assert.Equal(t, want, elapsed(d))
	}
	for n, want := range map[int]string{0: "0 events", 1: "1 event", 2: "2 events"} {
		assert.Equal(t, want, plural(n, "event"))
	}
	assert.Contains(t, (&tally{seen: 3, shown: 1}).String(), "1 of 3 events, ")
	assert.Equal(t, "3 events, 1.5 kB of data, 0.0 ms, 1 reconnection", fmt.Sprint(&tally{seen: 3, shown: 3, bytes: 1500, connections: 2}))
}
