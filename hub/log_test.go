package hub

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
)

func itoa(n int) string { return strconv.Itoa(n) }

// logHub is a hub and its sessions, all in a bubble.
type logHub struct {
	*Hub
	t      *testing.T
	router *sse.Router
}

func newLogHub(t *testing.T, cfg Config) *logHub {
	t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	h, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := h.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &logHub{Hub: h, t: t, router: sse.Install(chi.NewRouter(), sse.Config{
		Heartbeat: sse.Heartbeat{Period: -1}, OpenDelay: -1, ShutdownSpread: -1, Logger: cfg.Logger,
	})}
}

func (h *logHub) publish(topic string, e sse.Event) Position {
	h.t.Helper()
	pos, err := h.Publish(h.t.Context(), topic, e)
	require.NoError(h.t, err)
	return pos
}

// publishTo publishes once to each topic.
func (h *logHub) publishTo(topics ...string) {
	h.t.Helper()
	for _, topic := range topics {
		h.publish(topic, sse.Event{Data: "to " + topic})
	}
}

type logSession struct {
	w     modelWriter
	leave func()
}

// serve returns when the session has got what was due.
func (h *logHub) serve(sub Subscription, edit func(r *http.Request)) *logSession {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &logSession{w: modelWriter{header: make(http.Header)}, leave: func() {
		cancel()
		synctest.Wait()
	}}
	h.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody)
	require.NoError(h.t, err)
	edit(r)
	handler := h.router.SSEHandler(func(s *sse.ServerSession) error { return h.Serve(s, sub) })
	go handler.ServeHTTP(&s.w, r)
	synctest.Wait()
	return s
}

// resume is serve for a client that comes with an id.
func (h *logHub) resume(id string, topics ...string) *logSession {
	h.t.Helper()
	return h.serve(Subscription{Topics: topics}, func(r *http.Request) { r.Header.Set("Last-Event-ID", id) })
}

func (h *logHub) resumeAfter(pos Position, topics ...string) *logSession {
	h.t.Helper()
	return h.resume(pos.String(), topics...)
}

func (s *logSession) events() (events []event.Event) {
	synctest.Wait()
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	for e, err := range event.NewDecoder(bytes.NewReader(s.w.body.Bytes())).All() {
		if err != nil {
			panic(err) // of a buffer
		}
		events = append(events, e)
	}
	return events
}

// data returns the data of the events, and the reason of a gap.
func (s *logSession) data() (data []string, gap string) {
	for _, e := range s.events() {
		if e.Name == GapEvent {
			continue
		}
		data = append(data, e.Data)
	}
	return data, s.w.header.Get(GapHeader)
}

func (h *logHub) at(offset int) Position { return Position{h.epoch, uint64(offset)} }

// requireLog asserts which events are in the log.
func (h *logHub) requireLog(offsets ...uint64) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	var got []uint64
	for i := range h.log.entries.len() {
		got = append(got, h.log.entries.at(i).Position.Offset)
	}
	require.Equal(h.t, offsets, got)
}

func TestDeque(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		var d deque[*int]
		var want []*int
		grow := 0
		for step := range 4000 {
			if step%200 == 0 {
				grow = 20 + r.IntN(60) // percent
			}
			if len(want) == 0 || r.IntN(100) < grow {
				v := new(step)
				d.push(v)
				want = append(want, v)
			} else {
				require.Same(t, want[0], d.pop(), "seed %d, step %d", seed, step)
				want = want[1:]
			}
			require.Equal(t, len(want), d.len())
			if n := len(want); n > 0 {
				i := r.IntN(n)
				require.Same(t, want[i], d.at(i), "seed %d, step %d", seed, step)
				require.Same(t, want[n-1], d.at(n-1))
			}
			size := len(d.ring)
			require.Equal(t, 0, size&(size-1), "the ring's length")
			require.LessOrEqual(t, size, max(64, 4*len(want)+1), "the ring of %d", len(want))
		}
		held := 0
		for _, v := range d.ring {
			if v != nil {
				held++
			}
		}
		require.Equal(t, len(want), held, "what was popped is not held")
	}
}

func TestLogCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLogHub(t, Config{LogEvents: 3})
		h.publishTo("a", "b", "a")
		h.requireLog(1, 2, 3)
		h.publishTo("a")
		h.requireLog(2, 3, 4)
		h.publishTo("a")
		h.requireLog(3, 4, 5)
		assert.EqualValues(t, 2, h.Stats().Evicted)
		assert.Equal(t, 1, h.Stats().Topics)
	})
}

func TestLogSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		probe := newLogHub(t, Config{})
		probe.publish("a", sse.Event{Data: "12345"})
		one := probe.Stats().LogSize
		require.Positive(t, one)

		h := newLogHub(t, Config{LogSize: 3 * one})
		for range 5 {
			h.publish("a", sse.Event{Data: "12345"})
		}
		h.requireLog(3, 4, 5)
		assert.Equal(t, 3*one, h.Stats().LogSize)
		h.publish("a", sse.Event{Data: "123456"}) // larger by a byte, or two
		h.requireLog(5, 6)

		// The newest stays, however large; beyond the bound it is refused.
		h.publish("a", sse.Event{Data: string(make([]byte, 3*one-100))})
		h.requireLog(7)
		_, err := h.Publish(t.Context(), "a", sse.Event{Data: string(make([]byte, 3*one))})
		var tooLarge *event.TooLargeError
		require.ErrorAs(t, err, &tooLarge)
		h.requireLog(7)
		h.publishTo("a")
		h.requireLog(8)

		sizes := newLogHub(t, Config{})
		before := int64(0)
		for _, e := range []sse.Event{
			{Data: string(make([]byte, 1000))},
			{Name: string(bytes.Repeat([]byte("n"), 1000))},
			{Comment: string(make([]byte, 1000))},
			{ID: string(bytes.Repeat([]byte("i"), 1000))},
		} {
			sizes.publish("a", e)
			after := sizes.Stats().LogSize
			assert.GreaterOrEqual(t, after-before, int64(2000), "an event is there twice: as it was published, and as it is sent")
			before = after
		}
	})
}

func TestLogAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLogHub(t, Config{LogAge: time.Minute})
		h.publishTo("a")
		time.Sleep(20 * time.Second)
		h.publishTo("b", "b")
		time.Sleep(20 * time.Second)
		h.publishTo("c")

		// Nobody publishes anymore.
		time.Sleep(20*time.Second - time.Nanosecond)
		h.requireLog(1, 2, 3, 4)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		h.requireLog(2, 3, 4)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		h.requireLog(4)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		h.requireLog()
		assert.Equal(t, Stats{Published: 4, Evicted: 4, Gaps: map[GapReason]uint64{}}, h.Stats())
		h.mu.Lock()
		assert.Nil(t, h.expiry, "an empty log has no timer")
		h.mu.Unlock()

		// It goes on.
		h.publishTo("a")
		h.requireLog(5)
		time.Sleep(time.Minute)
		synctest.Wait()
		h.requireLog()
	})
}

// The timer was set for an event that has left the log for another reason.
func TestLogAgeAndCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLogHub(t, Config{LogAge: time.Minute, LogEvents: 1})
		h.publishTo("a")
		time.Sleep(30 * time.Second)
		h.publishTo("a")
		time.Sleep(30 * time.Second)
		synctest.Wait()
		h.requireLog(2)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		h.requireLog()
	})
}

func TestLogAgeless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLogHub(t, Config{LogAge: -1})
		h.publishTo("a")
		time.Sleep(200 * 365 * 24 * time.Hour)
		synctest.Wait()
		h.publishTo("a")
		h.requireLog(1, 2)
	})
}

func TestLogDefaults(t *testing.T) {
	h, err := New(Config{})
	require.NoError(t, err)
	assert.Equal(t, DefaultLogEvents, h.log.maxEvents)
	assert.EqualValues(t, DefaultLogSize, h.log.maxSize)
	assert.Equal(t, DefaultLogAge, h.log.maxAge)
	for _, cfg := range []Config{{LogEvents: -1}, {LogSize: -1}} {
		_, err := New(cfg)
		require.Error(t, err)
	}
}

// Ids of their own are known as long as their events are.
func TestLogOwnIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLogHub(t, Config{LogEvents: 4})
		h.publish("a", sse.Event{ID: "x", Data: "1"})
		h.publishTo("a", "a")
		data, gap := h.resume("x", "a").data()
		assert.Equal(t, []string{"to a", "to a"}, data)
		assert.Empty(t, gap)

		// It should not repeat, but if it does the newest counts, also when the older one
		// leaves the log.
		h.publish("a", sse.Event{ID: "x", Data: "4"})
		h.publishTo("a")
		h.requireLog(2, 3, 4, 5)
		data, gap = h.resume("x", "a").data()
		assert.Equal(t, []string{"to a"}, data)
		assert.Empty(t, gap)

		h.publishTo("a", "a", "a")
		h.requireLog(5, 6, 7, 8)
		assert.Empty(t, h.log.own)
		data, gap = h.resume("x", "a").data()
		assert.Empty(t, data)
		assert.Equal(t, string(GapMalformed), gap)
	})
}

// A topic without events and followers costs nothing.
func TestTopicsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLogHub(t, Config{LogEvents: 10})
		for i := range 1000 {
			h.publishTo(fmt.Sprint("topic ", i))
		}
		assert.Equal(t, 10, h.Stats().Topics)
		assert.Len(t, h.topics, 10)

		s := h.resumeAfter(h.Position(), "quiet", "topic 995")
		assert.Equal(t, 11, h.Stats().Topics)
		for i := range 20 {
			h.publishTo(fmt.Sprint("topic ", 2000+i))
		}
		assert.Equal(t, 12, h.Stats().Topics, "those that are followed stay")
		s.leave()
		assert.Equal(t, 10, h.Stats().Topics)

		for i := range 100 {
			h.resumeAfter(h.Position(), fmt.Sprint("quiet ", i)).leave()
		}
		assert.Equal(t, 10, h.Stats().Topics)
	})
}

// What a forgotten topic had is not known anymore: a client whose id is older than
// what it may have lost is told of a gap, and no other is.
func TestForgottenFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLogHub(t, Config{LogEvents: 4})
		h.publishTo("a", "a", "b", "b", "b", "b") // a's are gone, and so is it
		h.requireLog(3, 4, 5, 6)
		require.NotContains(t, h.topics, "a")
		for _, tt := range []struct {
			after int
			topic string
			gap   GapReason
		}{
			{0, "a", GapExpired},
			{1, "a", GapExpired},
			{2, "a", ""},
			{6, "a", ""},
			{0, "b", ""}, // it is known that it has lost none
			{2, "b", ""},
			{1, "unheard of", GapExpired}, // as it may be of a topic that was forgotten
			{2, "unheard of", ""},
		} {
			s := h.resumeAfter(h.at(tt.after), tt.topic)
			data, gap := s.data()
			assert.Equal(t, string(tt.gap), gap, "%+v", tt)
			if tt.topic == "b" {
				assert.Len(t, data, 4)
			} else {
				assert.Empty(t, data)
			}
			s.leave()
		}

		// When it comes back it has its old floor, and the events that are new.
		h.publishTo("a")
		data, gap := h.resumeAfter(h.at(1), "a").data()
		assert.Equal(t, []string{"to a"}, data)
		assert.Equal(t, string(GapExpired), gap)
		data, gap = h.resumeAfter(h.at(2), "a").data()
		assert.Equal(t, []string{"to a"}, data)
		assert.Empty(t, gap)
	})
}

// Others' events leave the log without a gap for who follows a quiet topic, or one
// of which all is left.
func TestQuietTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLogHub(t, Config{LogEvents: 4})
		h.publishTo("quiet", "quiet")
		follower := h.resumeAfter(h.at(2), "quiet")
		for range 100 {
			h.publishTo("loud")
		}
		for after, want := range map[int]GapReason{0: GapExpired, 1: GapExpired, 2: "", 50: "", 102: ""} {
			s := h.resumeAfter(h.at(after), "quiet")
			data, gap := s.data()
			assert.Empty(t, data)
			assert.Equal(t, string(want), gap, "after %d", after)
			s.leave()
		}
		h.publishTo("quiet")
		data, gap := follower.data()
		assert.Equal(t, []string{"to quiet"}, data)
		assert.Empty(t, gap)
		data, gap = h.resumeAfter(h.at(2), "quiet").data()
		assert.Equal(t, []string{"to quiet"}, data)
		assert.Empty(t, gap)

		// Several topics: the loud one has a gap.
		s := h.resumeAfter(h.at(2), "quiet", "loud")
		data, gap = s.data()
		assert.Equal(t, []string{"to loud", "to loud", "to loud", "to quiet"}, data)
		assert.Equal(t, string(GapExpired), gap)
	})
}

// Many topics in one session are in the hub's order, whatever the batches are.
func TestMergedBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLogHub(t, Config{LogEvents: 10_000})
		r := rand.New(rand.NewPCG(3, 3))
		var want []string
		for i := range 3*batchEvents + 100 {
			// The second topic has all of its events beyond the first batch of the first one,
			// the third all of them within.
			topic := "a"
			switch {
			case i > batchEvents+50 && r.IntN(2) == 0:
				topic = "b"
			case i < batchEvents && r.IntN(10) == 0:
				topic = "c"
			}
			h.publish(topic, sse.Event{Data: itoa(i)})
			want = append(want, itoa(i))
		}
		for _, topics := range [][]string{{"a", "b", "c"}, {"b", "c", "a"}, {"c", "b", "a"}} {
			data, gap := h.resumeAfter(h.at(0), topics...).data()
			require.Equal(t, want, data)
			assert.Empty(t, gap)
		}
		data, _ := h.resumeAfter(h.at(10), "a", "c").data()
		require.True(t, slices.IsSortedFunc(data, func(a, b string) int {
			m, _ := strconv.Atoi(a)
			n, _ := strconv.Atoi(b)
			return m - n
		}))
	})
}
