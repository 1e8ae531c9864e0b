package redislog

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
)

// Records that are appended at the same time go to the server together: what is appended while two
// calls of the script are under way waits for the end of one, and is then one call.
const (
	maxRecords  = 1000     // how many records an Append may have
	maxBytes    = 64 << 20 // how many bytes
	maxSenders  = 2
	callRecords = 512     // about how many records a call of the script has
	callBytes   = 1 << 20 // about how many bytes
)

// appending is a call of Append.
type appending struct {
	args  []any // two for each record
	bytes int
	done  chan struct{} // closed when positions and err are set
	sent  bool          // it has left the queue; Log.mu guards it
	left  bool          // nobody waits for it any longer; likewise

	positions []hub.Position
	err       error
}

// Append implements [hub.Log]. It takes at most 1,000 records with 64 MiB.
//
// While the server is out of reach, or does not take records for another reason that may pass,
// Append waits and tries again until ctx ends; set a deadline. If ctx ends before the records are
// sent, nothing is appended. If it ends later, or the connection is lost, the error matches
// [hub.ErrUnknown]. It is a [*ReplicasError] if not enough replicas have the records, a
// [*MemoryError] if the server has no memory left, a [*LimitError] if the records are too many or
// too large, an *event.FieldError for an event with ResetID, an error that matches
// [hub.ErrReadOnly] if Config.ReadOnly is set or the user may not append, or an error of the server.
func (l *Log) Append(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
	positions, err := l.append(ctx, records)
	if err != nil {
		return nil, fmt.Errorf("redislog: append: %w", err)
	}
	return positions, nil
}

func (l *Log) append(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if l.cfg.ReadOnly {
		return nil, hub.ErrReadOnly
	}
	a, err := newAppending(records)
	if err != nil || len(a.args) == 0 {
		return nil, err
	}
	l.mu.Lock()
	l.queue = append(l.queue, a)
	if l.senders < maxSenders {
		l.senders++
		go l.send()
	}
	l.mu.Unlock()
	select {
	case <-a.done:
		return a.positions, a.err
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a.left = true
	if a.sent {
		return nil, fmt.Errorf("%w: %w", hub.ErrUnknown, ctx.Err())
	}
	l.queue = slices.DeleteFunc(l.queue, func(other *appending) bool { return other == a })
	if a.err != nil { // what the last attempt has met with
		return nil, fmt.Errorf("%w: %w", ctx.Err(), a.err)
	}
	return nil, ctx.Err()
}

// newAppending encodes records.
func newAppending(records []hub.Record) (*appending, error) {
	if len(records) > maxRecords {
		return nil, &LimitError{"records of an append", len(records), maxRecords}
	}
	a := &appending{args: make([]any, 0, 2*len(records)), done: make(chan struct{})}
	for i := range records {
		rec := records[i]
		switch {
		case rec.Kind >= hub.InvalidRecord:
			return nil, fmt.Errorf("record %d has the kind %d; the kind must be EventRecord or ControlRecord", i, rec.Kind)
		case rec.Event.ResetID:
			return nil, &event.FieldError{Field: "ResetID", Offset: -1, Reason: "must be false in a record: a log cannot hold it"}
		}
		rec.Time = time.Unix(0, 0)                                                                                                                                    // the id has it
		data, _ := rec.AppendBinary(make([]byte, 0, 64+len(rec.Topic)+len(rec.Key)+len(rec.Event.ID)+len(rec.Event.Name)+len(rec.Event.Comment)+len(rec.Event.Data))) // its error is always nil
		a.bytes += len(data)
		if a.bytes > maxBytes {
			return nil, &LimitError{"bytes of an append", a.bytes, maxBytes}
		}
		what := ""
		if rec.Topic == "" {
			what = "o"
		}
		if rec.Key != "" {
			what += "k" + keyID(rec.Topic, rec.Key)
		}
		a.args = append(a.args, what, data)
	}
	return a, nil
}

// keyID returns what the server remembers of a key. It is a hash, so that a key may be long.
func keyID(topic, key string) string {
	b := make([]byte, 0, 128)
	b = binary.AppendUvarint(b, uint64(len(topic)))
	b = append(append(b, topic...), key...)
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}

// send sends what is in the queue until it is empty.
func (l *Log) send() {
	for wait := 2 * time.Millisecond; ; {
		group := l.take()
		if len(group) == 0 {
			return
		}
		err := l.sendGroup(group)
		if !errors.Is(err, errTryAgain) {
			wait = 2 * time.Millisecond
			for _, a := range group {
				if err != nil {
					a.positions, a.err = nil, err
				}
				close(a.done)
			}
			continue
		}
		l.putBack(group, err)
		time.Sleep(wait)
		wait = min(2*wait, 200*time.Millisecond)
	}
}

// take takes a group of appends out of the queue. If there is none, the sender ends.
func (l *Log) take() []*appending {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n, args, bytes int
	for _, a := range l.queue {
		if n > 0 && (args+len(a.args) > 2*callRecords || bytes+a.bytes > callBytes) {
			break
		}
		n, args, bytes = n+1, args+len(a.args), bytes+a.bytes
		a.sent, a.err = true, nil
	}
	group := slices.Clone(l.queue[:n])
	l.queue = slices.Delete(l.queue, 0, n)
	if n == 0 {
		l.senders--
	}
	return group
}

// putBack puts a group back into the queue, of which nothing was appended because of err.
func (l *Log) putBack(group []*appending, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	group = slices.DeleteFunc(group, func(a *appending) bool { return a.left })
	for _, a := range group {
		a.sent, a.err = false, err
	}
	l.queue = slices.Concat(group, l.queue)
}

// sendGroup calls the script, and sets the positions of the group. The error matches errTryAgain if
// nothing was appended and another attempt may succeed, or hub.ErrUnknown if nobody knows.
func (l *Log) sendGroup(group []*appending) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout+l.cfg.ReplicaTimeout)
	defer cancel()
	c, err := l.node.get(ctx)
	if err != nil {
		return err
	}
	answer, err := l.callScript(ctx, c, group)
	if err != nil {
		l.node.reset(ctx, c, err)
	}
	var lacking *ReplicasError
	switch {
	case err == nil:
	case errors.As(err, &lacking):
		return err
	case hasCode(err, "OOM"):
		return &MemoryError{err}
	case denied(err):
		return fmt.Errorf("%w: %w", hub.ErrReadOnly, err)
	case hasCode(err, refusals...), unsent(err):
		return fmt.Errorf("%w: %w", errTryAgain, err)
	case isNetwork(err), hasCode(err, "PARTLY"), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", hub.ErrUnknown, err)
	default:
		return err
	}
	return l.place(group, answer)
}

// callScript calls append.lua, and settle.lua if that is necessary.
func (l *Log) callScript(ctx context.Context, c *redis.Client, group []*appending) (answer []any, err error) {
	for n := 0; n <= maxSettles; n++ {
		answer, err = l.callOnce(ctx, c, group)
		switch {
		case hasCode(err, "NOSCRIPT"):
			if err := appendTo.Load(ctx, c).Err(); err != nil {
				return nil, notSent(err)
			}
		case err != nil || len(answer) > 0:
			return answer, err
		default:
			if err := l.settle(ctx, c); err != nil {
				return nil, notSent(err)
			}
		}
	}
	return nil, fmt.Errorf("%w: the epoch changes again and again", errTryAgain)
}

// notSent returns an error which says that no record was sent, though err would not say so.
func notSent(err error) error {
	if isNetwork(err) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", errTryAgain, err)
	}
	return err
}

// callOnce calls append.lua.
func (l *Log) callOnce(ctx context.Context, c *redis.Client, group []*appending) ([]any, error) {
	epoch, seen := l.newest()
	args := append([]any{epoch, seen.ms, seen.seq}, l.args...)
	for _, a := range group {
		args = append(args, a.args...)
	}
	if l.cfg.Replicas == 0 {
		return appendTo.EvalSha(ctx, c, l.keys, args...).Slice()
	}
	var call *redis.Cmd
	var wait *redis.Cmd
	_, _ = c.Pipelined(ctx, func(p redis.Pipeliner) error { // the two commands have its errors
		call = appendTo.EvalSha(ctx, p, l.keys, args...)
		wait = p.Do(ctx, "WAIT", l.cfg.Replicas, milliseconds(l.cfg.ReplicaTimeout))
		return nil
	})
	answer, err := call.Slice()
	if err != nil || len(answer) == 0 {
		return answer, err
	}
	got, err := wait.Int()
	if err != nil {
		return nil, fmt.Errorf("%w: WAIT: %w", hub.ErrUnknown, err)
	}
	if got < l.cfg.Replicas {
		return nil, &ReplicasError{got, l.cfg.Replicas}
	}
	return answer, nil
}

// place sets the positions of the group from the answer of append.lua.
func (l *Log) place(group []*appending, answer []any) error {
	texts := make([]string, len(answer))
	for i, part := range answer {
		texts[i], _ = part.(string)
	}
	var epoch, base uint64
	err := errors.New("it is too short")
	if len(texts) >= 2 {
		var err2 error
		epoch, err = strconv.ParseUint(texts[0], 10, 64)
		base, err2 = strconv.ParseUint(texts[1], 10, 64)
		err = errors.Join(err, err2)
		texts = texts[2:]
	}
	if err != nil {
		return fmt.Errorf("%w: the server's answer: %w", hub.ErrUnknown, err)
	}
	var newest uint64
	for _, a := range group {
		n := len(a.args) / 2
		if len(texts) < n {
			return fmt.Errorf("%w: the server's answer has too few ids", hub.ErrUnknown)
		}
		a.positions = make([]hub.Position, n)
		for i, text := range texts[:n] {
			at, ok := parseID(text)
			offset, inside := offsetOf(at, base)
			if !ok || !inside {
				return fmt.Errorf("%w: %w", hub.ErrUnknown, idError(text))
			}
			a.positions[i] = hub.Position{Epoch: epoch, Offset: max(offset, 1)} // that of a known key may be older than the base
			newest = max(newest, offset)
		}
		texts = texts[n:]
	}
	l.saw(epoch, base, newest)
	return nil
}
