package event_test

// This file fuzzes the Decoder. It compares what the Decoder reads with what the naive
// reader reads.

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/event"
)

// FuzzDecode decodes an arbitrary stream in arbitrary reads. The Decoder must read it as
// the specification says.
func FuzzDecode(f *testing.F) {
	for _, tt := range decodeTests {
		f.Add([]byte(tt.stream), []byte{1}, uint16(0), false)
	}
	for i, stream := range oddStreams {
		f.Add([]byte(stream), []byte{byte(i), 3, 0, 201}, uint16(4090+i), i%2 == 0)
	}

	f.Fuzz(func(t *testing.T, stream, cuts []byte, by uint16, eof bool) {
		stream = stretch(stream, by)
		newReader := func() io.Reader { return &chunked{text: stream, cuts: cuts, eof: eof} }
		for _, show := range []struct{ comments, retryOnly bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
			want := readNaively(stream, show.comments, show.retryOnly)
			d := event.NewDecoder(newReader())
			d.Comments, d.RetryOnly = show.comments, show.retryOnly
			require.Equal(t, want.events, drain(t, d, (*event.Decoder).Decode))
			requireSameState(t, want, d)

			// Decode a new stream, with the state that the first one left and the same buffers.
			want.events = nil
			want.read(stream)
			d.Reset(newReader(), d.LastEventID())
			require.Equal(t, want.events, drain(t, d, decodeRaw))
			requireSameState(t, want, d)

			// Start a new stream while the one before is half read.
			d.Reset(newReader(), "x")
			_, _ = d.Decode()
			want = &naiveReader{comments: show.comments, retryOnly: show.retryOnly, lastEventID: "y"}
			want.read(stream)
			d.Reset(newReader(), "y")
			require.Equal(t, want.events, drain(t, d, decodeRaw))
		}
	})
}

// FuzzDecodeBounds decodes an arbitrary stream with arbitrary limits. The result must not
// depend on how the reads divide the stream, and up to the first TooLargeError it must be
// the same as without limits.
func FuzzDecodeBounds(f *testing.F) {
	for i, tt := range decodeTests {
		f.Add([]byte(tt.stream), []byte{2, 1}, uint16(0), uint16(i), uint16(i), false)
	}
	for i, stream := range oddStreams {
		f.Add([]byte(stream), []byte{7}, uint16(0), uint16(70), uint16(20), false)
		f.Add([]byte(stream), []byte{203}, uint16(4090+i), uint16(4096), uint16(4000), false)
	}

	f.Fuzz(func(t *testing.T, stream, cuts []byte, by, maxLine, maxEvent uint16, eof bool) {
		stream = stretch(stream, by)
		// The limits start at two bytes, because two bytes of a byte order mark may be waiting
		// for the third.
		lineBound, eventBound := int(maxLine)%9000+2, int(maxEvent)%9000+1
		decode := func(r io.Reader) outcome {
			d := event.NewDecoder(r)
			d.MaxLineSize, d.MaxEventSize = lineBound, eventBound
			showAll(d)
			var o outcome
			for ev, err := range d.All() {
				if err != nil {
					require.ErrorAs(t, err, &o.tooLarge)
					_, again := d.Decode()
					require.Equal(t, err, again, "the error must be final")
					break
				}
				o.events = append(o.events, ev)
			}
			o.lastEventID = d.LastEventID()
			o.retry, o.asked = d.Retry()
			return o
		}

		whole := decode(bytes.NewReader(stream))
		require.Equal(t, whole, decode(&chunked{text: stream, cuts: cuts}), "in chunks")
		require.Equal(t, whole, decode(&chunked{text: stream, cuts: []byte{1}, eof: eof}), "byte by byte")
		require.Equal(t, whole, decode(&chunked{text: stream, cuts: cuts, eof: true}), "in chunks, io.EOF with the last")

		lines := bytes.FieldsFunc(bytes.TrimPrefix(stream, []byte("\uFEFF")), func(r rune) bool { return r == '\n' || r == '\r' })
		hasLongLine := slices.ContainsFunc(lines, func(line []byte) bool { return len(line) > lineBound })
		require.False(t, slices.ContainsFunc(whole.events, func(ev event.Event) bool {
			return len(ev.Name)+len(ev.Data)+len(ev.Comment) > eventBound
		}), "the decoder returned an event that exceeds the limit")
		unbounded := readNaively(stream, true, true).events
		if whole.tooLarge == nil {
			require.False(t, hasLongLine, "the decoder accepted a line that exceeds the limit")
			require.Equal(t, unbounded, whole.events)
			return
		}
		require.Equal(t, append([]event.Event(nil), unbounded[:len(whole.events)]...), whole.events)
		if whole.tooLarge.What == "line" {
			require.True(t, hasLongLine)
			require.Equal(t, lineBound, whole.tooLarge.Limit)
		} else {
			require.Equal(t, eventBound, whole.tooLarge.Limit)
		}
	})
}

// outcome is everything that a user can observe of a decoded stream.
type outcome struct {
	events      []event.Event
	tooLarge    *event.TooLargeError
	lastEventID string
	retry       time.Duration
	asked       bool
}

// chunked reads text in chunks. The bytes of cuts are the lengths of the chunks, and are
// repeated as needed. A zero is a Read of nothing, and a number above 200 is a long chunk.
type chunked struct {
	text, cuts []byte
	eof        bool // return io.EOF together with the last bytes
	i          int
	idle       bool
}

func (c *chunked) Read(p []byte) (n int, err error) {
	if len(c.text) == 0 {
		return 0, io.EOF
	}
	n = len(c.text)
	if len(c.cuts) > 0 {
		n = int(c.cuts[c.i%len(c.cuts)])
		c.i++
		if n > 200 {
			n = (n - 200) * 150
		} else if n == 0 && c.idle {
			n = 1 // a reader must not return nothing forever
		}
	}
	n = copy(p, c.text[:min(n, len(c.text))])
	c.text, c.idle = c.text[n:], n == 0
	if c.eof && len(c.text) == 0 {
		err = io.EOF
	}
	return n, err
}

// stretch lengthens the first value in stream, so that a short fuzz input can exceed the
// buffer.
func stretch(stream []byte, by uint16) []byte {
	return bytes.Replace(stream, []byte(" "), append([]byte(" "), bytes.Repeat([]byte("x"), int(by)%10_000)...), 1)
}

// oddStreams are seeds for the Decoder's fuzz tests, in addition to the table of TestDecode.
var oddStreams = []string{
	"\uFEFF",
	"\uFEFF\n\n",
	"\xEF\xBBdata: a\n\n",
	"\xEF",
	"\r",
	"\r\n\r\n\r\n",
	"data\r\rdata\r\n\rdata\n\r\ndata\n\n",
	"id\x00: 1\nid: \x00\nid:\ndata:\x00\n\n",
	"id: 1\nid:2\nid\nid: \xE2\x82\nretry: 00\nretry:1\nretry: 9223372036855\n: \xF0\x9F\x8C\n\ndata: \xF0\x9F\x8C\x8D\ndata\xFF\n\n",
	"data: " + strings.Repeat("x", 57) + "\xC3\ndata: " + strings.Repeat("ü", 29) + "\xBC\n\n",
	strings.Repeat("data: ü\r\n\r\n", 40),
	strings.Repeat(": \n", 20) + "\n" + strings.Repeat("retry: 1\n\n", 9),
}

// decodeRaw does the same as Decode, but calls DecodeRaw.
func decodeRaw(d *event.Decoder) (event.Event, error) {
	raw, err := d.DecodeRaw()
	if err != nil {
		return event.Event{}, err
	}
	return event.Event{
		ID: string(raw.ID), Name: string(raw.Name), Data: string(raw.Data), Comment: string(raw.Comment),
		Retry: raw.Retry, ResetID: raw.ResetID,
	}, nil
}

// drain decodes d's stream to its end.
func drain(t testing.TB, d *event.Decoder, decode func(*event.Decoder) (event.Event, error)) (events []event.Event) {
	t.Helper()
	for {
		ev, err := decode(d)
		if err == io.EOF {
			_, err = decode(d)
			require.Equal(t, io.EOF, err, "the end must be final")
			return events
		}
		require.NoError(t, err)
		require.Equal(t, ev.ID, d.LastEventID(), "LastEventID must be the event's id")
		events = append(events, ev)
	}
}

// requireSameState asserts that d has the last event id and reconnection time of want.
func requireSameState(t testing.TB, want *naiveReader, d *event.Decoder) {
	t.Helper()
	require.Equal(t, want.lastEventID, d.LastEventID())
	retry, asked := d.Retry()
	require.Equal(t, want.asked, asked)
	require.Equal(t, want.reconnectionTime, retry)
}
