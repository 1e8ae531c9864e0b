package event_test

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/event"
)

// The measure must itself be right.
func TestNaiveReader(t *testing.T) {
	for _, tt := range decodeTests {
		require.Equal(t, tt.want, readNaively([]byte(tt.stream), tt.all, tt.all).events, tt.name)
	}
}

// Whatever is put into an event, it is either refused with good cause, or read
// back as that event and nothing else: no other event, id or retry.
func FuzzEncode(f *testing.F) {
	f.Add("", "", "", "", int64(0), false)
	f.Add("1", "name", "data", "comment", int64(time.Second), false)
	f.Add("", "", "a\nb\rc\r\nd\n\re\r\r\n", "\r\n\r", int64(-1), true)
	f.Add("é", "\uFFFD", "\uFEFF世界\n\x00", "🌍", int64(1_999_999), false)
	f.Add("1", "", "", "", int64(0), true)
	f.Add("1\nretry: 0", "x\n\ndata: forged", "id: 1\n\n", "\ndata: x", int64(-2), false)
	f.Add(" 1", "\x00", "", "", int64(999_999), false)
	f.Add("1\t", " ", " ", " ", int64(1_000_000), false)
	for _, bad := range ill {
		f.Add("", "", strings.Repeat("x", 60)+bad+"y", "", int64(0), false)
		f.Add("1", "x"+bad, "", "ü"+bad, int64(0), false)
	}

	f.Fuzz(func(t *testing.T, id, name, data, comment string, retry int64, reset bool) {
		e := event.Event{ID: id, Name: name, Data: data, Comment: comment, Retry: time.Duration(retry), ResetID: reset}
		dst := []byte("dst")

		loud := data != "" || name != "" || e == event.Event{}

		got, err := e.AppendText(dst)
		requireSound(t, e, err)
		if err != nil {
			requireUnchanged(t, "dst", dst, got)
		} else {
			requireReads(t, e, loud, string(got[len(dst):]))
		}

		with, errWith := event.AppendWith(dst, e, appending(e.Data))
		require.Equal(t, err, errWith, "AppendWith refuses what AppendText does")
		if err != nil {
			requireUnchanged(t, "dst", dst, with)
		} else {
			requireReads(t, e, true, string(with[len(dst):]))
			if loud {
				require.Equal(t, string(got), string(with))
			}
		}

		got, err = event.AppendComment(dst, comment)
		requireSound(t, event.Event{Comment: comment}, err)
		if err != nil {
			requireUnchanged(t, "dst", dst, got)
		} else {
			requireReads(t, event.Event{Comment: comment}, false, string(got[len(dst):]))
		}
	})
}

// requireSound asserts that err is a FieldError that finds a fault where there is
// one, or nil where there is none.
func requireSound(t testing.TB, e event.Event, err error) {
	t.Helper()
	isHeaderControl := func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7F }
	if err == nil {
		require.True(t, utf8.ValidString(e.ID) && utf8.ValidString(e.Name) && utf8.ValidString(e.Data) && utf8.ValidString(e.Comment))
		require.NotContains(t, e.Name, "\n")
		require.NotContains(t, e.Name, "\r")
		require.NotContains(t, e.Name, "\x00")
		require.False(t, strings.ContainsFunc(e.ID, isHeaderControl))
		require.Equal(t, strings.Trim(e.ID, " \t"), e.ID)
		require.False(t, e.ID != "" && e.ResetID)
		require.True(t, e.Retry == 0 || e.Retry == event.RetryImmediately || e.Retry >= time.Millisecond)
		return
	}

	var fault *event.FieldError
	require.ErrorAs(t, err, &fault)
	require.NotEmpty(t, fault.Reason)
	if fault.Offset < 0 {
		require.Equal(t, -1, fault.Offset)
		switch fault.Field {
		case "ID":
			require.True(t, e.ID != "" && e.ResetID)
		case "Retry":
			require.True(t, e.Retry < 0 && e.Retry != event.RetryImmediately || e.Retry > 0 && e.Retry < time.Millisecond)
		default:
			require.Fail(t, "refused as a whole", "%v", fault)
		}
		return
	}
	value, ok := map[string]string{"ID": e.ID, "Name": e.Name, "Data": e.Data, "Comment": e.Comment}[fault.Field]
	require.True(t, ok, "%v", fault)
	require.Less(t, fault.Offset, len(value), "%v", fault)
	c := value[fault.Offset]
	atEnd := fault.Offset == 0 || fault.Offset == len(value)-1
	r, size := utf8.DecodeRuneInString(value[fault.Offset:])
	switch {
	case fault.Field == "ID" && isHeaderControl(rune(c)):
	case fault.Field == "ID" && atEnd && (c == ' ' || c == '\t'):
	case fault.Field == "Name" && (c == '\n' || c == '\r' || c == 0):
	case r == utf8.RuneError && size == 1 && utf8.ValidString(value[:fault.Offset]):
	default:
		require.Fail(t, "refused without cause", "%v in %q", fault, value)
	}
}

// requireReads asserts that a client understands frame as e, which it dispatches
// as an event if loud, and that what stands before and after is none of its
// business.
func requireReads(t testing.TB, e event.Event, loud bool, frame string) {
	t.Helper()
	lineEnds := strings.NewReplacer("\r\n", "\n", "\r", "\n")
	want := e
	want.Data, want.Comment = lineEnds.Replace(e.Data), ""
	if e.Retry > 0 {
		want.Retry -= e.Retry % time.Millisecond
	}
	// These would change what stands around the frame, so it stands in between.
	const before, after = "id: before\nretry: 4321\ndata: before\n\n", "data: after\n\n"
	lastID := e.ID
	if e.ID == "" && !e.ResetID {
		lastID = "before"
	}
	want.ID = lastID
	retry := max(0, want.Retry)
	if e.Retry == 0 {
		retry = 4321 * time.Millisecond
	}
	stream := func(frames ...event.Event) []event.Event {
		events := []event.Event{{ID: "before", Data: "before", Retry: 4321 * time.Millisecond}}
		events = append(events, frames...)
		return append(events, event.Event{ID: lastID, Data: "after"})
	}

	got := readNaively([]byte(before+frame+frame+after), false, false)
	if loud {
		require.Equal(t, stream(want, want), got.events, "%q", frame)
	} else {
		require.Equal(t, stream(), got.events, "%q", frame)
	}
	require.Equal(t, lastID, got.lastEventID, "%q", frame)
	require.Equal(t, retry, got.reconnectionTime, "%q", frame)

	// Its comments, if one looks at them, are as they were set.
	got = readNaively([]byte(before+frame+after), true, true)
	want.Comment = lineEnds.Replace(e.Comment)
	switch {
	case loud, e.Retry != 0, e.Comment != "": // an empty comment has nothing to show
		require.Equal(t, stream(want), got.events, "%q", frame)
	default:
		require.Equal(t, stream(), got.events, "%q", frame)
	}
}

// chunked reads text in chunks as long as cuts says, over and over; a zero is a
// Read of nothing, and a large number stands for many bytes.
type chunked struct {
	text, cuts []byte
	eof        bool // comes together with the last bytes
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
			n = 1 // a reader must not be idle for ever
		}
	}
	n = copy(p, c.text[:min(n, len(c.text))])
	c.text, c.idle = c.text[n:], n == 0
	if c.eof && len(c.text) == 0 {
		err = io.EOF
	}
	return n, err
}

// stretch lengthens the first value in stream, so that a short input of a fuzz
// test can reach across the buffers.
func stretch(stream []byte, by uint16) []byte {
	return bytes.Replace(stream, []byte(" "), append([]byte(" "), bytes.Repeat([]byte("x"), int(by)%10_000)...), 1)
}

// oddStreams are what the fuzz tests of the Decoder begin with, beside the table
// of TestDecode.
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

// However a stream is cut, the Decoder reads it as the specification says.
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

			// A new stream, with the state of the one before it and the same buffers.
			want.events = nil
			want.read(stream)
			d.Reset(newReader(), d.LastEventID())
			require.Equal(t, want.events, drain(t, d, decodeRaw))
			requireSameState(t, want, d)

			// And one while the other is half read.
			d.Reset(newReader(), "x")
			_, _ = d.Decode()
			want = &naiveReader{comments: show.comments, retryOnly: show.retryOnly, lastEventID: "y"}
			want.read(stream)
			d.Reset(newReader(), "y")
			require.Equal(t, want.events, drain(t, d, decodeRaw))
		}
	})
}

// decodeRaw is Decode by way of DecodeRaw.
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

// drain reads d to the end of its stream.
func drain(t testing.TB, d *event.Decoder, decode func(*event.Decoder) (event.Event, error)) (events []event.Event) {
	t.Helper()
	for {
		ev, err := decode(d)
		if err == io.EOF {
			_, err = decode(d)
			require.Equal(t, io.EOF, err, "the end is final")
			return events
		}
		require.NoError(t, err)
		require.Equal(t, ev.ID, d.LastEventID(), "the last id as of this event")
		events = append(events, ev)
	}
}

func requireSameState(t testing.TB, want *naiveReader, d *event.Decoder) {
	t.Helper()
	require.Equal(t, want.lastEventID, d.LastEventID())
	retry, asked := d.Retry()
	require.Equal(t, want.asked, asked)
	require.Equal(t, want.reconnectionTime, retry)
}

// What the bounds let through is the same however the stream is cut, and is what
// it would be without them.
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
		// From two bytes on: that much of a byte order mark may wait for its third.
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
					require.Equal(t, err, again, "the error is final")
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
		}), "an event too large")
		unbounded := readNaively(stream, true, true).events
		if whole.tooLarge == nil {
			require.False(t, hasLongLine, "a line too long")
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

// outcome is all that a user sees of a bounded stream.
type outcome struct {
	events      []event.Event
	tooLarge    *event.TooLargeError
	lastEventID string
	retry       time.Duration
	asked       bool
}
