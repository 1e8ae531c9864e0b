package hub

import (
	"context"
	"fmt"
	"io"
	"math"
	"strings"
	"unsafe"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/engine"
	"github.com/chi-sse/sse/internal/scratch"
)

// PublishTyped publishes e as [Hub.Publish] does. It turns e.Data into text with
// Config.Serializer; a string or []byte is the text itself. Text that is empty is the same as no
// data, as in an [sse.Event]. A Render method is not called, because there is no request.
//
// The errors are those of Publish, and one that wraps an [*sse.EncodeError], which names the Go
// type, if the value cannot be serialized. The event is not in the log then either.
func (h *Hub) PublishTyped(ctx context.Context, topic string, e sse.TypedEvent) (Position, error) {
	buf := scratch.Get()
	pos, err := Position{}, h.appendText(buf, e.Data)
	if err != nil {
		err = fmt.Errorf("hub: publish: %w", err)
	} else {
		pos, err = h.publishText(ctx, topic, untyped(e), buf.B)
	}
	buf.Put() // not deferred: after a panic the garbage collector takes buf
	return pos, err
}

// PublishFunc publishes e as [Hub.Publish] does, with what write writes to w as its data: the
// output of a template or of an encoder. e.Data must be empty. It makes no difference how the
// output is divided into Writes. Output that is empty is the same as no data.
//
// If write returns an error or panics, the event is not in the log; PublishFunc returns that
// error, wrapped. Its other errors are those of Publish. A Write beyond Config.LogSize fails with
// the *event.TooLargeError. write is called without a lock, and may publish: that comes before e.
// Writes to w fail once write has returned.
func (h *Hub) PublishFunc(ctx context.Context, topic string, e sse.Event, write func(w io.Writer) error) (Position, error) {
	if e.Data != "" {
		return Position{}, fmt.Errorf("hub: publish: %w", &event.FieldError{Field: "Data", Offset: -1, Reason: "must be empty in PublishFunc, whose function writes the data"})
	}
	buf := scratch.Get()
	pos, err := Position{}, buf.Fill(int(min(h.cfg.LogSize, math.MaxInt)), write)
	if err != nil {
		err = fmt.Errorf("hub: publish: %w", err)
	} else {
		pos, err = h.publishText(ctx, topic, e, buf.B)
	}
	buf.Put()
	return pos, err
}

// EventOf returns e with the text of its Data, as [Hub.PublishTyped] publishes it: for
// [Hub.PublishAll], [Hub.Finish] and [Hub.KickWith], which take an Event. The error wraps an
// [*sse.EncodeError].
func (h *Hub) EventOf(e sse.TypedEvent) (sse.Event, error) {
	buf := scratch.Get()
	ev, err := untyped(e), h.appendText(buf, e.Data)
	if err != nil {
		err = fmt.Errorf("hub: %w", err)
		ev = sse.Event{}
	} else {
		ev.Data = string(buf.B)
	}
	buf.Put()
	return ev, err
}

// untyped returns e without its Data.
func untyped(e sse.TypedEvent) sse.Event {
	return sse.Event{ID: e.ID, Name: e.Name, Comment: e.Comment, Retry: e.Retry, ResetID: e.ResetID}
}

// appendText appends the text of v to buf.
func (h *Hub) appendText(buf *scratch.Buffer, v any) (err error) {
	if v == nil {
		return nil
	}
	serializer := h.cfg.Serializer
	if serializer == nil {
		serializer = sse.JSON
	}
	buf.B, err = engine.AppendValue(buf.B, v, serializer)
	return err
}

// publishText publishes e with text as its Data. The caller goes on using text. The hub's memory
// holds it only once, within the frame.
func (h *Hub) publishText(ctx context.Context, topic string, e sse.Event, text []byte) (Position, error) {
	if err := ctx.Err(); err != nil {
		return Position{}, fmt.Errorf("hub: publish: %w", err)
	}
	e.Data = unsafe.String(unsafe.SliceData(text), len(text)) // as long as this function runs
	f, err := h.encode(topic, e)
	if err != nil {
		return Position{}, fmt.Errorf("hub: publish: %w", err)
	}
	e.Data = f.keep(e)
	pos, err := h.appendEvent(ctx, topic, e, f)
	if err != nil {
		return Position{}, fmt.Errorf("hub: publish: %w", err)
	}
	return pos, nil
}

// keep returns e.Data as a string that is part of f, which encode has made of e, or else as a
// copy: data of several lines is not in the frame in one piece. What is in f does not change any
// longer.
func (f frame) keep(e sse.Event) string {
	at := len("data: ")
	if e.Name != "" {
		at += len("event: \n") + len(e.Name)
	}
	if e.Data != "" && at+len(e.Data) <= len(f.prefix) {
		if part := f.prefix[at:][:len(e.Data)]; string(part) == e.Data {
			return unsafe.String(unsafe.SliceData(part), len(part))
		}
	}
	return strings.Clone(e.Data)
}
