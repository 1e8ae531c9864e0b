// Package event implements the wire format of Server-Sent Events (WHATWG HTML §9.2).
// An [Event] encodes itself into bytes, and a [Decoder] reads events from any
// [io.Reader]. The package knows nothing about HTTP.
//
// This program encodes an event and decodes it again:
//
//	package main
//
//	import (
//		"fmt"
//		"strings"
//
//		"github.com/chi-sse/sse/event"
//	)
//
//	func main() {
//		frame, err := event.Event{ID: "1", Name: "greeting", Data: "hello\nworld"}.MarshalText()
//		if err != nil {
//			panic(err)
//		}
//		for ev, err := range event.NewDecoder(strings.NewReader(string(frame))).All() {
//			if err != nil {
//				panic(err)
//			}
//			fmt.Printf("%s %s %q\n", ev.ID, ev.Name, ev.Data) // 1 greeting "hello\nworld"
//		}
//	}
//
// Both directions are strict. The encoder refuses a field that a client could read as
// something else, and returns a [*FieldError]. The decoder follows §9.2.5 and §9.2.6
// exactly. It limits how much memory a sender can make it use, and returns a
// [*TooLargeError] if a line or an event exceeds its limit.
package event

// This file defines Event, the type that both the encoder and the decoder work on.

import "time"

// RetryImmediately is the value of an [Event]'s Retry that tells the client to
// reconnect without waiting. It is written as "retry: 0". A zero Retry is different: the
// event then has no retry field.
const RetryImmediately time.Duration = -1

// Event represents one block of an event stream: the fields between two blank lines.
// The zero Event is a message with empty data.
//
// Clients dispatch an event that has Data or a Name, and also one with no field set. An
// event that sets only ID, ResetID, Retry or Comment is silent: it changes the client's
// last event id or reconnection time, or keeps the connection alive, and no client shows
// it to its user.
//
// The strings of an Event from a [Decoder] share one allocation. To keep one small field
// of a large event without the rest, copy it with [strings.Clone].
type Event struct {
	// ID becomes the client's last event id. The client sends it back in the
	// Last-Event-ID header when it reconnects. If ID is empty, the client keeps the id
	// that it has. An ID must be valid as the value of an HTTP header: valid UTF-8,
	// without control characters other than a tab, and without a space or tab at either
	// end.
	//
	// In a decoded event, ID is the client's last event id after this event. An earlier
	// event may have set it.
	ID string

	// Name is the event's type, which browsers use to choose the listeners. If it is
	// empty, the type is "message". Do not use "error" or "open": EventSource has events of
	// these types itself, so an event named "error" calls onerror, as if the connection had
	// failed. Name must not contain CR, LF or NUL, and must be
	// valid UTF-8.
	Name string

	// Data is the payload. Each line break in it (CR, LF or CRLF) starts a new data line
	// on the wire, and the client receives it as LF. Data must be valid UTF-8.
	Data string

	// Comment is text for people and proxies. Clients ignore it. Each line of it becomes
	// one comment line. Comment must be valid UTF-8. A decoded event has its Comment only
	// if [Decoder.Comments] is set.
	Comment string

	// Retry sets the client's reconnection time. It is sent in whole milliseconds, and a
	// fraction is cut off. If it is zero, the client keeps the time that it has.
	// [RetryImmediately] sets the time to 0. Any other Retry must be at least a
	// millisecond.
	Retry time.Duration

	// ResetID makes the client forget its last event id, by means of an empty id field.
	// If ResetID is set, ID must be empty.
	ResetID bool
}
