package pglog

import (
	"context"
	"errors"
	"time"

	"github.com/chi-sse/sse/hub"
)

// A log whose files were restored from a copy can give numbers again without knowing it. A Log
// notices that if it has seen a record that is not there any longer.

// mark is a record that was seen in an epoch.
type mark struct {
	epoch, offset uint64
	at            time.Time
}

// saw notes the newest record that was followed.
func (l *Log) saw(m mark) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.epoch != l.newest.epoch || m.offset > l.newest.offset {
		l.newest = m
	}
}

// checkMark returns an error if what comes after the position cannot be had, or the log no longer
// has the newest record that was seen.
func (l *Log) checkMark(ctx context.Context, after hub.Position) error {
	l.mu.Lock()
	m := l.newest
	l.mu.Unlock()
	var b bounds
	var at *time.Time
	err := l.ask(ctx, func(ctx context.Context) error {
		return l.pool.QueryRow(ctx, l.queries.mark, int64(m.offset)).Scan(&b.epoch, &b.first, &b.last, &at)
	})
	if err != nil {
		return err
	}
	if now := b.of(); m.epoch == now.Epoch && (m.offset > now.Last || at != nil && !at.Equal(m.at)) {
		return l.rewound(ctx, m.epoch, m.offset, now.Last)
	}
	return check(b.of(), after)
}

// rewound begins another epoch, because the log of the epoch no longer has what was seen. It
// returns the error of the follow.
func (l *Log) rewound(ctx context.Context, epoch, seen, last uint64) error {
	err := errors.New("this Log may not, because Config.ReadOnly is set")
	if !l.cfg.ReadOnly {
		if _, err = l.pool.Exec(ctx, l.queries.renew, int64(epoch)); err == nil {
			l.cfg.Logger.Warn("pglog: the log has lost records that this hub has seen; it has another epoch now", "seen", seen, "last", last)
			return epochError(hub.Position{Epoch: epoch, Offset: seen}, 0)
		}
	}
	return &RewoundError{Seen: seen, Last: last, Err: err}
}
