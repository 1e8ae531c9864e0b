package natslog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
)

// maxRecords is how many records an Append may have. It is the limit of the server.
const maxRecords = 1000

// headroom is how many bytes of a message its headers may need.
const headroom = 256

// item is a record that is about to be appended.
type item struct {
	subject string
	id      string // its Nats-Msg-Id, or "" if it has no key
	data    []byte
}

// Append implements [hub.Log]. One record is one message; several are an atomic batch, of at
// most 1,000. The stream remembers keys for its duplicate_window.
//
// While the stream has no leader, or there is no connection, Append waits and tries again
// until ctx ends; set a deadline. If ctx ends before a message is sent, nothing is appended. If
// it ends later, the error also matches [hub.ErrUnknown]. Append returns a [*LimitError] if the
// records, a record or its topic is too large, an *event.FieldError for an event with ResetID,
// an error that matches [hub.ErrReadOnly] if Config.ReadOnly is set or the server does not let
// the user publish, or an error of the server.
func (l *Log) Append(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
	positions, err := l.append(ctx, records)
	if err != nil {
		return nil, fmt.Errorf("natslog: append: %w", err)
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
	items, err := l.items(records)
	if err != nil || len(items) == 0 {
		return nil, err
	}
	a := &appending{l: l, items: items, offsets: make([]uint64, len(items))}
	epoch, newest := l.newest()
	if err := a.run(ctx); err != nil {
		return nil, err
	}
	if a.tried > 1 || a.fresh != 0 && a.fresh <= newest {
		if epoch, err = l.epochOfNew(ctx, epoch, newest, a.fresh); err != nil {
			return nil, fmt.Errorf("%w: the records were appended, but to which epoch is not known: %w", hub.ErrUnknown, err)
		}
	}
	positions := make([]hub.Position, len(items))
	for i, offset := range a.offsets {
		positions[i] = hub.Position{Epoch: epoch, Offset: offset}
		l.ack(epoch, offset)
	}
	return positions, nil
}

// appending is a call of Append.
type appending struct {
	l       *Log
	items   []item
	offsets []uint64
	fresh   uint64 // the lowest offset of those that were not appended before, or 0 if all were
	tried   int    // how often the server was asked
}

// appended notes that an offset was not given before.
func (a *appending) appended(offset uint64) {
	if a.fresh == 0 || offset < a.fresh {
		a.fresh = offset
	}
}

// newest returns the epoch, and the highest sequence that was seen or acknowledged in it.
func (l *Log) newest() (epoch, seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch, max(l.seen.offset, l.acked)
}

// epochOfNew returns the epoch of a record that was appended at the sequence fresh, or of one that
// was there already if that is 0. When Append began, the stream had the epoch and the newest
// sequence; it may have been made anew, or have lost records, since then.
func (l *Log) epochOfNew(ctx context.Context, epoch, newest, fresh uint64) (uint64, error) {
	v, err := l.look(ctx)
	if err == nil && v.epoch == epoch && fresh != 0 && fresh <= newest {
		v, err = l.renew(ctx, v, newest) // a sequence was given twice
	}
	return v.epoch, err
}

// ack notes that the offset was acknowledged in the epoch.
func (l *Log) ack(epoch, offset uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if epoch == l.epoch {
		l.acked = max(l.acked, offset)
	}
}

// items encodes records.
func (l *Log) items(records []hub.Record) ([]item, error) {
	if len(records) > maxRecords {
		return nil, &LimitError{"records of an append", len(records), maxRecords}
	}
	l.mu.Lock()
	most := l.size
	l.mu.Unlock()
	if payload := int(l.nc.MaxPayload()); payload > 0 { // 0 if there was no connection yet
		most = min(most, payload)
	}
	items := make([]item, len(records))
	for i := range records {
		rec := records[i]
		switch {
		case rec.Kind >= hub.InvalidRecord:
			return nil, fmt.Errorf("record %d has the kind %d; the kind must be EventRecord or ControlRecord", i, rec.Kind)
		case rec.Event.ResetID:
			return nil, &event.FieldError{Field: "ResetID", Offset: -1, Reason: "must be false in a record: a log cannot hold it"}
		}
		rec.Time = time.Unix(0, 0) // the server sets it
		it := &items[i]
		it.subject = l.subject(rec.Topic)
		if len(it.subject) > maxSubject {
			return nil, &LimitError{"bytes of a subject", len(it.subject), maxSubject}
		}
		if rec.Key != "" {
			it.id = keyID(rec.Topic, rec.Key)
		}
		it.data, _ = rec.AppendBinary(make([]byte, 0, 64+len(rec.Topic)+len(rec.Key)+len(rec.Event.ID)+len(rec.Event.Name)+len(rec.Event.Comment)+len(rec.Event.Data))) // its error is always nil
		if size := len(it.data) + headroom; size > most {
			return nil, &LimitError{"bytes of a record", len(it.data), most - headroom}
		}
	}
	return items, nil
}

// ackResponse is the server's answer to a publication.
type ackResponse struct {
	Stream    string              `json:"stream"`
	Sequence  uint64              `json:"seq"`
	Duplicate bool                `json:"duplicate"`
	Count     uint64              `json:"count"`
	Error     *jetstream.APIError `json:"error"`
}

// Errors of the server that the package jetstream does not name.
const (
	codeNoPeers           jetstream.ErrorCode = 10005 // there are not as many servers as replicas
	codeSequenceMismatch  jetstream.ErrorCode = 10063 // this server and the others differ
	codeStoreFailed       jetstream.ErrorCode = 10077 // other servers may have stored it
	codeSealed            jetstream.ErrorCode = 10109
	codeDuplicateConflict jetstream.ErrorCode = 10158 // another publication with the key is being stored
	codeBatchDisabled     jetstream.ErrorCode = 10174
	codeBatchIncomplete   jetstream.ErrorCode = 10176 // the leader has not got all, because it has changed
	codeBatchTooLarge     jetstream.ErrorCode = 10199
	codeBatchDuplicate    jetstream.ErrorCode = 10201
	codeBatchTooMany      jetstream.ErrorCode = 10210
)

// errTryAgain is matched by errors after which nothing was appended, and another attempt may
// succeed.
var errTryAgain = errors.New("the server cannot take it now")

// retry calls f until it returns another error than errTryAgain, or ctx ends.
func (a *appending) retry(ctx context.Context, f func() error) error {
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		a.tried++
		err := a.l.connected(ctx)
		if err == nil {
			err = f()
		}
		if err == nil || !errors.Is(err, errTryAgain) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// connected returns nil if there is a connection: what is published without one would be sent
// later, when nobody waits for it.
func (l *Log) connected(ctx context.Context) error {
	switch {
	case l.nc.IsConnected():
		return ctx.Err()
	case l.nc.IsClosed():
		return nats.ErrConnectionClosed
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ctx.Err(), notConnected(l.nc))
	}
	return fmt.Errorf("%w: %w", errTryAgain, notConnected(l.nc))
}

// publishOne publishes an item, and sets its offset, which may be that of the earlier one with its
// key.
func (a *appending) publishOne(ctx context.Context, i int) error {
	it := &a.items[i]
	m := &nats.Msg{Subject: it.subject, Data: it.data}
	if it.id != "" {
		m.Header = nats.Header{jetstream.MsgIDHeader: {it.id}}
	}
	resp, err := a.l.request(ctx, m)
	if err != nil {
		return err
	}
	a.offsets[i] = resp.Sequence
	if !resp.Duplicate {
		a.appended(resp.Sequence)
	}
	return nil
}

// request publishes m, and returns the acknowledgement.
func (l *Log) request(ctx context.Context, m *nats.Msg) (ackResponse, error) {
	before := l.nc.LastError()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := l.watch(before, m.Subject, cancel)
	defer watch.Stop()
	answer, err := l.nc.RequestMsgWithContext(ctx, m)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	switch {
	case err == nil:
		return l.parseAck(answer.Data)
	case errors.Is(err, nats.ErrNoResponders):
		return ackResponse{}, fmt.Errorf("%w: no stream takes the subject %s: %w", errTryAgain, m.Subject, err)
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrHeadersNotSupported), errors.Is(err, nats.ErrBadSubject):
		return ackResponse{}, err
	case denied(before, l.nc.LastError(), m.Subject):
		return ackResponse{}, fmt.Errorf("%w: %w", hub.ErrReadOnly, l.nc.LastError())
	}
	return ackResponse{}, fmt.Errorf("%w: %w", hub.ErrUnknown, err)
}

// watch cancels a request when there is no reason to wait for the answer any longer: the
// connection is lost, and the answer with it, or the server has said that it is not allowed.
// That is said to the connection, not to the request.
func (l *Log) watch(before error, subject string, cancel context.CancelCauseFunc) *time.Timer {
	const every = 25 * time.Millisecond
	connects := l.nc.Stats().Reconnects
	var t *time.Timer
	t = time.AfterFunc(time.Hour, func() {
		switch {
		case denied(before, l.nc.LastError(), subject):
			cancel(hub.ErrReadOnly)
		case !l.nc.IsConnected() || l.nc.Stats().Reconnects != connects:
			cancel(notConnected(l.nc))
		default:
			t.Reset(every)
		}
	})
	t.Reset(every)
	return t
}

// denied reports whether the connection's last error is new, and says that the user may not
// publish to the subject.
func denied(before, now error, subject string) bool {
	return !errors.Is(now, before) && errors.Is(now, nats.ErrPermissionViolation) && strings.Contains(now.Error(), strconv.Quote(subject))
}

// parseAck returns the acknowledgement in data, or its error.
func (l *Log) parseAck(data []byte) (ackResponse, error) {
	var resp ackResponse
	if err := json.Unmarshal(data, &resp); err != nil {
		return resp, fmt.Errorf("%w: the acknowledgement is not JSON: %w", hub.ErrUnknown, err)
	}
	switch {
	case resp.Error == nil:
		if resp.Stream != l.cfg.Stream || resp.Sequence == 0 {
			return resp, fmt.Errorf("the stream %s takes the subjects of the stream %s", resp.Stream, l.cfg.Stream)
		}
		return resp, nil
	case resp.Error.ErrorCode == codeStoreFailed, resp.Error.ErrorCode == codeSequenceMismatch:
		return resp, fmt.Errorf("%w: %w", hub.ErrUnknown, resp.Error)
	case resp.Error.ErrorCode == codeSealed:
		return resp, fmt.Errorf("%w: %w", hub.ErrReadOnly, resp.Error)
	case resp.Error.ErrorCode == codeDuplicateConflict, resp.Error.ErrorCode == codeBatchTooMany, resp.Error.ErrorCode == codeBatchIncomplete, resp.Error.Code == 503:
		return resp, fmt.Errorf("%w: %w", errTryAgain, resp.Error)
	}
	return resp, resp.Error
}
