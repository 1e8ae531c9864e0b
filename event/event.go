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

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

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

// AppendText appends the event's wire form, with its closing blank line, to dst
// and returns the extended slice. Lines end with LF; fields stand in the order
// event, data, id, retry, comment.
//
// The error is a [*FieldError], and dst is then returned as it was. AppendText
// implements [encoding.TextAppender].
func (e Event) AppendText(dst []byte) ([]byte, error) {
	out := dst
	var err error
	if e.Name != "" {
		if out, err = appendName(out, e.Name); err != nil {
			return dst, err
		}
	}
	if e.Data != "" || e.Name != "" || !e.silent() {
		if n := plainLen(e.Data); n == len(e.Data) { // nearly always, and worth a quarter of the time here
			out = append(out, "data: "...)
			out = append(out, e.Data...)
			out = append(out, '\n')
		} else if out, err = appendLines(out, "Data", "data: ", e.Data, n); err != nil {
			return dst, err
		}
	}
	if out, err = e.appendTail(out); err != nil {
		return dst, err
	}
	return out, nil
}

// AppendWith appends e as [Event.AppendText] does, with data appended by
// appendData straight into the frame in place of e.Data. It is for encoders that
// write rather than return: no copy of the payload is made unless it holds line
// breaks. A data line is always written.
//
// appendData gets the frame so far, must append to it only, and returns the
// result. An error of it is returned as it is, with dst as it was.
func AppendWith(dst []byte, e Event, appendData func(frame []byte) ([]byte, error)) ([]byte, error) {
	out := dst
	var err error
	if e.Name != "" {
		if out, err = appendName(out, e.Name); err != nil {
			return dst, err
		}
	}
	out = append(out, "data: "...)
	start := len(out)
	if out, err = appendData(out); err != nil {
		return dst, err
	}
	data := out[start:]
	n := plainLen(data)
	switch {
	case bytes.ContainsAny(data[n:], "\r\n"):
		out, err = appendLines(out[:start-len("data: ")], "Data", "data: ", string(data), n)
	case n < len(data) && !utf8.Valid(data):
		err = checkText("Data", string(data))
	default:
		out = append(out, '\n')
	}
	if err != nil {
		return dst, err
	}
	if out, err = e.appendTail(out); err != nil {
		return dst, err
	}
	return out, nil
}

// AppendComment appends a block that holds only a comment, as a keep-alive does.
// Unlike an [Event]'s Comment the text may be empty. The error is a
// [*FieldError], and dst is then returned as it was.
func AppendComment(dst []byte, text string) ([]byte, error) {
	out, err := appendLines(dst, "Comment", ": ", text, plainLen(text))
	if err != nil {
		return dst, err
	}
	return append(out, '\n'), nil
}

// MarshalText returns the event's wire form. It implements
// [encoding.TextMarshaler]; see [Event.AppendText] for the form and the error.
func (e Event) MarshalText() ([]byte, error) {
	return e.AppendText(nil)
}

// WriteTo writes the event's wire form to w in one Write. It implements
// [io.WriterTo]. If the event is refused (see [Event.AppendText]), nothing is
// written.
func (e Event) WriteTo(w io.Writer) (int64, error) {
	frame, err := e.AppendText(nil)
	if err != nil {
		return 0, err
	}
	n, err := w.Write(frame)
	return int64(n), err
}

// silent reports whether a field is set that dispatches nothing.
func (e *Event) silent() bool {
	return e.ID != "" || e.ResetID || e.Retry != 0 || e.Comment != ""
}

func appendName(dst []byte, name string) ([]byte, error) {
	if !printable(name) {
		if err := checkName(name); err != nil {
			return dst, err
		}
	}
	dst = append(dst, "event: "...)
	dst = append(dst, name...)
	return append(dst, '\n'), nil
}

// appendTail appends what follows the data lines, and the blank line.
func (e *Event) appendTail(dst []byte) ([]byte, error) {
	if e.ID != "" {
		if last := len(e.ID) - 1; e.ResetID || !printable(e.ID) || e.ID[0] == ' ' || e.ID[last] == ' ' {
			if err := checkID(e.ID, e.ResetID); err != nil {
				return dst, err
			}
		}
		dst = append(dst, "id: "...)
		dst = append(dst, e.ID...)
		dst = append(dst, '\n')
	} else if e.ResetID {
		dst = append(dst, "id:\n"...)
	}
	if e.Retry != 0 {
		if err := checkRetry(e.Retry); err != nil {
			return dst, err
		}
		dst = append(dst, "retry: "...)
		dst = strconv.AppendInt(dst, max(0, e.Retry.Milliseconds()), 10)
		dst = append(dst, '\n')
	}
	if e.Comment != "" {
		var err error
		if dst, err = appendLines(dst, "Comment", ": ", e.Comment, plainLen(e.Comment)); err != nil {
			return dst, err
		}
	}
	return append(dst, '\n'), nil
}

// appendLines appends text, of which the first plain bytes are, with prefix before
// each of its lines. An empty text is one empty line. On an error dst is left with
// half of it.
func appendLines(dst []byte, field, prefix, text string, plain int) ([]byte, error) {
	whole, checked := text, false
	for {
		end := plain
		if end < len(text) && text[end] != '\n' && text[end] != '\r' {
			// Past plain ASCII: one look at the whole, then line by line.
			if !checked {
				if err := checkText(field, whole); err != nil {
					return dst, err
				}
				checked = true
			}
			if end = strings.IndexAny(text, "\r\n"); end < 0 {
				end = len(text)
			}
		}
		dst = append(dst, prefix...)
		dst = append(dst, text[:end]...)
		dst = append(dst, '\n')
		if end == len(text) {
			return dst, nil
		}
		if text[end] == '\r' && end+1 < len(text) && text[end+1] == '\n' {
			end++
		}
		text = text[end+1:]
		plain = plainLen(text)
	}
}
