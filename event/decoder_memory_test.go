package event_test

// This file tests how much memory the Decoder allocates, and that it releases it again.

import (
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/event"
)

// packets reads at most 1500 bytes at a time, as from a socket.
type packets struct{ io.Reader }

func (p packets) Read(b []byte) (int, error) { return p.Reader.Read(b[:min(len(b), 1500)]) }

// After one large event, the decoder releases its memory.
func TestDecodeMemory(t *testing.T) {
	const big = 8 << 20
	stream := "data: " + strings.Repeat("x", big) + "\ndata: y\n\n" + strings.Repeat("data: a\n\n", 10_000)
	d := event.NewDecoder(packets{strings.NewReader(stream)})
	raw, err := d.DecodeRaw()
	require.NoError(t, err)
	require.Len(t, raw.Data, big+2)
	for range 10_000 {
		_, err = d.DecodeRaw()
		require.NoError(t, err)
	}
	require.Less(t, d.Footprint(), 256<<10)
}

// The decoder releases its memory after anything large, no matter which field it was in.
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

// Many small events that follow one large id share a single copy of it.
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

func TestDecodeAllocations(t *testing.T) {
	stream := strings.Repeat("id: 1\nevent: x\ndata: hello\n\n", 2000)
	d := event.NewDecoder(strings.NewReader(stream))
	_, err := d.Decode()
	require.NoError(t, err)
	require.LessOrEqual(t, testing.AllocsPerRun(500, func() { _, err = d.Decode() }), 1.0)
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(500, func() { _, err = d.DecodeRaw() }))
	require.NoError(t, err)
}
