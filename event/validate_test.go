package event_test

// This file tests which events the encoder refuses, with which FieldError, and that it
// writes nothing when it does.

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/event"
)

// ill has one example of each way in which bytes can fail to be UTF-8.
var ill = []string{
	"\x80",             // a continuation byte without a first byte
	"\xFF",             // a byte that UTF-8 never uses
	"\xC3",             // cut off after one byte of two
	"\xE4\xB8",         // cut off after two bytes of three
	"\xF0\x9F\x8C",     // cut off after three bytes of four
	"\xC0\xAF",         // overlong
	"\xE0\x80\x80",     // overlong
	"\xED\xA0\x80",     // a surrogate
	"\xF4\x90\x80\x80", // beyond U+10FFFF
}

func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		event  event.Event
		field  string
		offset int
		reason string
	}{
		{"an id together with its reset", event.Event{ID: "1", ResetID: true}, "ID", -1, "must be empty if ResetID is set"},
		{"a negative retry", event.Event{Retry: -time.Second}, "Retry", -1, "must not be negative, except for RetryImmediately"},
		{"the next to RetryImmediately", event.Event{Retry: event.RetryImmediately - 1}, "Retry", -1, "must not be negative, except for RetryImmediately"},
		{"the most negative", event.Event{Retry: math.MinInt64}, "Retry", -1, "must not be negative, except for RetryImmediately"},
		{"a retry of a nanosecond", event.Event{Retry: 1}, "Retry", -1, "must be at least a millisecond"},
		{"a retry just below a millisecond", event.Event{Retry: time.Millisecond - 1}, "Retry", -1, "must be at least a millisecond"},
		{"a forged event in the name", event.Event{Name: "x\n\ndata: forged", Data: "d"}, "Name", 1, "holds a line feed"},
		{"a forged field in the id", event.Event{ID: "1\rretry: 0", Data: "d"}, "ID", 1, "holds a carriage return"},
		{"an id that ignores itself", event.Event{ID: "1\x00", Data: "d"}, "ID", 1, "holds a NUL"},
		{"the last field, with all others written", event.Event{ID: "1", Name: "n", Data: "d\nd", Retry: time.Second, Comment: "\xFF"}, "Comment", 0, "is not valid UTF-8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			requireRefused(t, tt.event, tt.field, tt.offset, tt.reason)
		})
	}
}

// The encoder refuses CR, LF and NUL, which end a line or make a client ignore the field,
// at every position, in plain text and after text that is not plain.
func TestRefusedLineEnds(t *testing.T) {
	for bad, reason := range map[string]string{"\n": "holds a line feed", "\r": "holds a carriage return", "\x00": "holds a NUL"} {
		for _, filler := range []string{"x", "ü"} {
			for _, length := range []int{0, 1, 7, 8, 9, 63, 64, 65, 71, 72, 73, 130} {
				for at := range length + 1 {
					s := strings.Repeat(filler, at) + bad + strings.Repeat(filler, length-at)
					_, err := event.Event{Name: s, Data: "d"}.AppendText(nil)
					requireFieldError(t, err, "Name", at*len(filler), reason)
					_, err = event.Event{ID: s, Data: "d"}.AppendText(nil)
					requireFieldError(t, err, "ID", at*len(filler), reason)
				}
			}
		}
	}
}

// A client sends the id back in a header, which must not contain control characters, nor
// white space at its ends.
func TestRefusedInID(t *testing.T) {
	controls := []byte{0x7F}
	for c := range byte(' ') {
		if c != '\t' {
			controls = append(controls, c)
		}
	}
	for _, c := range controls {
		reason := fmt.Sprintf("holds the control character 0x%02X", c)
		switch c {
		case '\n':
			reason = "holds a line feed"
		case '\r':
			reason = "holds a carriage return"
		case 0:
			reason = "holds a NUL"
		}
		for offset, id := range map[int]string{0: string(c) + "x", 1: "x" + string(c) + "x", 2: "xx" + string(c), 70: strings.Repeat("ü", 35) + string(c)} {
			_, err := event.Event{ID: id}.AppendText(nil)
			requireFieldError(t, err, "ID", offset, reason)
		}
	}

	for _, space := range []string{" ", "\t"} {
		_, err := event.Event{ID: "a" + space + "b"}.AppendText(nil)
		require.NoError(t, err)
		for id, offset := range map[string]int{space: 0, space + "a": 0, "a" + space: 1, strings.Repeat("a", 80) + space: 80, "ü" + space: 2} {
			_, err := event.Event{ID: id}.AppendText(nil)
			var fieldErr *event.FieldError
			require.ErrorAs(t, err, &fieldErr)
			require.Equal(t, "ID", fieldErr.Field)
			require.Equal(t, offset, fieldErr.Offset)
			require.Contains(t, fieldErr.Reason, "space or tab")
		}
	}
}

func TestRefusedIllFormed(t *testing.T) {
	const reason = "is not valid UTF-8"
	for _, bad := range ill {
		require.False(t, utf8.ValidString(bad))
		for _, head := range []string{"", "\uFFFD", "ü", "世界", strings.Repeat("x", 100) + "\uFFFD"} {
			for _, tail := range []string{"", "x", "\uFFFD", strings.Repeat("x", 100)} {
				s := head + bad + tail
				requireRefused(t, event.Event{ID: s, Data: "d"}, "ID", len(head), reason)
				requireRefused(t, event.Event{Name: s, Data: "d"}, "Name", len(head), reason)
				requireRefused(t, event.Event{Data: s}, "Data", len(head), reason)
				requireRefused(t, event.Event{Data: "d", Comment: s}, "Comment", len(head), reason)
			}
		}
		for n := range 150 { // the encoder looks at plain text 8 and 32 bytes at a time
			head := strings.Repeat("x", n)
			for _, tail := range []string{"", strings.Repeat("x", 150-n)} {
				s := head + bad + tail
				_, err := event.Event{ID: s}.AppendText(nil)
				requireFieldError(t, err, "ID", n, reason)
				_, err = event.Event{Name: s}.AppendText(nil)
				requireFieldError(t, err, "Name", n, reason)
				_, err = event.Event{Data: s}.AppendText(nil)
				requireFieldError(t, err, "Data", n, reason)
				_, err = event.AppendWith(nil, event.Event{}, appending(s))
				requireFieldError(t, err, "Data", n, reason)
				_, err = event.AppendComment(nil, s)
				requireFieldError(t, err, "Comment", n, reason)
			}
		}
	}
}

// The offset of a FieldError counts from the start of the field, not of a line.
func TestRefusedOffsetCountsFromTheStartOfTheField(t *testing.T) {
	for _, head := range []string{"a\n", "\r\n", "a\rb\n", strings.Repeat("a", 100) + "\n", "ü\n", "a\nü\n", "\n\n\nü"} {
		s := head + "\xFFb"
		requireRefused(t, event.Event{Data: s}, "Data", len(head), "is not valid UTF-8")
		requireRefused(t, event.Event{Comment: s}, "Comment", len(head), "is not valid UTF-8")
	}
}

func TestFieldErrorText(t *testing.T) {
	for _, tt := range []struct {
		event event.Event
		want  string
	}{
		{event.Event{Name: "a\nb"}, "event: Name holds a line feed at byte 1"},
		{event.Event{ID: "a\x1Bb"}, "event: ID holds the control character 0x1B at byte 1"},
		{event.Event{Data: "ü\xFF"}, "event: Data is not valid UTF-8 at byte 2"},
		{event.Event{ID: "1", ResetID: true}, "event: ID must be empty if ResetID is set"},
		{event.Event{Retry: -5}, "event: Retry must not be negative, except for RetryImmediately"},
		{event.Event{Retry: 5}, "event: Retry must be at least a millisecond"},
	} {
		_, err := tt.event.MarshalText()
		require.EqualError(t, err, tt.want)
	}
}

func requireFieldError(t testing.TB, err error, field string, offset int, reason string) {
	t.Helper()
	var fieldErr *event.FieldError
	require.ErrorAs(t, err, &fieldErr)
	require.Equal(t, event.FieldError{Field: field, Offset: offset, Reason: reason}, *fieldErr)
}

// requireUnchanged asserts that got is dst itself and still contains want.
func requireUnchanged(t testing.TB, want string, dst, got []byte) {
	t.Helper()
	require.Equal(t, want, string(got))
	require.Equal(t, cap(dst), cap(got))
	if cap(dst) > 0 {
		require.Same(t, &dst[:1][0], &got[:1][0], "dst itself")
	}
}

// requireRefused asserts that every way to encode e returns the same FieldError, leaves dst
// unchanged and writes nothing.
func requireRefused(t testing.TB, e event.Event, field string, offset int, reason string) {
	t.Helper()
	for _, dst := range [][]byte{
		nil,
		[]byte("before\n\n"), // must grow
		append(make([]byte, 0, 1024), "before\n\n"...), // has room
	} {
		before := string(dst)
		got, err := e.AppendText(dst)
		requireFieldError(t, err, field, offset, reason)
		requireUnchanged(t, before, dst, got)

		got, err = event.AppendWith(dst, e, appending(e.Data))
		requireFieldError(t, err, field, offset, reason)
		requireUnchanged(t, before, dst, got)

		if field == "Comment" {
			got, err = event.AppendComment(dst, e.Comment)
			requireFieldError(t, err, field, offset, reason)
			requireUnchanged(t, before, dst, got)
		}
	}

	got, err := e.MarshalText()
	requireFieldError(t, err, field, offset, reason)
	require.Empty(t, got)

	var w writer
	n, err := e.WriteTo(&w)
	requireFieldError(t, err, field, offset, reason)
	require.Zero(t, n)
	require.Empty(t, w.writes, "nothing is written")
}
