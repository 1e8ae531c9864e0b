package event_test

// This file tests what the Decoder reads, with one table row for each rule of the
// specification. Its limits, memory, offsets and UTF-8 are tested in files of their own.

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/event"
)

// decodeAll decodes r to its end. It calls setup, if there is one, before the first read.
func decodeAll(t testing.TB, r io.Reader, setup func(*event.Decoder)) []event.Event {
	t.Helper()
	d := event.NewDecoder(r)
	if setup != nil {
		setup(d)
	}
	var events []event.Event
	for ev, err := range d.All() {
		require.NoError(t, err)
		events = append(events, ev)
	}
	return events
}

func showAll(d *event.Decoder) { d.Comments, d.RetryOnly = true, true }

func data(lines ...string) (events []event.Event) {
	for _, line := range lines {
		events = append(events, event.Event{Data: line})
	}
	return events
}

// decodeTests has one row for each rule of §9.2.5 and §9.2.6. Every row is read whole, byte
// by byte, and cut in two at every position.
var decodeTests = []struct {
	name   string
	stream string
	want   []event.Event
	all    bool // return comments and retry-only blocks too
}{
	{name: "nothing"},
	{name: "one event", stream: "data: hello\n\n", want: data("hello")},
	{name: "blank lines are no events", stream: "\n\n\ndata: a\n\n\n\ndata: b\n\n", want: data("a", "b")},
	{name: "lines joined by LF", stream: "data: a\ndata: b\n\n", want: data("a\nb")},
	{name: "other fields between data lines", stream: "data: a\nid: 7\nevent: x\ndata: b\n\n", want: []event.Event{{ID: "7", Name: "x", Data: "a\nb"}}},
	{name: "CR", stream: "data: a\rdata: b\r\rdata: c\r\r", want: data("a\nb", "c")},
	{name: "CRLF", stream: "data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", want: data("a\nb", "c")},
	{name: "line ends mixed", stream: "data: a\rdata: b\ndata: c\r\n\ndata: d\n\rdata: e\r\r\ndata: f\n\r\n", want: data("a\nb\nc", "d", "e", "f")},
	{name: "LF CR is two ends", stream: "data: a\n\rdata: b\n\n", want: data("a", "b")},
	{name: "byte order mark", stream: "\uFEFFdata: a\n\n", want: data("a")},
	{name: "only one, and only at the start", stream: "\uFEFF\uFEFFdata: a\n\ndata: b\n\n\uFEFFdata: c\n\n", want: data("b")},
	{name: "half a byte order mark", stream: "\xEF\xBB\n\ndata: a\n\n", want: data("a")},
	{name: "one leading space dropped", stream: "data:a\n\ndata: a\n\ndata:  a \n\ndata:\ta\n\n", want: data("a", "a", " a ", "\ta")},
	{name: "space before the colon is of the name", stream: "data : a\n\ndata: b\n\n", want: data("b")},
	{name: "names are case-sensitive", stream: "Data: a\nDATA: b\n\ndata: c\n\n", want: data("c")},
	{name: "unknown fields ignored", stream: "dat: 1\ndatas: 2\nx: 3\nevents: 4\nidx: 5\nretryx: 6\ndata: a\n\n", want: data("a")},
	{name: "colons in the value", stream: "data: a:b: c\n\ndata::a\n\n", want: data("a:b: c", ":a")},
	{name: "field without colon", stream: "data\n\ndata\ndata\n\ndata:\n\n", want: data("", "\n", "")},
	{name: "line breaks kept", stream: "data:\ndata: a\ndata:\n\n", want: data("\na\n")},
	{name: "whitespace is no blank line", stream: "data: a\n \ndata: b\n\n", want: data("a\nb")},
	{name: "event name", stream: "event: x\ndata: a\n\ndata: b\n\n", want: []event.Event{{Name: "x", Data: "a"}, {Data: "b"}}},
	{name: "last event name wins", stream: "event: x\nevent: y\ndata: a\n\nevent: x\nevent\ndata: b\n\n", want: []event.Event{{Name: "y", Data: "a"}, {Data: "b"}}},
	{name: "no data, no event, and the name is gone", stream: "event: x\n\ndata: a\n\n", want: data("a")},
	{name: "id is sticky", stream: "id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\n", want: []event.Event{{ID: "1", Data: "a"}, {ID: "1", Data: "b"}, {ID: "2", Data: "c"}}},
	{name: "id of a block without data", stream: "id: 1\n\ndata: a\n\n", want: []event.Event{{ID: "1", Data: "a"}}},
	{name: "empty id resets", stream: "id: 1\ndata: a\n\nid\ndata: b\n\ndata: c\n\n", want: []event.Event{{ID: "1", Data: "a"}, {Data: "b", ResetID: true}, {Data: "c"}}},
	{name: "last id wins", stream: "id: 1\nid: 2\ndata: a\n\n", want: []event.Event{{ID: "2", Data: "a"}}},
	{name: "id with NUL ignored", stream: "id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n", want: []event.Event{{ID: "1", Data: "a"}, {ID: "1", Data: "b"}}},
	{name: "NUL elsewhere kept", stream: "event: \x00\ndata: \x00\n\n", want: []event.Event{{Name: "\x00", Data: "\x00"}}},
	{name: "unterminated block dropped", stream: "data: a\n\ndata: b\n", want: data("a")},
	{name: "unterminated line dropped", stream: "data: a\n\ndata: b", want: data("a")},
	{name: "retry", stream: "retry: 1500\ndata: a\n\n", want: []event.Event{{Data: "a", Retry: 1500 * time.Millisecond}}},
	{name: "retry zero", stream: "retry: 0\ndata: a\n\nretry: 000\ndata: b\n\n", want: []event.Event{{Data: "a", Retry: event.RetryImmediately}, {Data: "b", Retry: event.RetryImmediately}}},
	{name: "retry is digits only", stream: "retry: 1x\nretry: +1\nretry: -1\nretry: 1.5\nretry:  1\nretry: 1 \nretry: ١\nretry:\nretry\ndata: a\n\n", want: data("a")},
	{name: "retry too large", stream: "retry: 99999999999999999999999\ndata: a\n\n", want: []event.Event{{Data: "a", Retry: math.MaxInt64 / time.Millisecond * time.Millisecond}}},
	{name: "comments and retry alone are hidden", stream: ": x\n\nretry: 5\n\n:\n\ndata: a\n: y\n\n", want: data("a")},
	{
		name: "comments asked for", all: true,
		stream: ": one\n:two\n\n:\n\ndata: a\n:  three\nid: 1\n: four\n\n: five",
		want:   []event.Event{{Comment: "one\ntwo"}, {ID: "1", Data: "a", Comment: " three\nfour"}},
	},
	{
		name: "retry asked for", all: true, stream: "id: 3\nretry: 5\n\nretry: x\n\nid: 4\n\n",
		want: []event.Event{{ID: "3", Retry: 5 * time.Millisecond}},
	},
	{name: "text", stream: "data: grüße, 世界 🌍\n\n", want: data("grüße, 世界 🌍")},
	{
		// These are the last three rows of table 3-8 of the Unicode standard, and cases at
		// the end of a line.
		name:   "ill-formed UTF-8, one U+FFFD a maximal subpart",
		stream: "data: \xC0\xAF\xE0\x80\xBF\xF0\x81\x82A\ndata: \xED\xA0\x80\xED\xBF\xBFA\ndata: \xE1\x80\xE2\xF0\x91\x92\xF1\xBFA\ndata: \xF4\x91\x92\x93\xFFA\x80\xBFB\ndata: \xE4\xB8\n\n",
		want:   data(strings.Repeat("\uFFFD", 8) + "A\n" + strings.Repeat("\uFFFD", 6) + "A\n" + strings.Repeat("\uFFFD", 4) + "A\n" + strings.Repeat("\uFFFD", 5) + "A\uFFFD\uFFFDB\n\uFFFD"),
	},
	{
		name: "ill-formed UTF-8 in every field", all: true, stream: "id: \xFF\nevent: \xFF\ndata: \xFF\n: \xFF\n\nd\xFFta: x\n\n",
		want: []event.Event{{ID: "\uFFFD", Name: "\uFFFD", Data: "\uFFFD", Comment: "\uFFFD"}},
	},
}

func TestDecode(t *testing.T) {
	for _, tt := range decodeTests {
		t.Run(tt.name, func(t *testing.T) {
			setup := func(d *event.Decoder) {
				if tt.all {
					showAll(d)
				}
			}
			require.Equal(t, tt.want, decodeAll(t, strings.NewReader(tt.stream), setup), "read whole")
			require.Equal(t, tt.want, decodeAll(t, iotest.OneByteReader(strings.NewReader(tt.stream)), setup), "read byte by byte")
			require.Equal(t, tt.want, decodeAll(t, iotest.DataErrReader(strings.NewReader(tt.stream)), setup), "read with io.EOF")
			for i := range tt.stream {
				r := io.MultiReader(strings.NewReader(tt.stream[:i]), strings.NewReader(tt.stream[i:]))
				require.Equal(t, tt.want, decodeAll(t, r, setup), "cut at byte %d", i)
			}
		})
	}
}

// The decoder returns an event as soon as it has read the blank line, even if that ends
// with a CR whose LF may still arrive.
func TestDecodeAtOnce(t *testing.T) {
	for _, stream := range []string{"data: a\n\n", "data: a\r\r", "data: a\r\n\r", "data: a\n\r"} {
		r, w := io.Pipe()
		got := make(chan event.Event)
		go func() {
			for ev, err := range event.NewDecoder(r).All() {
				assert.NoError(t, err)
				got <- ev
			}
			close(got)
		}()
		_, err := io.WriteString(w, stream)
		require.NoError(t, err)
		require.Equal(t, event.Event{Data: "a"}, <-got, "%q", stream)
		_, err = io.WriteString(w, "\ndata: b\n\n")
		require.NoError(t, err)
		require.Equal(t, event.Event{Data: "b"}, <-got, "%q", stream)
		require.NoError(t, w.Close())
		_, open := <-got
		require.False(t, open)
	}
}

func TestDecodeLastEventID(t *testing.T) {
	d := event.NewDecoder(strings.NewReader("id: 1\ndata: a\n\nid: 2\n\nid: 3\ndata: never ended\n"))
	_, err := d.Decode()
	require.NoError(t, err)
	require.Equal(t, "1", d.LastEventID())
	_, err = d.Decode()
	require.Equal(t, io.EOF, err)
	require.Equal(t, "2", d.LastEventID(), "the id of an unterminated block must be dropped with the block")

	d.Reset(strings.NewReader("\uFEFFdata: b\n\n"), d.LastEventID())
	ev, err := d.Decode()
	require.NoError(t, err)
	require.Equal(t, event.Event{ID: "2", Data: "b"}, ev)
}

func TestDecodeRetryAtItsLine(t *testing.T) {
	d := event.NewDecoder(strings.NewReader("retry: 0\ndata: a\n\nretry: 7\n"))
	_, asked := d.Retry()
	require.False(t, asked)
	_, err := d.Decode()
	require.NoError(t, err)
	retry, asked := d.Retry()
	require.True(t, asked)
	require.Zero(t, retry)
	_, err = d.Decode()
	require.Equal(t, io.EOF, err)
	retry, _ = d.Retry()
	require.Equal(t, 7*time.Millisecond, retry, "the time must take effect before the block ends")
}

func TestDecodeReaderError(t *testing.T) {
	boom := errors.New("boom")
	d := event.NewDecoder(io.MultiReader(strings.NewReader("data: a\n\ndata: b"), iotest.ErrReader(boom)))
	var got []event.Event
	var last error
	for ev, err := range d.All() {
		if last = err; err == nil {
			got = append(got, ev)
		}
	}
	require.Equal(t, data("a"), got)
	require.Equal(t, boom, last)

	_, err := event.NewDecoder(iotest.ErrReader(io.ErrUnexpectedEOF)).Decode()
	require.Equal(t, io.ErrUnexpectedEOF, err, "a broken end must not become io.EOF")
	_, err = event.NewDecoder(stuck{}).Decode()
	require.Equal(t, io.ErrNoProgress, err)
}

// stuck is a reader that returns neither bytes nor an error.
type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

// DecodeRaw and Decode return the same events, and what Decode returns stays valid while
// more is decoded.
func TestDecodeRaw(t *testing.T) {
	var stream bytes.Buffer
	for i := range 500 { // the first has only an ID, and is silent
		_, err := event.Event{ID: strings.Repeat("i", i%7+1), Name: strings.Repeat("n", i%5), Data: strings.Repeat("d\n", i)}.WriteTo(&stream)
		require.NoError(t, err)
	}
	var raws []event.Event
	d := event.NewDecoder(iotest.HalfReader(bytes.NewReader(stream.Bytes())))
	for {
		raw, err := d.DecodeRaw()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		raws = append(raws, raw.Event())
	}
	require.Len(t, raws, 499)
	require.Equal(t, raws, decodeAll(t, &stream, nil))
}
