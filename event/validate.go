package event

// This file checks whether the fields of an Event can be encoded, and defines
// FieldError, which reports a field that cannot.

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// FieldError reports which field of an [Event] cannot be encoded, and why. If the encoder
// wrote such a field, anybody who controls its text could forge other fields and events,
// or leave the client with an id that it cannot send back when it reconnects.
type FieldError struct {
	// Field is the name of the field in Event. The encoder reports "ID", "Name", "Data",
	// "Comment" and "Retry".
	Field string

	// Offset is the index of the first wrong byte in the field, or -1 if the field as a
	// whole is wrong.
	Offset int

	// Reason says what is wrong, in words that follow the field's name: "holds a line
	// feed".
	Reason string
}

func (e *FieldError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("event: %s %s", e.Field, e.Reason)
	}
	return fmt.Sprintf("event: %s %s at byte %d", e.Field, e.Reason, e.Offset)
}

// checkID returns a FieldError if id cannot be encoded. An id must be valid in two places:
// on the wire, and unaltered as the value of the HTTP header in which the client sends it
// back (RFC 9110 §5.5). If reset is set, the event has ResetID too, so no id is allowed.
func checkID(id string, reset bool) error {
	if reset {
		return &FieldError{"ID", -1, "must be empty if ResetID is set"}
	}
	for i := range len(id) {
		if c := id[i]; c < ' ' && c != '\t' || c == 0x7f {
			return &FieldError{"ID", i, "holds " + controlName(c)}
		}
	}
	for _, i := range [...]int{0, len(id) - 1} {
		if isSpace(id[i]) {
			return &FieldError{"ID", i, "starts or ends with a space or tab, which HTTP would drop,"}
		}
	}
	return checkText("ID", id)
}

// checkName returns a FieldError if name contains CR, LF or NUL, or is not valid UTF-8.
func checkName(name string) error {
	if i := strings.IndexAny(name, "\r\n\x00"); i >= 0 {
		return &FieldError{"Name", i, "holds " + controlName(name[i])}
	}
	return checkText("Name", name)
}

// checkText returns a FieldError for the given field if s is not valid UTF-8.
func checkText(field, s string) error {
	if utf8.ValidString(s) {
		return nil
	}
	for i := 0; ; {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n <= 1 {
			return &FieldError{field, i, "is not valid UTF-8"}
		}
		i += n
	}
}

// checkRetry returns a FieldError unless d is RetryImmediately or at least a millisecond.
// A zero Retry is never checked, because it means that there is no retry field.
func checkRetry(d time.Duration) error {
	switch {
	case d >= time.Millisecond, d == RetryImmediately:
		return nil
	case d < 0:
		return &FieldError{"Retry", -1, "must not be negative, except for RetryImmediately"}
	}
	return &FieldError{"Retry", -1, "must be at least a millisecond"}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// controlName returns a name for the control character c, for use in a FieldError.
func controlName(c byte) string {
	switch c {
	case '\n':
		return "a line feed"
	case '\r':
		return "a carriage return"
	case 0:
		return "a NUL"
	}
	return fmt.Sprintf("the control character 0x%02X", c)
}
