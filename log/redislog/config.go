package redislog

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/chi-sse/sse/hub"
)

// The defaults of Config.
const (
	DefaultMaxEvents      = 1_000_000
	DefaultMaxBytes       = 256 << 20
	DefaultMaxAge         = 7 * 24 * time.Hour
	DefaultKeyWindow      = 2 * time.Minute
	DefaultMaxKeys        = 500_000
	DefaultReplicaTimeout = time.Second
)

// Config configures a [Log]. Name must be set. Hubs of one log should have the same bounds: each
// append applies its own.
type Config struct {
	// Name is the name of the log. The keys that the server has of it are the name in
	// braces, a colon and a word, such as {chat}:events, so that all are in one slot of a
	// cluster.
	Name string

	// MaxEvents, MaxBytes and MaxAge say how much the stream keeps at least, if it gets as
	// much: when an append finds that it has more than one of them, and about 2 % more than
	// that, it drops the oldest events. MaxBytes counts the bytes of the events as they are
	// stored; the server needs up to twice as many. Negative values mean no bound. Defaults:
	// DefaultMaxEvents, DefaultMaxBytes and DefaultMaxAge.
	MaxEvents int64
	MaxBytes  int64
	MaxAge    time.Duration

	// KeyWindow says for how long the keys of events are remembered at least, unless more
	// than MaxKeys are used in that time. A key takes about 100 bytes of the server, and up
	// to twice MaxKeys are kept. Defaults: DefaultKeyWindow and DefaultMaxKeys.
	KeyWindow time.Duration
	MaxKeys   int64

	// Replicas makes Append wait until so many replicas have the records, but not longer
	// than ReplicaTimeout. See [ReplicasError] for what happens then. Defaults: 0, and
	// DefaultReplicaTimeout.
	Replicas       int
	ReplicaTimeout time.Duration

	// ReadOnly makes Append fail with an error that matches [hub.ErrReadOnly]. Open does not
	// create the log then.
	ReadOnly bool

	// Logger logs a new epoch with its reason. Default: slog.Default().
	Logger *slog.Logger
}

// withDefaults returns c with its defaults, or an error if it is invalid.
func (c Config) withDefaults() (Config, error) {
	if c.Name == "" || strings.ContainsFunc(c.Name, func(r rune) bool { return r <= ' ' || r == 127 || r == '{' || r == '}' }) {
		return c, fmt.Errorf("Config.Name is %q; it must be a name without spaces and braces", c.Name)
	}
	c.MaxEvents, c.MaxBytes, c.MaxAge = bound(c.MaxEvents, DefaultMaxEvents), bound(c.MaxBytes, DefaultMaxBytes), bound(c.MaxAge, DefaultMaxAge)
	if c.KeyWindow == 0 {
		c.KeyWindow = DefaultKeyWindow
	}
	if c.MaxKeys == 0 {
		c.MaxKeys = DefaultMaxKeys
	}
	if c.ReplicaTimeout == 0 {
		c.ReplicaTimeout = DefaultReplicaTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	switch {
	case c.KeyWindow < minKeyWindow:
		return c, fmt.Errorf("Config.KeyWindow is %v; it must be at least %v, so that an event that is published again with its key is recognized", c.KeyWindow, minKeyWindow)
	case c.MaxKeys < 0:
		return c, errors.New("Config.MaxKeys must be positive, or zero for its default")
	case c.Replicas < 0:
		return c, errors.New("Config.Replicas must not be negative")
	case c.ReplicaTimeout < time.Millisecond:
		return c, errors.New("Config.ReplicaTimeout must be at least a millisecond, or zero for its default")
	}
	return c, nil
}

// minKeyWindow is the shortest time for which keys may be remembered. A publisher that did not
// get an answer within hub.Config.PublishTimeout publishes again with the same key.
const minKeyWindow = 10 * time.Second

// unbounded is a bound that nothing reaches, and that a script can compute with.
const unbounded = 1 << 52

// bound returns v, or its default if it is 0, or unbounded if it is negative.
func bound[T int64 | time.Duration](v, otherwise T) T {
	switch {
	case v < 0:
		return unbounded
	case v == 0:
		return otherwise
	}
	return v
}

var _ hub.Log = (*Log)(nil)
