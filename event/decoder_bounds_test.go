package event_test

// This file tests MaxLineSize and MaxEventSize.

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/event"
)

func TestDecodeBounds(t *testing.T) {
	limit := func(d *event.Decoder) { d.MaxLineSize, d.MaxEventSize = 20, 30 }
	for _, tt := range []struct{ name, stream, tooLarge string }{
		{"line at its bound", "data: 12345678901234\n\n", ""},
		{"line beyond", "data: 123456789012345\n\n", "line"},
		{"comment line beyond", ": 12345678901234567890\n\n", "line"},
		{"endless line", "data: " + strings.Repeat("x", 1<<16), "line"},
		{"event at its bound", "id: 12345\nevent: 1234567890\ndata: 12345\ndata: 123456789\n\n", ""},
		{"event beyond", "id: 12345\nevent: 1234567890\ndata: 12345\ndata: 1234567890\n\n", "event"},
		{"endless event", strings.Repeat("data\n", 100), "event"},
		{"what is not kept does not count", strings.Repeat(": 1234567\nx: 1234\n", 100) + "data: a\n\n", ""},
	} {
		for name, r := range map[string]io.Reader{"whole": strings.NewReader(tt.stream), "bytewise": iotest.OneByteReader(strings.NewReader(tt.stream))} {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				d := event.NewDecoder(r)
				limit(d)
				_, err := d.Decode()
				if tt.tooLarge == "" {
					require.NoError(t, err)
					return
				}
				var tooLarge *event.TooLargeError
				require.ErrorAs(t, err, &tooLarge)
				require.Equal(t, tt.tooLarge, tooLarge.What)
				_, again := d.Decode()
				require.Equal(t, err, again, "the error must be final")
			})
		}
	}
}

// A line that the end of the stream cuts off is subject to the limit, whether the reader
// returns io.EOF together with the last bytes or after them.
func TestDecodeBoundOfALineTheStreamCutsOff(t *testing.T) {
	const stream = "data: a\n\n" + "data: 12345"
	for name, r := range map[string]io.Reader{
		"io.EOF after":      strings.NewReader(stream),
		"io.EOF with it":    iotest.DataErrReader(strings.NewReader(stream)),
		"in one-byte reads": iotest.OneByteReader(strings.NewReader(stream)),
	} {
		t.Run(name, func(t *testing.T) {
			d := event.NewDecoder(r)
			d.MaxLineSize = 10
			_, err := d.Decode()
			require.NoError(t, err)
			_, err = d.Decode()
			require.Equal(t, &event.TooLargeError{What: "line", Limit: 10}, err)
		})
	}
}

// A byte order mark does not count as part of a line, even while only half of it has been
// read.
func TestDecodeBoundLeavesOutTheByteOrderMark(t *testing.T) {
	for name, r := range map[string]io.Reader{
		"whole":             strings.NewReader("\uFEFFx\n"),
		"in one-byte reads": iotest.OneByteReader(strings.NewReader("\uFEFFx\n")),
	} {
		t.Run(name, func(t *testing.T) {
			d := event.NewDecoder(r)
			d.MaxLineSize = 1
			_, err := d.Decode()
			require.Equal(t, io.EOF, err)
		})
	}
}

// The limit applies to the sum of an event's fields, no matter which field comes last.
func TestEventSizeCountsAllFields(t *testing.T) {
	for _, text := range []string{
		"event: aaaaaa\ndata: bbbbbb\n\n",
		"data: bbbbbb\nid: cccccc\n\n",
		"id: cccccc\nevent: aaaaaa\n\n",
	} {
		d := event.NewDecoder(strings.NewReader(text))
		d.MaxEventSize, d.MaxLineSize = 10, 100
		_, err := d.Decode()
		require.Equal(t, &event.TooLargeError{What: "event", Limit: 10}, err, "%q", text)
	}
}
