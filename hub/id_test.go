package hub

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// goldenID is the id of the position k3f9x2ab-1024 with testIDKey, as openssl makes it.
const goldenID = "dBr8ZsW-IQPwZioCfhRTFg"

var testIDKey = []byte("sixteen byte key")

func TestIDKeyThatIsInvalid(t *testing.T) {
	for n := range 40 {
		_, err := New(Config{IDKey: make([]byte, n)})
		switch n {
		case 16, 24, 32:
			require.NoError(t, err, n)
		default: // also 0, which may be a variable of the environment that is not set
			require.EqualError(t, err, fmt.Sprintf("hub: Config.IDKey has %d bytes; it must have 16, 24 or 32, or be nil", n))
		}
	}
	_, err := New(Config{IDKey: testIDKey, OwnIDs: true})
	require.EqualError(t, err, "hub: Config.IDKey must be nil with Config.OwnIDs: the ids are the application's")
}

func TestID(t *testing.T) {
	for name, key := range map[string][]byte{"AES-128": testIDKey, "AES-192": make([]byte, 24), "AES-256": make([]byte, 32)} {
		h := quietHub(t, Config{IDKey: bytes.Clone(key)})
		seen := make(map[string]bool)
		for _, epoch := range []uint64{0, 1, h.Position().Epoch, 1<<64 - 1} {
			for _, offset := range []uint64{0, 1, 2, 3, 1 << 32, 1<<64 - 1} {
				pos := Position{epoch, offset}
				id := h.ID(pos)
				require.Len(t, id, opaqueLen)
				require.Regexp(t, "^[A-Za-z0-9_-]+$", id)
				require.False(t, seen[id])
				seen[id] = true
				back, err := h.ParseID(id)
				require.NoError(t, err)
				require.Equal(t, pos, back, name)
			}
		}
	}

	// The form is for good: clients keep ids, and nodes of two versions share a log.
	h := quietHub(t, Config{IDKey: testIDKey})
	require.Equal(t, goldenID, h.ID(Position{1574737280723, 1024}))

	plain, own := quietHub(t, Config{}), quietHub(t, Config{OwnIDs: true})
	require.Equal(t, "k3f9x2ab-1024", plain.ID(Position{1574737280723, 1024}))
	pos, err := plain.ParseID("k3f9x2ab-1024")
	require.NoError(t, err)
	require.Equal(t, Position{1574737280723, 1024}, pos)
	require.Empty(t, own.ID(Position{1, 1}))
	_, err = own.ParseID("k3f9x2ab-1024")
	require.EqualError(t, err, "hub: with Config.OwnIDs, an id is no position")
}

// The caller may use the bytes of the key again.
func TestIDKeyIsCopied(t *testing.T) {
	key := bytes.Clone(testIDKey)
	h := quietHub(t, Config{IDKey: key})
	id := h.ID(Position{1, 2})
	clear(key)
	require.Equal(t, id, h.ID(Position{1, 2}))
	require.Nil(t, h.cfg.IDKey)
}

// An id has one spelling.
func TestParseIDRefusesOtherTexts(t *testing.T) {
	h := quietHub(t, Config{IDKey: testIDKey})
	id := h.ID(Position{1, 2})
	last := id[opaqueLen-1]
	for _, text := range []string{
		"", "k3f9x2ab-1024", id[1:], id + "A", id + "=", id + "==", " " + id, id + "\n", id[:20] + "\n" + id[20:21], id[:20] + "\n\n", id[:20] + "\r\n",
		strings.Repeat("=", opaqueLen), strings.Repeat("+", opaqueLen), strings.Repeat("/", opaqueLen), strings.Repeat("é", opaqueLen/2),
		id[:opaqueLen-1] + string(last+1), // it has other bits after the last byte
		strings.Repeat("x", 1<<20),
	} {
		_, err := h.ParseID(text)
		require.Error(t, err, "%.40q", text)
		require.True(t, strings.HasPrefix(err.Error(), "hub: "), err)
		require.Less(t, len(err.Error()), 200)
	}
}

func FuzzParseID(f *testing.F) {
	for _, text := range []string{goldenID, "", "k3f9x2ab-1024", strings.Repeat("A", opaqueLen), strings.Repeat("A", opaqueLen-1) + "B", strings.Repeat("_", 20) + "\r\n"} {
		f.Add(text)
	}
	h, err := New(Config{IDKey: testIDKey})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, text string) {
		pos, err := h.ParseID(text)
		if err != nil {
			require.Equal(t, Position{}, pos)
			return
		}
		require.Equal(t, text, h.ID(pos))
		require.Regexp(t, "^[A-Za-z0-9_-]+$", text) // so it is valid in a header and in an event
	})
}

// No byte that a client is sent tells a position, whatever it is sent: events with all their fields,
// an id alone, a gap of each kind, a snapshot, a heartbeat and a catching up. The ids are those of
// the positions all the same.
func TestIDKeyHidesPositions(t *testing.T) {
	type request struct {
		id  string
		sub Subscription
	}
	snapshot := func(s *sse.ServerSession, at Position) (Position, error) { return at, s.SendData("state") }
	for name, tt := range map[string]struct {
		gap     GapReason
		request func(h *logHub) request
		ids     []int // offsets of the ids that are sent until the session is open
	}{
		"new":                   {"", func(*logHub) request { return request{} }, []int{20}},
		"from the beginning":    {"", func(*logHub) request { return request{sub: Subscription{Start: Beginning}} }, []int{13, 15, 17, 19}},
		"snapshot":              {"", func(*logHub) request { return request{sub: Subscription{Snapshot: snapshot}} }, []int{20}},
		"resumed":               {"", func(h *logHub) request { return request{id: h.ID(h.at(15))} }, []int{17, 19}},
		"nothing new":           {"", func(h *logHub) request { return request{id: h.ID(h.at(20))} }, nil},
		"after":                 {"", func(h *logHub) request { return request{sub: Subscription{Start: After(h.at(15))}} }, []int{17, 19}},
		"after, gap":            {GapExpired, func(h *logHub) request { return request{sub: Subscription{Start: After(h.at(1))}} }, []int{11, 13, 15, 17, 19}},
		"expired":               {GapExpired, func(h *logHub) request { return request{id: h.ID(h.at(1))} }, []int{11, 13, 15, 17, 19}},
		"expired, snapshot":     {GapExpired, func(h *logHub) request { return request{id: h.ID(h.at(1)), sub: Subscription{Snapshot: snapshot}} }, []int{20}},
		"ahead":                 {GapAhead, func(h *logHub) request { return request{id: h.ID(h.at(99))} }, []int{20}},
		"another epoch":         {GapEpoch, func(h *logHub) request { return request{id: h.ID(Position{h.at(0).Epoch + 1, 13})} }, []int{20}},
		"another key":           {GapEpoch, func(h *logHub) request { return request{id: keyedHub(h.t, "another 16 bytes").ID(h.at(13))} }, []int{20}},
		"made up":               {GapEpoch, func(*logHub) request { return request{id: strings.Repeat("A", opaqueLen)} }, []int{20}},
		"too short":             {GapMalformed, func(*logHub) request { return request{id: strings.Repeat("A", opaqueLen-1)} }, []int{20}},
		"other bits at the end": {GapMalformed, func(*logHub) request { return request{id: strings.Repeat("B", opaqueLen)} }, []int{20}},
		"without a key":         {GapMalformed, func(*logHub) request { return request{id: "k3f9x2ab-13"} }, []int{20}},
		"an old snapshot": {"", func(h *logHub) request {
			return request{sub: Subscription{Snapshot: func(s *sse.ServerSession, _ Position) (Position, error) { return h.at(1), s.SendData("state") }}}
		}, []int{11, 13, 15, 17, 19}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newLogHub(t, Config{LogEvents: 8, IDKey: testIDKey})
				var log bytes.Buffer
				h.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
				h.router = sse.Install(chi.NewRouter(), sse.Config{
					Heartbeat: sse.Heartbeat{Period: time.Second}, OpenDelay: -1, ShutdownSpread: -1, Logger: slog.New(slog.DiscardHandler),
				})
				for i := range 20 {
					h.publish("ab"[i%2:i%2+1], sse.Event{Name: "x", Data: "1\n2", Comment: "c", Retry: time.Hour})
				}
				req := tt.request(h)
				req.sub.Topics = []string{"a"}
				s := h.serve(req.sub, func(r *http.Request) { r.Header.Set("Last-Event-ID", req.id) })
				require.Equal(t, string(tt.gap), s.w.header.Get(GapHeader))
				if tt.gap != "" {
					require.Contains(t, log.String(), "position="+h.spans.last().prefix, "the server's log may tell it")
				}
				h.publish("b", sse.Event{})
				time.Sleep(1500 * time.Millisecond) // a heartbeat
				h.publish("a", sse.Event{})
				synctest.Wait()
				for m := range h.Members("a") {
					require.NoError(t, m.SubscribeFrom(After(h.at(15)), "b"))
				}
				synctest.Wait()

				var offsets []int
				body := s.w.body.String()
				for line := range strings.Lines(body) {
					if id, ok := strings.CutPrefix(line, "id: "); ok {
						pos, err := h.ParseID(strings.TrimSuffix(id, "\n"))
						require.NoError(t, err, line)
						require.Equal(t, h.at(0).Epoch, pos.Epoch)
						offsets = append(offsets, int(pos.Offset))
					}
				}
				require.Equal(t, append(tt.ids, 21, 22, 16, 18, 20, 21, 22), offsets)
				for _, secret := range []string{h.spans.last().prefix, "position", "k3f9x2ab-2"} {
					require.NotContains(t, body, secret)
				}
				require.NotContains(t, fmt.Sprint(s.w.header), h.spans.last().prefix)
			})
		})
	}
}

func keyedHub(t *testing.T, key string) *Hub {
	t.Helper()
	return quietHub(t, Config{IDKey: []byte(key)})
}

// With the key, a publication allocates as much as without.
func TestIDKeyAllocatesNothing(t *testing.T) {
	allocs := func(cfg Config) int {
		h := quietHub(t, cfg)
		e := sse.Event{Name: "name", Data: "data", Comment: "comment"}
		for range 100 {
			publishTo(t, h, "a")
		}
		return int(testing.AllocsPerRun(200, func() { _, _ = h.Publish(context.Background(), "a", e) }))
	}
	require.Equal(t, allocs(Config{LogEvents: 10}), allocs(Config{LogEvents: 10, IDKey: testIDKey}))
	h := keyedHub(t, string(testIDKey))
	frame := make([]byte, 0, 100)
	require.Zero(t, testing.AllocsPerRun(100, func() { frame = h.appendPosition(frame[:0], 7) }))
}
