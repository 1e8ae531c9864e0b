//go:build unix

package pglog

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/hub"
)

// crashReader is a client, which reads from all nodes in turn and resumes where it was.
type crashReader struct {
	s        *crashSoak
	name     string
	rng      *rand.Rand
	topics   []string
	stateful bool   // it gets snapshots
	sleeps   bool   // it is away for long
	id       string // its last event id

	mu       sync.Mutex
	epoch    uint64
	segments []*crashSegment // the last one goes on
	states   []state
}

// crashSegment is what a reader has got between two gaps.
type crashSegment struct {
	after, upTo uint64
	got         []uint64
	data        []string
	gap         hub.GapReason // which ended it
	at          time.Time     // when that came
}

func newCrashReader(s *crashSoak, i int, rng *rand.Rand) *crashReader {
	r := &crashReader{s: s, name: fmt.Sprint("reader ", i), rng: rng, stateful: i%4 == 3, sleeps: i%4 == 2}
	for k := range crashTopics {
		if i%2 == 0 || k != i%crashTopics {
			r.topics = append(r.topics, fmt.Sprint("t", k))
		}
	}
	return r
}

// run reads until ctx ends.
func (r *crashReader) run(ctx context.Context) {
	c := client.Install(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, client.Config{
		MaxReconnectionAttempts: client.Unlimited,
		OnFailure: func(client.Failure) client.Decision {
			return client.RetryIn(time.Duration(10+rand.IntN(100)) * time.Millisecond)
		},
		OnRequest: func(req *http.Request) error {
			q := url.Values{"topics": {strings.Join(r.topics, ",")}}
			if r.stateful {
				q.Set("state", "")
			}
			n := r.s.nodes[rand.IntN(crashNodes)]
			req.URL = &url.URL{Scheme: "http", Host: n.addr, Path: "/events", RawQuery: q.Encode()}
			req.Host = ""
			return nil
		},
		OpenTimeout: 10 * time.Second,
		IdleTimeout: 5 * time.Second,
		Logger:      slog.New(slog.DiscardHandler),
	})
	for ctx.Err() == nil && !r.s.t.Failed() {
		var options []client.Option
		if r.id != "" {
			options = append(options, client.WithLastEventID(r.id))
		}
		stay := 20 + r.rng.IntN(400)
		if r.stateful {
			stay = 1 + r.rng.IntN(30)
		}
		err := c.SSE(ctx, "http://chosen.invalid/", func(s *client.Session) error {
			defer func() {
				if r.id = s.LastEventID(); r.stateful && r.rng.IntN(2) == 0 {
					r.id = "" // it wants another snapshot
				}
			}()
			for ev, err := range s.Incoming() {
				if err != nil {
					return err
				}
				if !r.take(ev) {
					return nil
				}
				if stay--; stay <= 0 {
					return nil
				}
			}
			return nil
		}, options...)
		if err != nil && ctx.Err() == nil {
			r.s.t.Errorf("%s: %v", r.name, err)
		}
		pause := 50
		if r.sleeps {
			pause = 6000
		}
		select {
		case <-time.After(time.Duration(r.rng.IntN(pause)) * time.Millisecond):
		case <-r.s.ending:
		}
	}
}

// take checks and notes an event. It returns false if that shows a fault.
func (r *crashReader) take(ev client.Event) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch ev.Name {
	case hub.GapEvent:
		return r.takeGapLocked(ev)
	case "state":
		return r.takeStateLocked(ev)
	}
	at, err := hub.ParsePosition(ev.ID)
	if len(r.segments) == 0 {
		r.segments, r.epoch = append(r.segments, &crashSegment{}), at.Epoch
	}
	seg := r.segments[len(r.segments)-1]
	if err != nil || at.Epoch != r.epoch || at.Offset <= seg.upTo {
		r.s.t.Errorf("%s: %.100q came with the id %q after %d of the epoch %d without a gap", r.name, ev.Data, ev.ID, seg.upTo, r.epoch)
		return false
	}
	seg.got, seg.data, seg.upTo = append(seg.got, at.Offset), append(seg.data, ev.Data), at.Offset
	return true
}

func (r *crashReader) takeGapLocked(ev client.Event) bool {
	var gap hub.Gap
	err := json.Unmarshal([]byte(ev.Data), &gap)
	from, err2 := hub.ParsePosition(gap.LastEventID)
	if err != nil || err2 != nil || gap.Position.Epoch != r.epoch || from.Epoch != r.epoch {
		r.s.t.Errorf("%s: a gap with %.200q: %v %v", r.name, ev.Data, err, err2)
		return false
	}
	seg := r.segments[len(r.segments)-1]
	seg.gap, seg.at, seg.upTo = gap.Reason, time.Now(), max(seg.upTo, from.Offset)
	next := gap.Position.Offset
	if gap.Snapshot { // if it is cut off before the snapshot, the client resumes from where it was
		next = from.Offset
	}
	r.segments = append(r.segments, &crashSegment{after: next, upTo: next})
	return true
}

func (r *crashReader) takeStateLocked(ev client.Event) bool {
	var pos string
	var st state
	_, err := fmt.Sscan(ev.Data, &pos, &st.count, &st.events, &st.sum)
	if err == nil {
		st.at, err = hub.ParsePosition(pos)
	}
	if r.epoch == 0 {
		r.epoch = st.at.Epoch
	}
	if err != nil || st.at.Epoch != r.epoch {
		r.s.t.Errorf("%s: the state %q: %v", r.name, ev.Data, err)
		return false
	}
	r.states = append(r.states, st)
	r.segments = append(r.segments, &crashSegment{after: st.at.Offset, upTo: st.at.Offset})
	return true
}

// has reports whether the reader has what is last in each of its topics.
func (r *crashReader) has(last map[string]uint64) bool {
	at := r.position()
	return !slices.ContainsFunc(r.topics, func(topic string) bool { return at < last[topic] })
}

func (r *crashReader) position() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.segments) == 0 {
		return 0
	}
	return r.segments[len(r.segments)-1].upTo
}

// archived is a record that has got a number.
type archived struct{ topic, data string }

// check compares what has got numbers with what was committed, and what readers have got with
// that.
func (s *crashSoak) check() {
	t := s.t
	rows, err := s.pool.Query(t.Context(), "SELECT number, record FROM archive ORDER BY number")
	require.NoError(t, err)
	all := []archived{{}} // by their numbers
	var number int64
	var record []byte
	_, err = pgx.ForEachRow(rows, []any{&number, &record}, func() error {
		var r hub.Record
		require.NoError(t, r.UnmarshalBinary(record))
		require.EqualValues(t, len(all), number, "numbers are dense")
		all = append(all, archived{r.Topic, r.Event.Data})
		return nil
	})
	require.NoError(t, err)
	s.checkCommitted(all)
	for _, r := range s.readers {
		s.checkReader(r, all)
	}
}

// checkCommitted checks that all that was committed has got numbers, once, and nothing else.
func (s *crashSoak) checkCommitted(all []archived) {
	t := s.t
	rows, err := s.pool.Query(t.Context(), "SELECT n, topic, events, counter, version FROM published")
	require.NoError(t, err)
	missing := make(map[string]string) // the topics of what must be there
	var n, events, committed int64
	var topic string
	var counter, version *int64
	changes := make(map[int64][2]int64) // the counter and its version that a transaction has written
	_, err = pgx.ForEachRow(rows, []any{&n, &topic, &events, &counter, &version}, func() error {
		if committed++; counter != nil {
			changes[n] = [2]int64{*counter, *version}
		}
		for i := range events {
			missing[fmt.Sprint(n, " ", i, " ", events)] = topic
		}
		return nil
	})
	require.NoError(t, err)
	require.GreaterOrEqual(t, committed, s.committed.Load())
	require.LessOrEqual(t, committed, s.committed.Load()+s.unknown.Load())
	for key, pos := range s.acked {
		require.Equal(t, key, all[pos.Offset].data, "the place of %s", key)
		missing[key] = all[pos.Offset].topic
	}
	versions := make(map[int64]int64)
	for number, a := range all[1:] {
		topic, found := missing[a.data]
		require.True(t, found && topic == a.topic, "%q has the number %d, and was rolled back, or has another number", a.data, number+1)
		delete(missing, a.data)
		var n, i, of int64
		if _, err := fmt.Sscanf(a.data, "%d %d %d", &n, &i, &of); err != nil {
			continue
		}
		if change, found := changes[n]; found && i == 0 {
			require.Equal(t, versions[change[0]]+1, change[1], "a transaction that has waited for another comes after it")
			versions[change[0]]++
		}
		if i > 0 {
			require.Equal(t, fmt.Sprint(n, " ", i-1, " ", of), all[number].data, "a transaction stays in one piece")
		}
	}
	require.Empty(t, missing, "these were committed and have no number")
}

// checkReader checks what a reader has got.
func (s *crashSoak) checkReader(r *crashReader, all []archived) {
	for _, seg := range r.segments {
		var want []uint64
		var data []string
		for number := seg.after + 1; number <= seg.upTo; number++ {
			if slices.Contains(r.topics, all[number].topic) {
				want, data = append(want, number), append(data, all[number].data)
			}
		}
		if !slices.Equal(seg.got, want) || !slices.Equal(seg.data, data) {
			s.t.Errorf("%s has got %d of %d events after %d up to %d, before a gap %q; it lacks %v", r.name, len(seg.got), len(want), seg.after, seg.upTo, seg.gap,
				slices.DeleteFunc(want, func(number uint64) bool { return slices.Contains(seg.got, number) }))
		}
		s.checkGap(r, seg)
	}
	prefix := []progress{{}} // of the reader's topics, by the position
	for _, a := range all[1:] {
		now := prefix[len(prefix)-1]
		var n int64
		var i, of int
		if _, err := fmt.Sscanf(a.data, "%d %d %d", &n, &i, &of); err == nil && slices.Contains(r.topics, a.topic) {
			if now.events++; i == 0 {
				now.count, now.sum = now.count+1, now.sum+n
			}
		}
		prefix = append(prefix, now)
	}
	for _, st := range r.states {
		require.Equal(s.t, progress{int(st.count), int(st.events), st.sum}, prefix[st.at.Offset], "a snapshot of %s at %v", r.name, st.at)
	}
}

// checkGap checks that a gap was due: the log no longer had what comes next when it was told. A hub
// may have been behind the client for longer than it waits.
func (s *crashSoak) checkGap(r *crashReader, seg *crashSegment) {
	switch seg.gap {
	case "", hub.GapAhead:
		return
	case hub.GapExpired, hub.GapLost:
		i := slices.IndexFunc(s.first, func(f firstAt) bool { return f.at.After(seg.at) })
		if i < 0 {
			i = len(s.first) - 1
		}
		if s.first[i].first > seg.upTo+1 {
			return
		}
		s.t.Errorf("%s was told of a gap %q after %d, while the log began at %d", r.name, seg.gap, seg.upTo, s.first[i].first)
	default:
		s.t.Errorf("%s was told of a gap %q", r.name, seg.gap)
	}
}
