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

// appendItems appends items, and returns their offsets.
func (l *Log) appendItems(ctx context.Context, items []item) ([]uint64, error) {
	offsets := make([]uint64, len(items))
	if len(items) == 1 {
		offset, err := l.publishOne(ctx, &items[0])
		offsets[0] = offset
		return offsets, err
	}
	// A key that comes again in the batch is that of its first record.
	known := make(map[string]uint64)
	first := make(map[string]int)
	var fresh []int // indexes of items
	for i := range items {
		if id := items[i].id; id != "" {
			if _, again := first[id]; again {
				continue
			}
			first[id] = i
		}
		fresh = append(fresh, i)
	}
	if err := l.appendFresh(ctx, items, fresh, offsets, known); err != nil {
		return nil, err
	}
	for i := range items {
		if id := items[i].id; id != "" {
			if offset, ok := known[id]; ok {
				offsets[i] = offset
			} else {
				offsets[i] = offsets[first[id]]
			}
		}
	}
	return offsets, nil
}

// appendFresh appends the items of fresh whose keys are new. It sets the offsets of these, and
// the offsets of keys that are known.
func (l *Log) appendFresh(ctx context.Context, items []item, fresh []int, offsets []uint64, known map[string]uint64) error {
	return l.retry(ctx, func() error {
		var left []*item
		var at []int
		for _, i := range fresh {
			if _, ok := known[items[i].id]; !ok {
				left, at = append(left, &items[i]), append(at, i)
			}
		}
		switch len(left) {
		case 0:
			return nil
		case 1:
			offset, err := l.publishOne(ctx, left[0])
			offsets[at[0]] = offset
			return err
		}
		last, err := l.publishBatch(ctx, left)
		if apiErr, ok := errors.AsType[*jetstream.APIError](err); ok && apiErr.ErrorCode == codeBatchDuplicate {
			if err := l.findKeys(ctx, left, known); err != nil {
				return err
			}
			return fmt.Errorf("%w: %w", errTryAgain, err)
		}
		for i := range at {
			offsets[at[i]] = last - uint64(len(at)-1-i)
		}
		return err
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

// findKeys finds the offsets of the keys of items in what was appended within the duplicate
// window.
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
	since := v.now.Add(-v.config.Duplicates - time.Minute)
	for subject := range subjects {
		r := getRequest{Subject: subject, StartTime: &since, Batch: 512}
		for {
			page, err := l.directGet(ctx, r)
			if err != nil {
				return err
			}
			for _, m := range page {
				if wanted[m.id] {
					known[m.id] = m.record.Offset
				}
			}
			if len(page) == 0 {
				break
			}
			r.StartTime, r.Seq = nil, page[len(page)-1].record.Offset+1
		}
	}
	return nil
}
