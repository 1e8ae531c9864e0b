package redislog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chi-sse/sse/hub"
)

const (
	followBatch = 512         // how many records apply gets at once at the most
	followBlock = time.Second // how long the server waits for a record at once
)

// Follow implements [hub.Log]. It has a connection of its own, which is closed when it ends. Any
// trouble with it ends Follow, so that the hub knows.
func (l *Log) Follow(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("redislog: follow: %w", err)
	}
	f := &follow{l: l, at: after, apply: apply}
	err := f.run(ctx)
	l.node.reset(ctx, nil, err)
	switch {
	case f.applied != nil:
		return f.applied
	case ctx.Err() != nil:
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return fmt.Errorf("redislog: follow: %w", err)
}

// follow is a call of Follow.
type follow struct {
	l       *Log
	at      hub.Position // everything up to here is applied
	apply   func(hub.Batch) error
	applied error // what apply has returned
	idle    bool  // an empty Batch was applied
	reading reading
}

func (f *follow) run(ctx context.Context) error {
	c, err := f.l.node.follower(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // wakes who waits for an answer
	defer func() {
		if stop() {
			_ = c.Close()
		}
	}()
	v, err := f.l.lookWith(ctx, c)
	if err != nil {
		return err
	}
	f.reading = reading{l: f.l, key: f.l.keys[keyEvents], base: v.base, size: v.size}
	if err := v.check(f.at); err != nil {
		return err
	}
	for {
		more, err := f.catchUp(ctx, c)
		for err == nil && !more {
			more, err = f.wait(ctx, c)
		}
		if err != nil {
			return err
		}
	}
}

// catchUp applies what the stream has. more means that there may be more.
func (f *follow) catchUp(ctx context.Context, c *redis.Client) (more bool, err error) {
	p, err := f.reading.page(ctx, c, f.at, math.MaxUint64, followBatch)
	if err != nil {
		return false, err
	}
	if err := f.take(p.Batch); err != nil || p.full {
		return p.full, err
	}
	return false, f.sayIdle()
}

// wait waits for new records, and applies them. more means that there are others, which it has not
// got.
func (f *follow) wait(ctx context.Context, c *redis.Client) (more bool, err error) {
	from := idOf(f.at.Offset, f.reading.base).String()
	var entries *redis.Cmd
	var v view
	if err := f.l.settled(ctx, c, func() (view, error) {
		var looked *redis.Cmd
		_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
			entries = p.Do(ctx, "XREAD", "COUNT", followBatch, "BLOCK", followBlock.Milliseconds(), "STREAMS", f.reading.key, from)
			looked = look.EvalShaRO(ctx, p, f.l.keys[:2]) // the server looks when it has got them
			return nil
		})
		if entries.Err() != nil && !errors.Is(entries.Err(), redis.Nil) {
			return view{}, entries.Err()
		}
		if looked.Err() == nil && err != nil && !errors.Is(err, redis.Nil) {
			return view{}, err
		}
		v, err = parseView(looked)
		return v, err
	}); err != nil {
		return false, err
	}
	if err := v.check(f.at); err != nil {
		return false, err
	}
	list, err := streamOf(entries)
	if err != nil {
		return false, err
	}
	if len(list) == 0 {
		return v.last > f.at.Offset, nil
	}
	b, err := f.reading.batch(list, f.at.Offset)
	if err != nil {
		return false, err
	}
	b.Hole = v.holed(f.at.Offset)
	return v.last > b.UpTo, f.take(b)
}

// streamOf returns the entries in the answer to XREAD of one stream, in either protocol.
func streamOf(cmd *redis.Cmd) ([]any, error) {
	answer, err := cmd.Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	switch answer := answer.(type) {
	case map[any]any:
		for _, entries := range answer {
			list, _ := entries.([]any)
			return list, nil
		}
	case []any:
		if len(answer) == 1 {
			if stream, ok := answer[0].([]any); ok && len(stream) == 2 {
				list, _ := stream[1].([]any)
				return list, nil
			}
		}
	}
	return nil, fmt.Errorf("the server's answer to XREAD is a %T", answer)
}

// take applies b, unless nothing is in it.
func (f *follow) take(b hub.Batch) error {
	if b.UpTo <= f.at.Offset {
		return nil
	}
	if f.applied = f.apply(b); f.applied != nil {
		return f.applied
	}
	f.at.Offset = b.UpTo
	f.idle = f.idle || len(b.Records) == 0 && !b.Hole
	return nil
}

// sayIdle applies an empty Batch when there are no newer records for the first time.
func (f *follow) sayIdle() error {
	if f.idle {
		return nil
	}
	f.idle = true
	f.applied = f.apply(hub.Batch{UpTo: f.at.Offset})
	return f.applied
}
