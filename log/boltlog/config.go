package boltlog

import (
	"log/slog"
	"math"
	"time"
)

// The defaults of a zero [Config].
const (
	DefaultMaxEvents   = 1_000_000
	DefaultMaxBytes    = 1 << 30
	DefaultMaxAge      = 7 * 24 * time.Hour
	DefaultLockTimeout = time.Second
)

// Config configures a [Log]. Its zero value is ready to use.
//
// MaxEvents, MaxBytes and MaxAge say which events the Log drops, the oldest first. An event is
// dropped with its key: the Log remembers a key as long as the event that has it.
type Config struct {
	// MaxEvents is the largest number of events in the Log, over all topics. The Log drops up
	// to 1,024 at once, but not more than a sixteenth. Default: 1,000,000. A negative value
	// means no bound.
	MaxEvents int

	// MaxBytes is how much the events may take, in bytes: their texts and about 100 bytes
	// for each. The Log drops up to 1 MiB at once, but not more than a sixteenth. The file can
	// be twice as large, since its pages are not full. MaxBytes, or 1 GiB if that is less, is
	// also the size of the largest Append. Open reads the whole file once to check it. Default:
	// 1 GiB. A negative value means no bound.
	MaxBytes int64

	// MaxAge is how long an event stays, by the Log's own time. That time never goes back,
	// even if the machine's clock is set back. An event can stay longer by a hundredth of
	// MaxAge, or a minute if that is less, but at least a second. Default: 7 days. A
	// negative value means no bound.
	MaxAge time.Duration

	// LockTimeout is how long Open waits for another process to close the file. Raise it if
	// a new process starts while the old one still shuts down. Default: one second. A
	// negative value means that Open does not wait.
	LockTimeout time.Duration

	// Logger logs a new epoch with its reason, damaged records, and trouble with dropping
	// old events. Default: slog.Default().
	Logger *slog.Logger

	indexEvery int // how many offsets may be without entries in the index; tests lower it
}

func (c Config) withDefaults() Config {
	c.MaxEvents = bound(c.MaxEvents, DefaultMaxEvents, math.MaxInt)
	c.MaxBytes = bound(c.MaxBytes, DefaultMaxBytes, math.MaxInt64)
	c.MaxAge = bound(c.MaxAge, DefaultMaxAge, math.MaxInt64)
	c.LockTimeout = bound(c.LockTimeout, DefaultLockTimeout, math.MaxInt64)
	if c.LockTimeout == math.MaxInt64 { // it was negative
		c.LockTimeout = 0
	}
	if c.indexEvery == 0 {
		c.indexEvery = indexEvery
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// bound returns v, or standard if v is zero, or none if v is negative.
func bound[T int | int64 | time.Duration](v, standard, none T) T {
	switch {
	case v == 0:
		return standard
	case v < 0:
		return none
	}
	return v
}
