package natslog

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/chi-sse/sse/hub"
)

// A batch is published with the headers of JetStream's atomic batches. The server stores all
// of it, one after the other, when the message that commits it has come. It refuses a batch
// that has a known key, but does not say which; findKeys finds that out.
const (
	batchIDHeader     = "Nats-Batch-Id"
	batchSeqHeader    = "Nats-Batch-Sequence"
	batchCommitHeader = "Nats-Batch-Commit"
)

// keyID returns the Nats-Msg-Id of a key, which is the same in all streams. It is a hash, so
// that a key may be of any length and characters.
func keyID(topic, key string) string {
	b := make([]byte, 0, 128)
	b = binary.AppendUvarint(b, uint64(len(topic)))
	b = append(append(b, topic...), key...)
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}

// run appends the items.
func (a *appending) run(ctx context.Context) error {
	if len(a.items) == 1 {
		return a.retry(ctx, func() error { return a.publishOne(ctx, 0) })
	}
	// A key that comes again in the batch is that of its first record.
	known := make(map[string]uint64)
	first := make(map[string]int)
	var fresh []int // indexes of items
	for i := range a.items {
		if id := a.items[i].id; id != "" {
			if _, again := first[id]; again {
				continue
			}
			first[id] = i
		}
		fresh = append(fresh, i)
	}
	if err := a.appendFresh(ctx, fresh, known); err != nil {
		return err
	}
	for i := range a.items {
		if id := a.items[i].id; id != "" {
			if offset, ok := known[id]; ok {
				a.offsets[i] = offset
			} else {
				a.offsets[i] = a.offsets[first[id]]
			}
		}
	}
	return nil
}

// appendFresh appends the items of fresh whose keys are new. It sets the offsets of these, and
// the offsets of keys that are known.
func (a *appending) appendFresh(ctx context.Context, fresh []int, known map[string]uint64) error {
	return a.retry(ctx, func() error {
		var left []*item
		var at []int
		for _, i := range fresh {
			if _, ok := known[a.items[i].id]; !ok {
				left, at = append(left, &a.items[i]), append(at, i)
			}
		}
		switch len(left) {
		case 0:
			return nil
		case 1:
			return a.publishOne(ctx, at[0])
		}
		last, err := a.l.publishBatch(ctx, left)
		if apiErr, ok := errors.AsType[*jetstream.APIError](err); ok && apiErr.ErrorCode == codeBatchDuplicate {
			if err := a.l.findKeys(ctx, left, known); err != nil {
				return err
			}
			return fmt.Errorf("%w: %w", errTryAgain, err)
		}
		if err != nil {
			return err
		}
		for i := range at {
			a.offsets[at[i]] = last - uint64(len(at)-1-i)
		}
		a.appended(a.offsets[at[0]])
		return nil
	})
}

// publishBatch publishes the items as one batch, and returns the offset of the last one.
func (l *Log) publishBatch(ctx context.Context, items []*item) (last uint64, err error) {
	select {
	case l.batches <- struct{}{}:
		defer func() { <-l.batches }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	before := l.nc.LastError()
	id := nuid.Next()
	for i, it := range items {
		m := &nats.Msg{Subject: it.subject, Data: it.data, Header: nats.Header{batchIDHeader: {id}, batchSeqHeader: {strconv.Itoa(i + 1)}}}
		if it.id != "" {
			m.Header[jetstream.MsgIDHeader] = []string{it.id}
		}
		if i == len(items)-1 {
			m.Header[batchCommitHeader] = []string{"1"}
			resp, err := l.request(ctx, m)
			if err == nil && resp.Count != uint64(len(items)) {
				return 0, fmt.Errorf("%w: the server has stored %d of %d records", hub.ErrUnknown, resp.Count, len(items))
			}
			if err != nil {
				for _, it := range items {
					if denied(before, l.nc.LastError(), it.subject) {
						return 0, fmt.Errorf("%w: %w", hub.ErrReadOnly, l.nc.LastError())
					}
				}
			}
			return resp.Sequence, err
		}
		if err := ctx.Err(); err != nil { // without the last message, the server drops the batch
			return 0, err
		}
		if err := l.nc.PublishMsg(m); err != nil {
			return 0, err
		}
	}
	return 0, nil // not reached: there are items
}

// findKeys finds the offsets of keys of items in what was appended within the duplicate window. It
// begins with the newest records, since most batches come again soon, and stops when it has found
// some: if the server knows others too, it refuses the batch again.
func (l *Log) findKeys(ctx context.Context, items []*item, known map[string]uint64) error {
	v, err := l.look(ctx)
	if err != nil {
		return err
	}
	wanted := make(map[string]bool)
	subjects := make(map[string]bool)
	for _, it := range items {
		if it.id != "" {
			wanted[it.id], subjects[it.subject] = true, true
		}
	}
	window := v.config.Duplicates + time.Minute // the records' clock may have been another server's
	for age := 4 * time.Second; ; age *= 8 {
		age = min(age, window)
		before := len(known)
		for subject := range subjects {
			if err := l.findKeysSince(ctx, subject, v.now.Add(-age), wanted, known); err != nil {
				return err
			}
		}
		if len(known) > before || age == window {
			return nil
		}
	}
}

// findKeysSince adds to known the offsets of those of the wanted keys that records of the subject
// have that were appended since a time.
func (l *Log) findKeysSince(ctx context.Context, subject string, since time.Time, wanted map[string]bool, known map[string]uint64) error {
	r := getRequest{Subject: subject, StartTime: &since, Batch: 512}
	for {
		page, err := l.directGet(ctx, r)
		switch {
		case errors.Is(err, errOtherStream):
			return fmt.Errorf("%w: %w", errTryAgain, err)
		case err != nil:
			return err
		case len(page) == 0:
			return nil
		}
		for _, m := range page {
			if wanted[m.id] {
				known[m.id] = m.record.Offset
			}
		}
		r.StartTime, r.Seq = nil, page[len(page)-1].record.Offset+1
	}
}
