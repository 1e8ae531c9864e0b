package natslog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/chi-sse/sse/hub"
)

// Each topic of a Read is one request, and so is the whole stream. Above maxTopics topics, it
// is cheaper to read all of the stream and leave out what is not wanted.
const (
	maxTopics = 8
	minScan   = 256 // how many records such a request returns at least
)

// everything stands for the subjects of all topics. A server finds the next record of all faster
// than that of a wildcard.
const everything = ""

// stretch is what is read of one subject, or of all.
type stretch struct {
	records []hub.Record
	upTo    uint64 // the records are complete up to this offset
	full    bool   // there may be more
}

// Read implements [hub.Log]. It asks any server that has the stream for the records, and the
// stream's leader whether these are all.
func (l *Log) Read(ctx context.Context, topics []string, after, upTo hub.Position, most int) (hub.Batch, error) {
	b, err := l.read(ctx, topics, after, upTo, max(most, 1))
	if err != nil {
		return hub.Batch{}, fmt.Errorf("natslog: read: %w", withContext(ctx, err))
	}
	return b, nil
}

func (l *Log) read(ctx context.Context, topics []string, after, upTo hub.Position, most int) (hub.Batch, error) {
	if after.Epoch != upTo.Epoch {
		return hub.Batch{}, epochError(upTo, after.Epoch)
	}
	if after.Epoch != l.known() || upTo.Offset <= after.Offset {
		v, err := l.look(ctx)
		if err == nil {
			err = v.check(after)
		}
		if err != nil || upTo.Offset <= after.Offset {
			return hub.Batch{UpTo: after.Offset}, err
		}
	}
	topics = slices.Compact(slices.Sorted(slices.Values(topics)))
	for wait := time.Millisecond; ; wait = min(2*wait, time.Second) {
		b, lags, err := l.readOnce(ctx, topics, after, upTo.Offset, most)
		if err != nil || !lags {
			return b, err
		}
		select {
		case <-ctx.Done():
			return b, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// check returns an error if what comes after the position cannot be had from the stream.
func (v *view) check(after hub.Position) error {
	switch {
	case v.epoch != after.Epoch:
		return epochError(after, v.epoch)
	case v.first > after.Offset+1:
		return &hub.TruncatedError{First: v.first}
	}
	return nil
}

// readOnce is Read, but it returns nothing if the server that has answered lags so much.
func (l *Log) readOnce(ctx context.Context, topics []string, after hub.Position, upTo uint64, most int) (b hub.Batch, lags bool, err error) {
	subjects, request := []string{everything}, most
	switch {
	case len(topics) > maxTopics:
		request = max(most, minScan)
	case len(topics) > 0:
		subjects = make([]string, len(topics))
		for i, topic := range topics {
			subjects[i] = l.subject(topic)
		}
	}
	stretches := make([]stretch, len(subjects))
	if err := each(subjects, func(i int) (err error) {
		stretches[i], err = l.getStretch(ctx, subjects[i], after.Offset, upTo, request)
		return err
	}); err != nil {
		return b, false, err
	}
	// What the stream dropped before this look may be missing.
	v, err := l.look(ctx)
	if err == nil {
		err = v.check(after)
	}
	if err != nil {
		return b, false, err
	}
	b.UpTo = max(after.Offset, min(upTo, v.last))
	if b.UpTo == after.Offset {
		return b, false, nil
	}
	if err := each(subjects, func(i int) error {
		return l.complete(ctx, subjects[i], &stretches[i], b.UpTo)
	}); err != nil {
		return b, false, err
	}
	merge(&b, stretches)
	if len(topics) > maxTopics {
		b.Records = slices.DeleteFunc(b.Records, func(r hub.Record) bool {
			_, ok := slices.BinarySearch(topics, r.Topic)
			return !ok
		})
	}
	if len(b.Records) > most {
		b.Records = b.Records[:most]
		b.UpTo = b.Records[most-1].Offset
	}
	deleted, err := l.deletedIn(ctx, v, after.Offset, b.UpTo)
	b.Hole = deleted > 0
	return b, b.UpTo == after.Offset, err
}

// getStretch returns records of a subject after an offset, up to and including another.
func (l *Log) getStretch(ctx context.Context, subject string, after, upTo uint64, most int) (stretch, error) {
	most = int(min(uint64(most), upTo-after))
	messages, err := l.directGet(ctx, getRequest{Seq: after + 1, Subject: subject, Batch: most})
	if err != nil {
		return stretch{}, err
	}
	s := stretch{records: make([]hub.Record, 0, len(messages)), upTo: after}
	for _, m := range messages {
		if m.record.Offset > upTo {
			s.upTo = upTo
			return s, nil
		}
		s.records = append(s.records, m.record)
		s.upTo = m.record.Offset
	}
	s.full = len(messages) == most
	return s, nil
}

// complete finds out from the stream's leader up to where s is complete.
func (l *Log) complete(ctx context.Context, subject string, s *stretch, upTo uint64) error {
	if s.full || s.upTo >= upTo {
		return nil
	}
	if subject == everything { // the leader takes a sequence alone for that record and no other
		subject = l.cfg.Subject + ".*"
	}
	next, err := l.leaderGet(ctx, getRequest{Seq: s.upTo + 1, Subject: subject})
	switch {
	case err != nil:
		return err
	case next == nil || next.Seq > upTo:
		s.upTo = upTo
	default:
		s.upTo = next.Seq - 1
	}
	return nil
}

// merge sets the records of b from the stretches, and lowers UpTo to where all are complete.
func merge(b *hub.Batch, stretches []stretch) {
	for _, s := range stretches {
		b.UpTo = min(b.UpTo, s.upTo)
	}
	if len(stretches) == 1 {
		b.Records = stretches[0].records
	} else {
		for _, s := range stretches {
			b.Records = append(b.Records, s.records...)
		}
		slices.SortFunc(b.Records, func(x, y hub.Record) int { return cmp.Compare(x.Offset, y.Offset) })
	}
	n, _ := slices.BinarySearchFunc(b.Records, b.UpTo+1, func(r hub.Record, offset uint64) int { return cmp.Compare(r.Offset, offset) })
	b.Records = b.Records[:n]
}

// each calls f with the index of each subject, at the same time, and returns an error of one.
func each(subjects []string, f func(i int) error) error {
	if len(subjects) == 1 {
		return f(0)
	}
	errs := make([]error, len(subjects))
	var all sync.WaitGroup
	for i := range subjects {
		all.Go(func() { errs[i] = f(i) })
	}
	all.Wait()
	return errors.Join(errs...)
}
