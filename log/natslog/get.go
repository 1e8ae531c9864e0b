package natslog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/chi-sse/sse/hub"
)

// message is a message of the stream.
type message struct {
	record  hub.Record
	foreign bool   // it is not a hub's; record has only its Offset and Time
	id      string // its Nats-Msg-Id
}

// errOtherStream reports that a mirror of the stream has answered, which need not have all of it.
var errOtherStream = errors.New("a direct get: another stream has answered")

// maxPage is about how many bytes of messages one request may return.
const maxPage = 8 << 20

// directGet returns the messages that r asks for from any server that has the stream. The
// server may lag, and may return fewer, but leaves out none between those that it returns. If it
// has not heard yet that the stream was made anew, they are those of the stream before.
func (l *Log) directGet(ctx context.Context, r getRequest) ([]message, error) {
	r.MaxBytes = maxPage
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	answers := make(chan *nats.Msg, r.Batch+8)
	inbox := l.nc.NewInbox()
	sub, err := l.nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := l.nc.PublishRequest(l.api+"DIRECT.GET."+l.cfg.Stream, inbox, body); err != nil {
		return nil, err
	}
	timeout := time.NewTimer(requestTimeout)
	defer timeout.Stop()
	var all []message
	for {
		select {
		case m := <-answers:
			switch status := m.Header.Get("Status"); status {
			case "":
			case "204", "404": // that was all; there is none
				return all, nil
			case "503":
				return nil, nats.ErrNoResponders
			default:
				return nil, fmt.Errorf("a direct get: the server says %s %s", status, m.Header.Get("Description"))
			}
			next, err := l.fromDirect(m)
			if err != nil {
				return nil, err
			}
			if len(all) > 0 && next.record.Offset <= all[len(all)-1].record.Offset {
				return nil, errors.New("a direct get: two servers have answered")
			}
			if all == nil {
				all = make([]message, 0, r.Batch)
			}
			all = append(all, next)
			timeout.Reset(requestTimeout)
		case <-timeout.C:
			if !l.nc.IsConnected() {
				return nil, notConnected(l.nc)
			}
			return nil, fmt.Errorf("a direct get: the server has not answered: %w", nats.ErrTimeout)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// fromDirect returns the message in the answer to a direct get.
func (l *Log) fromDirect(m *nats.Msg) (message, error) {
	if m.Header.Get(jetstream.StreamHeader) != l.cfg.Stream {
		return message{}, errOtherStream
	}
	seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return message{}, fmt.Errorf("a direct get: the sequence: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get(jetstream.TimeStampHeaer))
	if err != nil {
		return message{}, fmt.Errorf("a direct get: the time: %w", err)
	}
	next := l.decode(m.Header.Get(jetstream.SubjectHeader), m.Data, seq, at)
	next.id = m.Header.Get(jetstream.MsgIDHeader)
	return next, nil
}

// decode returns the message with its record. A message is foreign if its subject is no topic's, or
// if it is no record and its topic is empty: no client can have missed an event.
func (l *Log) decode(subject string, data []byte, seq uint64, at time.Time) message {
	var rec hub.Record
	topic, ok := l.topic(subject)
	if err := rec.UnmarshalBinary(data); !ok || err != nil || rec.Topic != topic {
		rec = hub.Record{Kind: hub.InvalidRecord, Topic: topic}
		ok = ok && topic != ""
	}
	rec.Offset, rec.Time = seq, at.Local() // as those of Follow
	return message{record: rec, foreign: !ok}
}
