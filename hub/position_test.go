package hub

import (
	"encoding"
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

var (
	_ encoding.TextAppender    = Position{}
	_ encoding.TextMarshaler   = Position{}
	_ encoding.TextUnmarshaler = (*Position)(nil)
)

var positionTests = []struct {
	text string
	pos  Position
}{
	{"0-0", Position{}},
	{"0-1", Position{0, 1}},
	{"z-10", Position{35, 10}},
	{"10-9", Position{36, 9}},
	{"k3f9x2ab-1024", Position{1574737280723, 1024}},
	{"3w5e11264sgsf-18446744073709551615", Position{math.MaxUint64, math.MaxUint64}},
}

func TestPositionText(t *testing.T) {
	for _, tt := range positionTests {
		assert.Equal(t, tt.text, tt.pos.String())
		pos, err := ParsePosition(tt.text)
		require.NoError(t, err, tt.text)
		assert.Equal(t, tt.pos, pos, tt.text)

		text, err := tt.pos.AppendText([]byte("x"))
		require.NoError(t, err)
		assert.Equal(t, "x"+tt.text, string(text))

		object, err := json.Marshal(map[Position]Position{tt.pos: tt.pos})
		require.NoError(t, err)
		assert.JSONEq(t, `{"`+tt.text+`":"`+tt.text+`"}`, string(object))
		back := make(map[Position]Position)
		require.NoError(t, json.Unmarshal(object, &back))
		assert.Equal(t, map[Position]Position{tt.pos: tt.pos}, back)
		assert.Equal(t, tt.text == "0-0", tt.pos.IsZero())
	}
}

// A second spelling of a position would be an id that looks like none.
func TestPositionCanonical(t *testing.T) {
	for _, text := range []string{
		"", "-", "0", "0-", "-0", "a", "a1", "1-2-3", "1--2", "--", "a-b", "a-1b", "a-1 ", " a-1", "a -1", "a- 1",
		"A-1", "aB-1", "00-1", "0a-1", "a-00", "a-01", "+a-1", "a-+1", "-a-1", "a--1", "a_b-1", "a-1_0", "0x1-1", "a-0x1",
		"é-1", "a-١", "a-1\n", "a-1\x00", "3w5e11264sgsg-1", "a-18446744073709551616", "a-1.0", "a-1e3", "a–1",
	} {
		pos, err := ParsePosition(text)
		require.Error(t, err, text)
		assert.True(t, strings.HasPrefix(err.Error(), "hub: "), err)
		assert.Equal(t, Position{}, pos, text)
		p := Position{1, 1}
		require.Error(t, p.UnmarshalText([]byte(text)), text)
	}
}

func TestEpoch(t *testing.T) {
	seen := make(map[uint64]bool)
	for range 1000 {
		epoch := newEpoch()
		seen[epoch] = true
		text := Position{Epoch: epoch}.String()
		require.Len(t, text, len("k3f9x2ab-0"), text)
	}
	assert.Len(t, seen, 1000)
}

func FuzzParsePosition(f *testing.F) {
	for _, tt := range positionTests {
		f.Add(tt.text)
	}
	for _, text := range []string{"", "-", "A-1", "00-1", "a-01", "a--1", "+a-1", "a_b-1", "3w5e11264sgsg-1", "a-1\n", "\xff-1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		pos, err := ParsePosition(text)
		if err != nil {
			require.Equal(t, Position{}, pos)
			return
		}
		require.Equal(t, text, pos.String())
		var back Position
		require.NoError(t, back.UnmarshalText([]byte(text)))
		require.Equal(t, pos, back)
		require.NotContains(t, text, "\n")
	})
}

// Whatever a client comes with, it gets all behind it, or a gap with a reason.
// EPOCH stands for the hub's.
func FuzzServeLastEventID(f *testing.F) {
	for _, id := range []string{
		"", "EPOCH-0", "EPOCH-11", "EPOCH-12", "EPOCH-13", "EPOCH-19", "EPOCH-20", "EPOCH-21", "EPOCH-020", "EPOCH",
		"EPOCH-18446744073709551615", "EPOCH-18446744073709551616", "0-0", "0-20", "zzzzzzzz-20", "ZZZZZZZZ-20",
		"own 1", "own 18", "own 19", "own 21", "own 19 ", "OWN 18", "\x00", "a\nid: b", "é", "\xff\xfe", "42", "-", "null", strings.Repeat("9", 4000),
	} {
		f.Add(id, false)
		f.Add(id, true)
	}
	f.Fuzz(func(t *testing.T, id string, inQuery bool) {
		synctest.Test(t, func(t *testing.T) { serveLastEventID(t, id, inQuery) })
	})
}

func serveLastEventID(t *testing.T, id string, inQuery bool) {
	t.Helper()
	const events, kept = 20, 8
	h := newLogHub(t, Config{LogEvents: kept})
	epoch, _, _ := strings.Cut(h.Position().String(), "-")
	id = strings.ReplaceAll(id, "EPOCH", epoch)
	ids := map[string]int{"": events}
	for i := range events {
		e := sse.Event{Data: "x"}
		if i%3 == 0 {
			e.ID = "own " + itoa(i) // the event at i+1
		}
		h.publish("ab"[i%2:i%2+1], e)
		if e.ID != "" && i >= events-kept {
			ids[e.ID] = i + 1
		}
	}
	want, gap := events, GapReason("")
	pos, err := ParsePosition(id)
	from, own := ids[id]
	switch {
	case inQuery && strings.ContainsFunc(id, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }): // is none
	case own:
		want = from
	case err != nil:
		gap = GapMalformed
	case pos.Epoch != h.epoch:
		gap = GapEpoch
	case pos.Offset > events:
		gap = GapAhead
	case pos.Offset < events-kept-1: // event 11, of topic a, is gone, and 12 is not of it
		gap, want = GapExpired, events-kept-1
	default:
		want = int(pos.Offset)
	}

	s := h.serve(Subscription{Topics: []string{"a"}}, func(r *http.Request) {
		if inQuery {
			r.URL.RawQuery = url.Values{"lastEventId": {id}}.Encode()
		} else {
			r.Header.Set("Last-Event-ID", id)
		}
	})
	got := s.events()
	require.Equal(t, string(gap), s.w.header.Get(GapHeader), "%q", id)
	if gap != "" {
		require.NotEmpty(t, got)
		require.Equal(t, GapEvent, got[0].Name)
		var g Gap
		require.NoError(t, json.Unmarshal([]byte(got[0].Data), &g))
		require.Equal(t, Gap{Reason: gap, LastEventID: asJSON(t, id), Position: Position{h.epoch, uint64(want)}}, g)
		require.Equal(t, g.Position.String(), got[0].ID)
		got = got[1:]
	}
	var offsets []int
	for _, e := range got {
		p, err := ParsePosition(e.ID)
		if err != nil {
			p.Offset = uint64(ids[e.ID])
		}
		offsets = append(offsets, int(p.Offset))
	}
	var wanted []int
	for offset := want + 1; offset <= events; offset++ {
		if offset%2 == 1 {
			wanted = append(wanted, offset)
		}
	}
	require.Equal(t, wanted, offsets, "%q", id)
}

// asJSON returns what is left of text in JSON, which is UTF-8.
func asJSON(t *testing.T, text string) (back string) {
	t.Helper()
	data, err := json.Marshal(text)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &back))
	return back
}
