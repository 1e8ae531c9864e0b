package natslog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/chi-sse/sse/hub"
)

// Each topic of a page is one request, and so is the whole stream. Above maxTopics topics, it
// is cheaper to read all of the stream and leave out what is not wanted.
const (
	maxTopics = 8
	minScan   = 256 // how many records such a request returns at least
)

// everything, as a subject, means those of all topics. A server finds the next record faster with it
// than with a wildcard.
const everything = ""

// stretch is what is read of one subject, or of all.
type stretch struct {
	records []hub.Record
	upTo    uint64 // the records are complete up to this offset
	full    bool   // there may be more
	last    mark   // the last message, if it was got without a run
}

// Read implements [hub.Log]. It asks any server that has the stream for the records, and the
// stream's leader whether these are all. When pages are read one after the other, it makes a
// consumer after the first one, and deletes it some seconds after the last one.
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
	q := l.newQuery(topics, after, upTo.Offset, most)
	for wait := time.Millisecond; ; wait = min(2*wait, time.Second) {
		b, lags, err := l.readOnce(ctx, q)
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

// query says what is read of the stream.
type query struct {
	topics   []string // sorted
	subjects []string
	most     int // how many records are returned at the most
	scan     int // how many messages are read at the most
	after    hub.Position
	upTo     uint64
}

func (l *Log) newQuery(topics []string, after hub.Position, upTo uint64, most int) *query {
	q := &query{subjects: []string{everything}, most: most, scan: most, after: after, upTo: upTo}
	q.topics = slices.Compact(slices.Sorted(slices.Values(topics)))
	switch {
	case len(q.topics) > maxTopics:
		q.scan = max(most, minScan)
	case len(q.topics) > 0:
		q.subjects = make([]string, len(q.topics))
		for i, topic := range q.topics {
			q.subjects[i] = l.subject(topic)
		}
	}
	return q
}

// wants reports whether the record is of one of the topics.
func (q *query) wants(r *hub.Record) bool {
	if len(q.topics) <= maxTopics {
		return true // only such records are sent
	}
	_, ok := slices.BinarySearch(q.topics, r.Topic)
	return ok
}

// at returns the place after an offset.
func (q *query) at(after uint64) place {
	var b strings.Builder
	for _, topic := range q.topics {
		b.WriteString(strconv.Itoa(len(topic)))
		b.WriteByte(':')
		b.WriteString(topic)
	}
	return place{b.String(), q.after.Epoch, after}
}

// readOnce is Read, but it returns nothing if the server that has answered lags so much.
func (l *Log) readOnce(ctx context.Context, q *query) (b hub.Batch, lags bool, err error) {
	r, stretches, err := l.fetch(ctx, q)
	if err != nil {
		return b, false, err
	}
	if r != nil {
		defer func() {
			if err != nil || !r.usable() || b.UpTo < stretches[0].upTo {
				r.close()
				return
			}
			r.at.after = b.UpTo
			l.runs.put(r)
		}()
	}
	// What the stream dropped before this look may be missing.
	v, err := l.look(ctx)
	if err == nil {
		err = v.check(q.after)
	}
	if err != nil {
		return b, false, err
	}
	b.UpTo = max(q.after.Offset, min(q.upTo, v.last))
	if b.UpTo == q.after.Offset {
		return b, false, nil
	}
	if r == nil {
		if ok, err := l.ofThisStream(ctx, &v, stretches); err != nil || !ok {
			return hub.Batch{UpTo: q.after.Offset}, true, err
		}
	}
	if err := each(q.subjects, func(i int) error {
		return l.complete(ctx, q.subjects[i], &stretches[i], b.UpTo)
	}); err != nil {
		return b, false, err
	}
	full := !slices.ContainsFunc(stretches, func(s stretch) bool { return !s.full })
	merge(&b, stretches)
	if len(b.Records) > q.most {
		b.Records = b.Records[:q.most]
		b.UpTo = b.Records[q.most-1].Offset
		full = true
	}
	if r == nil && full {
		l.runs.note(q.at(b.UpTo))
	}
	deleted, err := l.deletedIn(ctx, v, q.after.Offset, b.UpTo)
	b.Hole = deleted > 0
	return b, b.UpTo == q.after.Offset, err
}

// fetch reads the records of each subject. They come from a run if there is one, or if the page
// before has ended here; then all are in the first stretch. Otherwise, r is nil.
func (l *Log) fetch(ctx context.Context, q *query) (r *run, stretches []stretch, err error) {
	at := q.at(q.after.Offset)
	r, begin := l.runs.take(at)
	if r != nil && !r.usable() {
		r.close()
		r, begin = nil, true
	}
	if r == nil && !begin {
		if stretches, err = l.getStretches(ctx, q); !errors.Is(err, errOtherStream) {
			return nil, stretches, err
		}
	}
	if r == nil {
		r, err = l.beginRun(ctx, at, q.subjects, q.scan)
	}
	if err == nil {
		var s stretch
		if s, err = r.page(ctx, q.upTo, q.most, q.scan, q.wants); err == nil {
			stretches = make([]stretch, len(q.subjects))
			for i := range stretches {
				stretches[i] = stretch{upTo: s.upTo, full: s.full}
			}
			stretches[0] = s
			return r, stretches, nil
		}
		r.close()
	}
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	stretches, err = l.getStretches(ctx, q)
	return nil, stretches, err
}

// getStretches reads the records of each subject by direct gets.
func (l *Log) getStretches(ctx context.Context, q *query) ([]stretch, error) {
	stretches := make([]stretch, len(q.subjects))
	err := each(q.subjects, func(i int) (err error) {
		stretches[i], err = l.getStretch(ctx, q.subjects[i], q.after.Offset, q.upTo, q.scan)
		return err
	})
	for i := range stretches {
		stretches[i].records = slices.DeleteFunc(stretches[i].records, func(r hub.Record) bool { return !q.wants(&r) })
	}
	return stretches, err
}

// createdSkew is how much the clocks of two servers may differ.
const createdSkew = time.Minute

// ofThisStream reports whether the stretches are of the stream that v is of: a server that has not
// heard yet that the stream was made anew returns records of the stream before. Those are older
// than the stream, so only the oldest records are suspect.
func (l *Log) ofThisStream(ctx context.Context, v *view, stretches []stretch) (bool, error) {
	for _, s := range stretches {
		if s.last.offset == 0 || s.last.time.After(v.created.Add(createdSkew)) {
			continue
		}
		m, err := l.leaderGet(ctx, getRequest{Seq: s.last.offset})
		if err != nil || m != nil && !m.Time.Equal(s.last.time) {
			return false, err
		}
	}
	return true, nil
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
		if !m.foreign {
			s.records = append(s.records, m.record)
		}
		s.upTo = m.record.Offset
		s.last = mark{m.record.Offset, m.record.Time}
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
