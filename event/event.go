// Package event is the wire format of Server-Sent Events (WHATWG HTML §9.2):
// an [Event], an encoder that appends it to a byte slice, and a [Decoder] that
// reads events from any [io.Reader]. It knows nothing of HTTP.
//
// A complete program:
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
// Both directions are strict. The encoder refuses what a reader could take for
// something else ([*FieldError]); the decoder follows §9.2.5 and §9.2.6 to the
// letter and bounds what a sender can make it hold ([*TooLargeError]).
package event

import "time"

// RetryImmediately as an [Event]'s Retry is written as "retry: 0": reconnect
// without waiting. A zero Retry means that the event has no retry field.
const RetryImmediately time.Duration = -1

// Event is one block of an event stream. The zero Event is a message with empty
// data.
//
// An event with Data or a Name is dispatched by clients, and so is one with no
// field set. An event that sets only ID, ResetID, Retry or Comment is silent: it
// moves the client's last event id or reconnection time, or keeps the line
// alive, and no client shows it to its user.
//
// An Event from a [Decoder] has all its strings in one allocation. To keep one
// small field of a large event, [strings.Clone] it.
type Event struct {
	// ID becomes the client's last event id, which it sends back as the
	// Last-Event-ID header when it reconnects. Empty leaves the client's id as it
	// is. An ID must be able to stand in an HTTP header: no control character but
	// an inner tab, no space or tab at either end, and valid UTF-8.
	//
	// On a decoded event it is the last event id as of this event, which may have
	// been set by an earlier one.
	ID string

	// Name is the event's type, which browsers dispatch on. Empty means
	// "message". It must not hold CR, LF or NUL, and must be valid UTF-8.
	Name string

	// Data is the payload. A line break in it, be it CR, LF or CRLF, becomes a
	// line of its own on the wire, and LF at the receiver. It must be valid UTF-8.
	Data string

	// Comment is text for humans and proxies that clients ignore, one comment line
	// for each line of it. It must be valid UTF-8. A decoded event carries it only
	// if [Decoder.Comments] is set.
	Comment string

	// Retry sets the client's reconnection time, in whole milliseconds (a fraction
	// is cut off). Zero leaves it as it is, [RetryImmediately] sets it to 0, and any
	// other negative value or one below a millisecond is refused.
	Retry time.Duration

	// ResetID makes the client forget its last event id, by an empty id field. It
	// excludes ID.
	ResetID bool
}
