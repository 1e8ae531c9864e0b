package hub

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// Whatever last event id a client sends, it gets every event after it, or it is told of a
// gap. EPOCH stands for the hub's epoch.
func FuzzServeLastEventID(f *testing.F) {
	for _, id := range []string{
		"", "EPOCH-0", "EPOCH-11", "EPOCH-12", "EPOCH-13", "EPOCH-19", "EPOCH-20", "EPOCH-21", "EPOCH-020", "EPOCH",
		"EPOCH-18446744073709551615", "EPOCH-18446744073709551616", "0-0", "0-20", "zzzzzzzz-20", "ZZZZZZZZ-20",
		"own 0", "own 1", "own 8", "own 9", "own 10", "own 11", "own 12", "own 18", "own 19", "own 21", "own 18 ", "OWN 18", "\x00", "a\nid: b", "é", "\xff\xfe", "42", "-", "null", strings.Repeat("9", 4000),
	} {
		f.Add(id, false)
		f.Add(id, true)
	}
	f.Fuzz(func(t *testing.T, id string, inQuery bool) {
		for _, ownIDs := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) { serveLastEventID(t, id, inQuery, ownIDs) })
		}
	})
}

func serveLastEventID(t *testing.T, id string, inQuery, ownIDs bool) {
	t.Helper()
	const events, kept = 20, 8
	h := newLogHub(t, Config{LogEvents: kept, OwnIDs: ownIDs})
	epoch, _, _ := strings.Cut(h.Position().String(), "-")
	id = strings.ReplaceAll(id, "EPOCH", epoch)
	ids := map[string]int{"": events}
	for i := range events {
		e := sse.Event{Data: "x"}
		if ownIDs {
			e.ID = "own " + itoa(i) // of the event at offset i+1
		}
		h.publish("ab"[i%2:i%2+1], e)
		if ownIDs && i >= events-kept-2 && i%2 == 0 { // the last that topic a has evicted, and those in the log
			ids[e.ID] = i + 1
		}
	}
	want, gap := events, GapReason("")
	pos, err := ParsePosition(id)
	from, own := ids[id]
	switch {
	case inQuery && strings.ContainsFunc(id, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }): // such a query parameter is ignored
	case own:
		want = from
	case ownIDs:
		gap = GapMalformed
	case err != nil:
		gap = GapMalformed
	case pos.Epoch != h.spans.last().epoch:
		gap = GapEpoch
	case pos.Offset > events:
		gap = GapAhead
	case pos.Offset < events-kept-1: // topic a has lost event 11; 12 is of topic b
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
		if ownIDs {
			require.Equal(t, Gap{Reason: gap, LastEventID: asJSON(t, id)}, g)
			require.NotContains(t, s.w.body.String(), "\nid: ")
		} else {
			require.Equal(t, Gap{Reason: gap, LastEventID: asJSON(t, id), Position: Position{h.spans.last().epoch, uint64(want)}}, g)
			require.Equal(t, g.Position.String(), got[0].ID)
		}
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

// asJSON returns text as it is after encoding to JSON and back, which makes it UTF-8.
func asJSON(t *testing.T, text string) (back string) {
	t.Helper()
	data, err := json.Marshal(text)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &back))
	return back
}

// A member with many topics finds a place in a log that loses events all the time, although
// each look at all of its topics takes longer than the time between two of these events.
func TestSeekWhileEventsLeaveTheLog(t *testing.T) {
	h, topics := quietHub(t, Config{}), topicNames(50_000)
	publish := func(i int) { publishTo(t, h, topics[i*7919%len(topics)]) }
	for i := range 2 * DefaultLogEvents {
		publish(i)
	}
	m := openMember(t, h, new(readerSession), Subscription{Topics: topics})
	found := make(chan uint64, 1)
	go func() { found <- m.seekFrom(0) }()
	for i, deadline := 0, time.Now().Add(time.Minute); len(found) == 0; i++ {
		publish(i)
		require.True(t, i%1000 > 0 || time.Now().Before(deadline), "it is still looking")
	}
	at := <-found
	require.Equal(t, at, m.cursor.Load())
	require.Positive(t, at)
}
