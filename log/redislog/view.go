package redislog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/chi-sse/sse/hub"
)

// view is what the server had of the log at some time.
type view struct {
	epoch   uint64
	base    uint64 // what is added to the milliseconds of offsets
	first   uint64 // offset of the first record, or 0 if there is none
	last    uint64 // offset of the newest record that there was
	gone    uint64 // everything up to this offset may have been dropped
	deleted uint64 // the newest offset that was deleted out of the middle, or 0
	size    uint64 // about how many bytes a record has
	foreign bool   // somebody else has dropped or deleted some, and settle has not noted it
}

// errUnsettled reports that settle has to look at the epoch first.
var errUnsettled = errors.New("the server is not the one that it was")

// parseView returns the view in the answer to lookCmd.
func parseView(cmd *redis.Cmd) (v view, err error) {
	answer, err := cmd.Slice()
	if err != nil {
		return v, err
	}
	if len(answer) == 0 {
		return v, errUnsettled
	}
	if len(answer) != 10 {
		return v, fmt.Errorf("the server's answer has %d parts", len(answer))
	}
	number := func(i int) uint64 {
		switch part := answer[i].(type) {
		case int64:
			return uint64(part)
		case string:
			n, numErr := strconv.ParseUint(part, 10, 64)
			if numErr == nil {
				return n
			}
		case nil:
			return 0
		}
		err = fmt.Errorf("part %d of the server's answer is %v; it must be a number", i, answer[i])
		return 0
	}
	v.epoch, v.base = number(0), number(1)
	offset := func(i int) uint64 {
		text, _ := answer[i].(string)
		at, ok := parseID(text)
		if ok {
			var n uint64
			if n, ok = offsetOf(at, v.base); ok {
				return n
			}
		}
		err = idError(text)
		return 0
	}
	v.gone, v.first, v.last, v.deleted = offset(2), offset(4), offset(5), offset(6)
	length, added, goneAdded := number(7), number(8), number(3)
	if length == 0 {
		v.first = 0
	}
	v.size = number(9) / max(added, 1)
	if v.foreign = length+goneAdded < added; v.foreign {
		if v.gone = max(v.gone, v.first-min(v.first, 1)); length == 0 {
			v.gone = v.last
		}
	}
	if err == nil && v.epoch == 0 {
		err = errors.New("the epoch in the server's hash is not a number from 1 on")
	}
	return v, err
}

// idError reports an id that no hub can have made.
func idError(text string) error {
	return fmt.Errorf("the stream has the id %q, which is not one of a hub: only hubs may add to it", text)
}

// check returns an error if what comes after the position cannot be had.
func (v *view) check(after hub.Position) error {
	switch {
	case v.epoch != after.Epoch:
		return epochError(after, v.epoch)
	case after.Offset < v.gone:
		return &hub.TruncatedError{First: v.from()}
	}
	return nil
}

// from returns the offset of the first record, or just after the last one if there is none.
func (v *view) from() uint64 {
	if v.first == 0 {
		return v.last + 1
	}
	return v.first
}

// holed reports whether records after the offset may have been deleted out of the middle.
func (v *view) holed(after uint64) bool { return v.deleted > max(after, v.gone) }

// look looks at the log, and begins another epoch if that is necessary.
func (l *Log) look(ctx context.Context) (view, error) {
	views := make(chan view, 1)
	err := l.node.do(ctx, func(ctx context.Context, c *redis.Client) error {
		v, err := l.lookWith(ctx, c)
		views <- v
		return err
	})
	if err != nil {
		return view{}, err
	}
	return <-views, nil
}

func (l *Log) lookWith(ctx context.Context, c *redis.Client) (v view, err error) {
	err = l.settled(ctx, c, func() (view, error) {
		v, err = parseView(look.EvalShaRO(ctx, c, l.keys[:2]))
		return v, err
	})
	return v, err
}

// maxSettles is how often a look is tried again because of what it has found.
const maxSettles = 5

// settled calls f, which looks at the log, and if necessary, begins another epoch and calls f again.
func (l *Log) settled(ctx context.Context, c *redis.Client, f func() (view, error)) error {
	for n := 0; ; n++ {
		epoch, seen := l.newest() // before the look, since others append meanwhile
		v, err := f()
		rewound := v.epoch == epoch && idOf(v.last, v.base).less(seen)
		switch {
		case err == nil && v.foreign && !l.cfg.ReadOnly && n == 0, errors.Is(err, errUnsettled), err == nil && rewound:
			if err := l.settle(ctx, c); err != nil {
				return err
			}
		case hasCode(err, "NOSCRIPT"):
			if err := look.Load(ctx, c).Err(); err != nil {
				return err
			}
		default:
			if err == nil {
				l.saw(v.epoch, v.base, v.last)
				l.noteSize(v.size)
			}
			return err
		}
		if n == maxSettles {
			return fmt.Errorf("%w: the epoch changes again and again", errTryAgain)
		}
	}
}

// settle begins another epoch if the server does not have, or need not have, all that it had in the
// epoch so far. It creates the log if there is none.
func (l *Log) settle(ctx context.Context, c *redis.Client) error {
	epoch, seen := l.newest()
	create := 1
	if l.cfg.ReadOnly {
		create = 0
	}
	next := minEpoch + rand.Uint64N(35*minEpoch)
	call := func() ([]any, error) {
		return settle.EvalSha(ctx, c, l.keys, next, epoch, seen.ms, seen.seq, create).Slice()
	}
	answer, err := call()
	if hasCode(err, "NOSCRIPT") {
		if err = settle.Load(ctx, c).Err(); err == nil {
			answer, err = call()
		}
	}
	switch {
	case denied(err):
		return &UnsettledError{l.cfg.Name, err}
	case err != nil:
		return err
	case len(answer) == 0:
		return &NotFoundError{l.cfg.Name}
	case len(answer) == 2 && answer[1] != "":
		l.cfg.Logger.Info("redislog: another epoch has begun", "log", l.cfg.Name, "epoch", answer[0], "reason", answer[1])
	}
	return nil
}

// minEpoch is the lowest epoch. The text form of all has 8 characters.
const minEpoch = 36 * 36 * 36 * 36 * 36 * 36 * 36

// saw notes the newest record that was seen of an epoch.
func (l *Log) saw(epoch, base, offset uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if epoch != l.epoch {
		l.epoch, l.base, l.seen = epoch, base, 0
	}
	l.seen = max(l.seen, offset)
}

// newest returns the epoch, and the newest record that was seen in it.
func (l *Log) newest() (epoch uint64, seen id) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch, idOf(l.seen, l.base)
}

// noteSize notes how many bytes a record has, and returns about how many one may have.
func (l *Log) noteSize(bytes uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.size = max(bytes, l.size-l.size/8)
	return l.size
}
