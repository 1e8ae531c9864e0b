package natslog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/chi-sse/sse/hub"
)

const (
	followBatch     = 512              // how many records apply gets at once at the most
	followAhead     = 1024             // how many messages the server may send ahead
	followHeartbeat = 2 * time.Second  // of the server; the follower waits for two
	followLook      = 3 * time.Second  // how often the stream is looked at
	followIdle      = 30 * time.Second // the server deletes a consumer that is not used for so long
)

// Follow implements [hub.Log]. It has a consumer of its own, which exists only as long as it
// runs. Any trouble with the connection or the consumer ends it, so that the hub knows.
func (l *Log) Follow(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
	f := &follow{l: l, epoch: after.Epoch, at: after.Offset, apply: apply}
	err := f.run(ctx)
	if f.applied != nil {
		return f.applied
	}
	if f.started && ctx.Err() == nil {
		err = f.diagnose(ctx, err)
	}
	return fmt.Errorf("natslog: follow: %w", withContext(ctx, err))
}

// follow is a call of Follow.
type follow struct {
	l       *Log
	epoch   uint64
	apply   func(hub.Batch) error
	applied error // what apply has returned

	started  bool   // there was a consumer
	at       uint64 // everything up to here is applied
	newest   mark   // the last message that was taken
	idle     bool   // an empty Batch is applied, or need not be
	lookedAt uint64 // where at was at the last look
	stalls   int    // at how many looks at stood still although there was more
}

// diagnose returns an error that matches hub.ErrEpoch if the reason of err is that the stream
// has been deleted and made anew, or deleted: then it waits for the new one and its leader.
func (f *follow) diagnose(ctx context.Context, err error) error {
	for deadline := time.Now().Add(2 * missingWait); ; {
		v, lookErr := f.l.look(ctx)
		var missing *NotFoundError
		deleted := errors.As(lookErr, &missing)
		switch {
		case lookErr == nil && v.epoch != f.epoch:
			return epochError(f.position(), v.epoch)
		case time.Now().After(deadline), !deleted && (!errors.Is(err, jetstream.ErrConsumerDeleted) || !isTemporary(lookErr)):
			if deleted {
				err = missing
			}
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// delivery is a message from the consumer.
type delivery struct {
	message
	pending uint64 // how many records come after it
}

func (f *follow) run(ctx context.Context) error {
	l := f.l
	v, err := l.look(ctx)
	if err == nil && v.epoch == f.epoch {
		v, err = l.verify(ctx, v)
	}
	if err == nil {
		err = v.check(f.position())
	}
	if err != nil {
		return err
	}
	after := f.at
	lost := l.nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	defer l.nc.RemoveStatusListener(lost)

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	deliveries, trouble := make(chan delivery, followAhead), make(chan error, 1)
	c, err := f.newConsumer(ctx, deliveries, trouble)
	if err != nil {
		return err
	}
	defer c.delete()
	f.started = true
	// The consumer is of this stream, not of one that was made anew since the first look.
	if err := f.look(ctx, c.pending == 0); err != nil {
		return err
	}
	if c.pending == 0 {
		if err := f.sayIdle(); err != nil {
			return err
		}
	}
	ticks := time.NewTicker(followLook)
	defer ticks.Stop()
	for {
		select {
		case d := <-deliveries:
			if err := f.take(ctx, d, deliveries); err != nil {
				return err
			}
		case err := <-trouble:
			if !errors.Is(err, nats.ErrNoResponders) || time.Since(c.made) > interestWait || f.at != after {
				return err
			}
			time.Sleep(5 * time.Millisecond)
			if err := c.start(); err != nil {
				return err
			}
		case <-lost:
			return notConnected(l.nc)
		case <-ticks.C:
			if len(deliveries) == 0 {
				if err := f.look(ctx, false); err != nil {
					return err
				}
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *follow) position() hub.Position { return hub.Position{Epoch: f.epoch, Offset: f.at} }

// interestWait is how long the server of this connection may need to hear of a new consumer,
// which can be on another server. Until then it says that nobody responds.
const interestWait = 2 * time.Second

// consumer is the consumer of a follow. It calls deliver and fail in goroutines of its own.
type consumer struct {
	jetstream.Consumer
	l       *Log
	name    string
	pending uint64 // how many records there were when it was made
	made    time.Time
	running jetstream.ConsumeContext
	deliver jetstream.MessageHandler
	fail    func(error)
}

// newConsumer makes a consumer and starts it. It sends what it delivers, and its first error.
func (f *follow) newConsumer(ctx context.Context, deliveries chan<- delivery, trouble chan<- error) (*consumer, error) {
	l := f.l
	making, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	made, err := l.js.CreateConsumer(making, l.cfg.Stream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: f.at + 1, AckPolicy: jetstream.AckNonePolicy,
		InactiveThreshold: followIdle, MemoryStorage: true, Replicas: 1,
	})
	if err != nil {
		return nil, err
	}
	info := made.CachedInfo()
	c := &consumer{Consumer: made, l: l, name: info.Name, pending: info.NumPending, made: time.Now()}
	c.fail = func(err error) {
		select {
		case trouble <- err:
		default: // it has failed already
		}
	}
	next := uint64(1)
	c.deliver = func(m jetstream.Msg) {
		meta, err := m.Metadata()
		if err == nil && meta.Sequence.Consumer != next {
			err = fmt.Errorf("the consumer has delivered its message %d after %d", meta.Sequence.Consumer, next-1)
		}
		if err != nil {
			c.fail(err)
			return
		}
		next++
		select {
		case deliveries <- delivery{l.decode(m.Subject(), m.Data(), meta.Sequence.Stream, meta.Timestamp), meta.NumPending}:
		case <-ctx.Done():
		}
	}
	if err := c.start(); err != nil {
		c.delete()
		return nil, err
	}
	return c, nil
}

// start starts to ask for messages, or starts over.
func (c *consumer) start() (err error) {
	if c.running != nil {
		c.running.Stop()
	}
	c.running, err = c.Consume(c.deliver,
		jetstream.PullMaxMessagesWithBytesLimit(followAhead, int(max(maxPage, 2*c.l.nc.MaxPayload()))),
		jetstream.PullHeartbeat(followHeartbeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) { c.fail(err) }))
	return err
}

// delete stops the consumer. If there is no connection, the server deletes it later, because
// nobody uses it.
func (c *consumer) delete() {
	if c.running != nil {
		c.running.Stop()
	}
	c.l.deleteConsumer(c.name)
}

// deleteConsumer deletes a consumer, if there is a connection. It does not wait for the answer.
func (l *Log) deleteConsumer(name string) {
	if l.nc.IsConnected() {
		_ = l.nc.PublishRequest(l.api+"CONSUMER.DELETE."+l.cfg.Stream+"."+name, l.nc.NewInbox(), nil)
	}
}

// take applies d and what was delivered with it.
func (f *follow) take(ctx context.Context, d delivery, deliveries <-chan delivery) error {
	b := hub.Batch{Records: make([]hub.Record, 0, min(followBatch, 1+len(deliveries)))}
	for more := true; more; {
		if next := max(f.at, b.UpTo) + 1; d.record.Offset != next {
			if err := f.applyBatch(b); err != nil {
				return err
			}
			if err := f.explain(ctx, d.record.Offset); err != nil {
				return err
			}
			b = hub.Batch{}
		}
		b.UpTo, f.newest = d.record.Offset, mark{d.record.Offset, d.record.Time}
		if !d.foreign {
			b.Records = append(b.Records, d.record)
		} else {
			f.l.cfg.Logger.Warn("natslog: a message of the stream is not a hub's; it is left out", "stream", f.l.cfg.Stream, "sequence", d.record.Offset)
		}
		if more = len(b.Records) < followBatch; more {
			select {
			case d = <-deliveries:
			default:
				more = false
			}
		}
	}
	if err := f.applyBatch(b); err != nil || d.pending > 0 {
		return err
	}
	return f.sayIdle()
}

// applyBatch applies b, unless nothing is in it.
func (f *follow) applyBatch(b hub.Batch) error {
	if b.UpTo == 0 {
		return nil
	}
	if f.applied = f.apply(b); f.applied != nil {
		return f.applied
	}
	f.at = b.UpTo
	f.l.saw(f.epoch, f.newest)
	return nil
}

// sayIdle applies an empty Batch when there are no newer records for the first time.
func (f *follow) sayIdle() error {
	if f.idle {
		return nil
	}
	f.idle = true
	f.applied = f.apply(hub.Batch{UpTo: f.at})
	return f.applied
}

// explain finds out why the record at next is delivered after that at f.at. Records in between
// may have been deleted one by one, which is a hole, or dropped with all that were before.
func (f *follow) explain(ctx context.Context, next uint64) error {
	if next <= f.at {
		return fmt.Errorf("the consumer has delivered the sequence %d after %d", next, f.at)
	}
	v, err := f.l.look(ctx)
	if err == nil {
		err = v.check(f.position())
	}
	if err != nil {
		return err
	}
	return f.applyHole(next - 1)
}

// applyHole applies that the records up to an offset are missing.
func (f *follow) applyHole(upTo uint64) error {
	if f.applied = f.apply(hub.Batch{UpTo: upTo, Hole: true}); f.applied != nil {
		return f.applied
	}
	f.at = upTo
	return nil
}

// maxStalls is at how many looks in a row a follower may stand still although there is more.
const maxStalls = 3

// look looks whether the stream is still that of the epoch, and whether there is more in it
// than the consumer has delivered. drained means that the consumer says that there is not.
func (f *follow) look(ctx context.Context, drained bool) error {
	v, err := f.l.look(ctx)
	switch {
	case err != nil: // also if the leader does not answer: what is sent to it may be lost
		return err
	case v.epoch != f.epoch:
		return epochError(f.position(), v.epoch)
	}
	if f.at != f.lookedAt {
		f.stalls = 0
	}
	f.lookedAt = f.at
	if v.last <= f.at {
		f.stalls = 0
		return f.sayIdle() // if the consumer counts records that were deleted, it never says so
	}
	f.stalls++
	if drained || f.stalls > 1 {
		if v.first > v.last { // all were dropped, so that nothing will be delivered
			return v.check(f.position())
		}
		n, err := f.l.deletedIn(ctx, v, f.at, v.last)
		if err != nil {
			return err
		}
		if uint64(n) == v.last-f.at {
			return f.applyHole(v.last)
		}
	}
	if f.stalls > maxStalls {
		return errStalled
	}
	return nil
}
