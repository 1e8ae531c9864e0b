package event

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// FieldError says which field of an [Event] cannot be encoded, and why. Written
// out regardless, such a field would let whoever controls it forge other fields
// and events, or wedge the client with an id it cannot send back.
type FieldError struct {
	Field  string // the name of the struct field: "ID", "Name", "Data", "Comment", "Retry"
	Offset int    // the byte in the field at fault, or -1 if it is the field as a whole
	Reason string // "holds a line feed", …
}

func (e *FieldError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("event: %s %s", e.Field, e.Reason)
	}
	return fmt.Sprintf("event: %s %s at byte %d", e.Field, e.Reason, e.Offset)
}

// checkID accepts what is valid on the wire here and, unaltered, as an HTTP
// field value there (RFC 9110 §5.5), since that is how an id comes back.
func checkID(id string, reset bool) error {
	if reset {
		return &FieldError{"ID", -1, "is set together with ResetID"}
	}
	for i := range len(id) {
		if c := id[i]; c < ' ' && c != '\t' || c == 0x7f {
			return &FieldError{"ID", i, "holds " + controlName(c)}
		}
	}
	for _, i := range [...]int{0, len(id) - 1} {
		if isSpace(id[i]) {
			return &FieldError{"ID", i, "has a space or tab, which HTTP drops at either end,"}
		}
	}
	return checkText("ID", id)
}

func checkName(name string) error {
	if i := strings.IndexAny(name, "\r\n\x00"); i >= 0 {
		return &FieldError{"Name", i, "holds " + controlName(name[i])}
	}
	return checkText("Name", name)
}

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

func checkRetry(d time.Duration) error {
	switch {
	case d >= time.Millisecond, d == RetryImmediately:
		return nil
	case d < 0:
		return &FieldError{"Retry", -1, "is negative"}
	}
	return &FieldError{"Retry", -1, "is below a millisecond"}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

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
