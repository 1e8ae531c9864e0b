package event_test

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/event"
)

// Sequences of up to four bytes at the edges of the table of well-formed UTF-8,
// in one value each: all that can begin one, and all that can go on or break it.
func TestDecodeIllFormed(t *testing.T) {
	var sequences []string
	for _, b := range []byte("A\x7F\x80\xBF\xC0\xC1\xC2\xDF\xE0\xE1\xEC\xED\xEE\xEF\xF0\xF1\xF3\xF4\xF5\xFF") {
		sequences = append(sequences, string([]byte{b}))
	}
	for shorter, n := sequences, 2; n <= 4; n++ {
		var longer []string
		for _, head := range shorter {
			for _, b := range []byte("A\x7F\x80\x8F\x90\x9F\xA0\xBF\xC0\xC2\xE1\xF1") {
				longer = append(longer, head+string([]byte{b}))
			}
		}
		sequences, shorter = append(sequences, longer...), longer
	}
	var stream bytes.Buffer
	for _, sequence := range sequences {
		stream.WriteString("data:" + sequence + "\n\n")
	}
	want := readNaively(stream.Bytes(), false, false).events
	require.Len(t, want, len(sequences))
	got := decodeAll(t, &stream, nil)
	require.Len(t, got, len(want))
	for i := range got {
		if got[i] != want[i] {
			require.Equal(t, want[i], got[i], "%q", sequences[i])
		}
	}
}

// A line without an end is too large, or not, whether the reader says io.EOF with
// its last bytes or after them.
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

// A byte order mark is of no line, also while it is only half there.
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

// No large thing of the past is paid for for ever, whatever it was.
func TestDecodeMemoryOfEveryField(t *testing.T) {
	const big = 2 << 20
	many := func(s string) string { return strings.Repeat(s, 10_000) }
	allFields := many("data: y\n\n") + many("id: 1\nevent: x\ndata: a\n: c\n\n")
	for name, stream := range map[string]string{
		"data":                "data: " + strings.Repeat("x", big) + "\n\n" + allFields,
		"name":                "event: " + strings.Repeat("x", big) + "\ndata\n\n" + allFields,
		"id":                  "id: " + strings.Repeat("x", big) + "\ndata\n\n" + allFields,
		"id, one small after": "id: " + strings.Repeat("x", big) + "\n\n" + many("data\n\n") + "id: 1\n\n" + many("data\n\n"),
		"comment":             ": " + strings.Repeat("x", big) + "\n\n" + allFields,
		"unknown field":       strings.Repeat("x", big) + "\n\n" + allFields,
		"ill-formed UTF-8":    "data: " + strings.Repeat("\xFF", big) + "\n\n" + allFields,
		"many lines":          strings.Repeat("data: x\n", big/8) + "\n" + allFields,
		"many lines of CR":    strings.Repeat("data: x\r", big/8) + "\r" + allFields,
		"block without event": "event: " + strings.Repeat("x", big) + "\n\n" + allFields,
	} {
		t.Run(name, func(t *testing.T) {
			d := event.NewDecoder(packets{strings.NewReader(stream)})
			showAll(d)
			n := 0
			for {
				_, err := d.DecodeRaw()
				if err == io.EOF {
					break
				}
				require.NoError(t, err)
				n++
			}
			require.GreaterOrEqual(t, n, 20_000)
			require.Less(t, d.Footprint(), 256<<10)
		})
	}
}

// One large id followed by many small events must not be multiplied by them.
func TestDecodeSharesAnIDThatStays(t *testing.T) {
	id := strings.Repeat("i", 1<<20)
	d := event.NewDecoder(strings.NewReader("id: " + id + "\ndata: first\n\n" + strings.Repeat("data: x\n\n", 1000) + "id: 2\ndata: y\n\n"))
	_, err := d.Decode()
	require.NoError(t, err)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 1000 {
		ev, err := d.Decode()
		require.NoError(t, err)
		require.Len(t, ev.ID, len(id))
	}
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(3*len(id)))
	ev, err := d.Decode()
	require.NoError(t, err)
	require.Equal(t, event.Event{ID: "2", Data: "y"}, ev)
}

// The bound holds for all fields of an event together, whichever of them is the last.
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
