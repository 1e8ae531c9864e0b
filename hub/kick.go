package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/engine"
)

// A kick sets the ending of each member at once (ending.go). In a hub of a Log it is an order to
// the other hubs as well.

// ErrKicked is matched by the cause of a session's end after [Member.Kick] or [Hub.Kick].
// The session's end then has the reason [sse.EndKicked].
var ErrKicked = engine.ErrKicked

// Kick ends m's session, in whatever stage it is. When Kick returns, m is in no topic any
// longer. Nothing reaches the client that is published after that, nor anything that the
// application sends into the session: such sends fail with an error that matches
// [sse.ErrClosed], [ErrKicked] and cause. A Snapshot that is running fails at its next send.
//
// What was published before the call may still arrive. The client has a second for it, or
// [sse.Config].WriteTimeout if that is less. Then the session ends in an orderly way, or is
// cut off if the client has not taken everything. Kick does not wait for that, nor for
// OnLeave.
//
// The session ends as [sse.EndKicked], which is logged at level Debug. The cause of the end,
// which hooks and the log see, matches [ErrKicked] and cause;
// cause may be nil. The client may reconnect: the handler must refuse it then.
func (m *Member) Kick(cause error) { m.kick(cause, nil, m.hub.head.Load()) }

// KickWith is [Member.Kick], and sends last to the client after what was published before, so
// that a page can tell its user. A client that is cut off does not get it. last must not have an
// ID: the client would resume after it.
//
// KickWith returns an *event.FieldError if last cannot be encoded or has an ID. The session is
// kicked all the same, without it.
func (m *Member) KickWith(cause error, last sse.Event) error {
	frame, err := encodeLast(last)
	m.kick(cause, frame, m.hub.head.Load())
	if err != nil {
		return fmt.Errorf("hub: kick: %w", err)
	}
	return nil
}

// encodeLast encodes an event that a kick sends.
func encodeLast(e sse.Event) ([]byte, error) {
	if e.ID != "" || e.ResetID {
		return nil, &event.FieldError{Field: "ID", Offset: -1, Reason: "must be empty in the event of a kick, and ResetID false: the client would lose its place"}
	}
	return e.AppendText(nil)
}

// Kick ends the sessions of all members that follow topic, as [Member.Kick] does, also of
// those that have not joined it because their sessions are still opening. It returns their
// number.
//
// With Config.Log, Kick does the same in all hubs of the Log: it appends an order to the Log,
// and each hub ends the sessions that it had opened before it came to the order. No event
// after the order reaches them. Kick ends the sessions of its own hub at once, and returns
// when the hub has come to the order, so that a session that opens later stays. It returns
// the error if the order could not be appended; the sessions of other hubs then go on.
//
// To take a right away, revoke it first, and then kick. Ask for the right in
// [Subscription].OnStart: a session that has not come to it yet is refused there, and Kick
// finds the others.
func (h *Hub) Kick(ctx context.Context, topic string, cause error) (n int, err error) {
	return h.kick(ctx, topic, cause, nil)
}

// KickWith is [Hub.Kick], with an event for the clients as [Member.KickWith] has it.
func (h *Hub) KickWith(ctx context.Context, topic string, cause error, last sse.Event) (n int, err error) {
	return h.kick(ctx, topic, cause, &last)
}

func (h *Hub) kick(ctx context.Context, topic string, cause error, last *sse.Event) (n int, err error) {
	if topic == "" {
		return 0, fmt.Errorf("hub: kick: %w", errTopic)
	}
	var frame []byte
	var invalid error
	if last != nil {
		if frame, invalid = encodeLast(*last); invalid != nil {
			last, invalid = nil, fmt.Errorf("hub: kick: %w", invalid)
		}
	}
	n = h.kickLocal(topic, cause, frame, h.head.Load(), none)
	if h.follower == nil {
		return n, invalid
	}
	positions, err := h.follower.append(ctx, []Record{newKickOrder(topic, cause, last)})
	if err == nil {
		err = h.Wait(ctx, positions[0])
	}
	if err != nil {
		err = fmt.Errorf("hub: kick: %w", err)
	}
	return n, errors.Join(invalid, err)
}

// orderKick is in Event.Name of a ControlRecord.
const orderKick = "kick"

// kickOrder is in Event.Data of the order for a kick, as JSON.
type kickOrder struct {
	Cause string     `json:"cause,omitempty"`
	Last  *lastEvent `json:"last,omitempty"`
}

// lastEvent is an sse.Event without an id. (As JSON, that type is its wire form.)
type lastEvent struct {
	Name    string        `json:"name,omitempty"`
	Data    string        `json:"data,omitempty"`
	Comment string        `json:"comment,omitempty"`
	Retry   time.Duration `json:"retry,omitempty"`
}

func newKickOrder(topic string, cause error, last *sse.Event) Record {
	var order kickOrder
	if last != nil {
		order.Last = &lastEvent{Name: last.Name, Data: last.Data, Comment: last.Comment, Retry: last.Retry}
	}
	if cause != nil {
		order.Cause = cause.Error()
	}
	data, _ := json.Marshal(order) // it has only texts and numbers
	return Record{Kind: ControlRecord, Topic: topic, Event: sse.Event{Name: orderKick, Data: string(data)}}
}

// obeyKick carries out an order for a kick, which has the hub's offset. An order is not
// trusted: what cannot be decoded is left out, and the kick is not.
func (h *Hub) obeyKick(rec *Record, offset uint64) {
	var order kickOrder
	var cause error
	var frame []byte
	err := json.Unmarshal([]byte(rec.Event.Data), &order)
	if l := order.Last; err == nil && l != nil {
		frame, err = encodeLast(sse.Event{Name: l.Name, Data: l.Data, Comment: l.Comment, Retry: l.Retry})
	}
	if err != nil {
		h.cfg.Logger.Error("hub: an order in the log is invalid; its topic is kicked without an event", "topic", rec.Topic, "error", err)
	}
	if order.Cause != "" {
		cause = errors.New(order.Cause)
	}
	h.kickLocal(rec.Topic, cause, frame, offset-1, offset)
}

// kickLocal kicks the members of this hub that follow topic and were admitted when the head
// was before before. They may be sent events up to limit, and then frame.
func (h *Hub) kickLocal(topic string, cause error, frame []byte, limit, before uint64) (n int) {
	for _, m := range h.followers(topic, false) {
		if m.admittedBefore(before) && m.kick(cause, frame, limit) {
			n++
		}
	}
	return n
}

// kickError reports that a session was kicked. cause may be nil.
type kickError struct{ cause error }

func (e *kickError) Error() string {
	if e.cause == nil {
		return ErrKicked.Error()
	}
	return ErrKicked.Error() + ": " + e.cause.Error()
}

func (e *kickError) Unwrap() []error {
	if e.cause == nil {
		return []error{ErrKicked, sse.ErrClosed}
	}
	return []error{ErrKicked, sse.ErrClosed, e.cause}
}
