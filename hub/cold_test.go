// Members that are caught up from the Log, and what else happens to them meanwhile.

package hub_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/hub/logtest"
	"github.com/chi-sse/sse/internal/testkit"
)

// gatedLog is a Log whose Read waits while the gate is shut.
type gatedLog struct {
	*logtest.Memory
	gate    sync.RWMutex
	waiting atomic.Int32
	most    int // how many records Read returns at the most, if not 0
}

func (l *gatedLog) Read(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
	l.waiting.Add(1)
	l.gate.RLock()
	defer l.gate.RUnlock()
	l.waiting.Add(-1)
	if l.most > 0 {
		limit = min(limit, l.most)
	}
	return l.Memory.Read(ctx, topics, after, upTo, limit)
}

// cold starts an app whose log has the events 0 to 100 of topic "a", most of them cold. It
// returns the position of 0.
func (t *test) cold(p plan) (*app, *gatedLog, hub.Position) {
	t.Helper()
	log := &gatedLog{Memory: logtest.NewMemory(1), most: 20}
	p.hub.Log, p.hub.LogEvents = log, 10
	a := t.start(p)
	first := a.publish("a", sse.Event{Data: "0"})
	a.publishN("a", 1, 100)
	return a, log, first
}

// resumeGated resumes with id while the log's gate is shut, and returns when a read waits.
func (a *app) resumeGated(log *gatedLog, path, id string) chan *stream {
	a.t.Helper()
	streams := make(chan *stream, 1)
	go func() {
		s, err := a.try(a.client, path, "Last-Event-ID", id)
		if err == nil {
			streams <- s
		}
		close(streams)
	}()
	testkit.Eventually(a.t, func() bool { return log.waiting.Load() > 0 }, "a read of the log")
	return streams
}

func TestTopicsWithNULShareNoPages(t *testing.T) {
	forEach(t, func(t *test) {
		a, _, first := t.cold(plan{serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
			for i, topic := range sub.Topics {
				sub.Topics[i] = strings.ReplaceAll(topic, "-", "\x00")
			}
			return h.Serve(s, sub)
		}})
		a.publish("b", sse.Event{Data: "secret"})
		a.publish("a\x00b", sse.Event{Data: "x"})
		a.publishN("a", 101, 130)
		a.resume("/?topic=a&topic=b", first.String()).expectN(1, 100)
		a.resume("/?topic=a-b", first.String()).expect("x")
	})
}

// With SlowLatest, what is cold is sent as well, and only the newest for each key.
func TestSlowLatestIsCaughtUpFromTheLog(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{hub: hub.Config{Log: logtest.NewMemory(1), LogEvents: 10}, small: true, sub: hub.Subscription{
			Slow: hub.SlowLatest, Key: func(m *hub.Message) string { return m.Event.Name },
		}})
		first := a.publish("a", sse.Event{Data: "0"})
		for i := 1; i <= 300; i++ {
			a.publish("a", sse.Event{Name: "key" + strconv.Itoa(i%40), Data: strconv.Itoa(i)})
		}
		s := a.resume("/", first.String())
		requireNoGap(t, s)
		newest := make(map[string]string)
		last := 0
		for last < 300 {
			e := s.event()
			n, err := strconv.Atoi(e.Data)
			require.NoError(t, err, e)
			require.Greater(t, n, last)
			last, newest[e.Name] = n, e.Data
		}
		require.Len(t, newest, 40)
		for i := 261; i <= 300; i++ {
			require.Equal(t, strconv.Itoa(i), newest["key"+strconv.Itoa(i%40)])
		}
		s.leave()

		slow := a.connectSlow("/")
		a.joined("a", 1)
		big := strings.Repeat("x", 20_000)
		for i := 1; i <= 400; i++ {
			a.publish("a", sse.Event{Name: strconv.Itoa(i % 40), Data: strconv.Itoa(i) + " " + big})
		}
		a.publish("a", sse.Event{Data: "end"})
		seen := make(map[string]bool)
		for e := slow.event(); e.Data != "end"; e = slow.event() {
			require.NotEqual(t, hub.GapEvent, e.Name)
			seen[strings.TrimSuffix(e.Data, " "+big)] = true
		}
		for i := 361; i <= 400; i++ {
			require.True(t, seen[strconv.Itoa(i)], i)
		}
		require.Empty(t, a.Stats().Gaps)
	})
}

func TestKickDuringAColdCatchUp(t *testing.T) {
	forEach(t, func(t *test) {
		a, log, first := t.cold(plan{})
		log.gate.Lock()
		streams := a.resumeGated(log, "/", first.String())
		require.Equal(t, 1, a.kick("a", errors.New("out")))
		a.publish("a", sse.Event{Data: "secret"})
		log.gate.Unlock()
		if s := testkit.Receive(t, streams); s != nil {
			body, _ := s.rest()
			require.NotContains(t, body, "secret")
		}
		require.ErrorIs(t, a.end().Err, hub.ErrKicked)
	})
}

// A shutdown sends what is cold, too.
func TestShutdownDuringAColdCatchUp(t *testing.T) {
	forEach(t, func(t *test) {
		a, log, first := t.cold(plan{})
		log.gate.Lock()
		streams := a.resumeGated(log, "/", first.String())
		done := make(chan error, 1)
		go func() { done <- a.Shutdown(context.Background()) }()
		testkit.Eventually(t, func() bool {
			_, err := a.Publish(t.Context(), "a", sse.Event{})
			return errors.Is(err, sse.ErrShutdown)
		}, "the shutdown")
		time.Sleep(20 * time.Millisecond)
		log.gate.Unlock()
		s := testkit.Receive(t, streams)
		s.expectN(1, 100)
		require.NoError(t, testkit.Receive(t, done))
	})
}

// No goroutine waits for a Log that is away when the hub has been shut down.
func TestShutdownWhileTheLogIsAway(t *testing.T) {
	forEach(t, func(t *test) {
		a, log, first := t.cold(plan{})
		log.Trouble(errors.New("away"))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		go func() {
			_, _ = a.try(a.client, "/", "Last-Event-ID", first.String()) // the test's end closes it
		}()
		testkit.Eventually(t, func() bool { return a.Stats().Members == 1 }, "a member")
		require.Error(t, a.Shutdown(ctx))
		require.Equal(t, sse.EndShutdown, a.end().Reason)
	})
}

func TestEpochChangeDuringAColdCatchUp(t *testing.T) {
	forEach(t, func(t *test) {
		a, log, first := t.cold(plan{})
		log.gate.Lock()
		streams := a.resumeGated(log, "/", first.String())
		log.Renew()
		testkit.Eventually(t, func() bool { return a.Position().Epoch != first.Epoch }, "the next epoch")
		log.gate.Unlock()
		s := testkit.Receive(t, streams)
		require.Equal(t, []string{string(hub.GapEpoch)}, s.Header.Values(hub.GapHeader))
		require.Equal(t, hub.GapEpoch, s.expectGap().Reason)
		a.joined("a", 1)
		a.publish("a", sse.Event{Data: "new"})
		s.expect("new")
	})
}

// A member that falls behind, and follows and leaves topics while it is caught up, misses none
// of its events, and gets none of others.
func TestSubscribeDuringAColdCatchUp(t *testing.T) {
	forEach(t, func(t *test) {
		log := &gatedLog{Memory: logtest.NewMemory(1), most: 20}
		a := t.start(plan{hub: hub.Config{Log: log, LogEvents: 10}, small: true})
		s := a.connectSlow("/?topic=a&topic=b")
		a.joined("a", 1)
		var m *hub.Member
		for member := range a.Members("a") {
			m = member
		}
		big := strings.Repeat("x", 20_000)
		number := 0
		publish := func(topics ...string) {
			for range 150 {
				for _, topic := range topics {
					number++
					a.publish(topic, sse.Event{Name: topic, Data: strconv.Itoa(number) + " " + big})
				}
			}
		}
		log.gate.Lock()
		publish("a", "b") // a write waits for the client, or then a read for the gate
		require.NoError(t, m.Subscribe("c"))
		subscribed := number
		m.Unsubscribe("b")
		publish("a", "b", "c", "d")
		log.gate.Unlock()
		a.publish("a", sse.Event{Data: "end"})
		last := make(map[string]int)
		count := make(map[string]int)
		newest := 0
		for e := s.event(); e.Data != "end"; e = s.event() {
			text, _, _ := strings.Cut(e.Data, " ")
			n, err := strconv.Atoi(text)
			require.NoError(t, err, e.Name)
			require.Greater(t, n, newest)
			newest, last[e.Name] = n, n
			count[e.Name]++
		}
		require.Equal(t, 300, count["a"])
		require.Equal(t, 150, count["c"])
		require.LessOrEqual(t, last["b"], subscribed)
		require.Zero(t, count["d"])
	})
}

// A topic that a member begins to follow can start with events that only the Log has.
func TestSubscribeFromColdEvents(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{hub: hub.Config{Log: logtest.NewMemory(3), LogEvents: 10}})
		positions := make([]hub.Position, 100)
		for n := range positions {
			positions[n] = a.publish("b", sse.Event{Data: "b" + strconv.Itoa(n)})
			a.publish("c", sse.Event{Data: "c" + strconv.Itoa(n)})
		}
		s := a.connect("/")
		a.joined("a", 1)
		a.publishN("a", 1, 20) // some of them are in memory, and the client has them
		s.expectN(1, 20)
		m := a.member("a")
		require.NoError(t, m.SubscribeFrom(hub.After(positions[49]), "b"))
		for n := 50; n < 100; n++ {
			s.expect("b" + strconv.Itoa(n))
		}
		require.NoError(t, m.SubscribeFrom(hub.Beginning, "c"))
		for n := range 100 {
			s.expect("c" + strconv.Itoa(n))
		}
		a.publish("b", sse.Event{Data: "live b"})
		a.publish("a", sse.Event{Data: "live a"})
		s.expect("live b", "live a")
		require.Equal(t, a.Position().String(), s.id)
		require.Empty(t, a.Stats().Gaps)
	})
}

// If the Log drops the events with which a topic starts before they are read, the client is told
// of a gap, and its session goes on.
func TestSubscribeFromEventsThatTheLogDrops(t *testing.T) {
	forEach(t, func(t *test) {
		log := &gatedLog{Memory: logtest.NewMemory(1)}
		a := t.start(plan{hub: hub.Config{Log: log, LogEvents: 10}})
		for n := range 100 {
			a.publish("b", sse.Event{Data: strconv.Itoa(n)})
		}
		s := a.connect("/")
		a.joined("a", 1)
		log.Truncate(51)
		require.NoError(t, a.member("a").SubscribeFrom(hub.Beginning, "b"))
		require.Equal(t, hub.GapExpired, s.expectGap().Reason)
		s.expectN(50, 99)
		a.publish("a", sse.Event{Data: "live"})
		s.expect("live")
	})
}

// What the Log has dropped, or cannot be measured, is no start without a gap.
func TestSubscribeFromWhatTheLogDoesNotHave(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg      hub.Config
		truncate bool
		reason   hub.GapReason
	}{
		"dropped":   {truncate: true, reason: hub.GapExpired},
		"MaxReplay": {cfg: hub.Config{MaxReplay: 1000}, reason: hub.GapReplay},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				log := logtest.NewMemory(1)
				p := plan{hub: tc.cfg}
				p.hub.Log, p.hub.LogEvents = log, 10
				first := func(a *app) hub.Position {
					pos := a.publish("b", sse.Event{Data: "0"})
					for n := 1; n < 100; n++ {
						a.publish("b", sse.Event{Data: strconv.Itoa(n)})
					}
					return pos
				}
				a := t.start(p)
				pos := first(a)
				if tc.truncate {
					log.Truncate(50)
					b := t.start(p) // another hub of the Log, since this one need not know yet
					a = b
				}
				s := a.connect("/")
				a.joined("a", 1)
				m := a.member("a")
				var gap *hub.GapError
				require.ErrorAs(t, m.SubscribeFrom(hub.After(pos), "b"), &gap)
				require.Equal(t, tc.reason, gap.Reason)
				require.NoError(t, m.SubscribeFrom(hub.Beginning, "b"))
				from := 90 // in memory
				if tc.truncate {
					from = 49
				}
				for n := from; n < 100; n++ {
					s.expect(strconv.Itoa(n))
				}
			})
		})
	}
}

func TestFilterThatPanicsDuringAColdCatchUp(t *testing.T) {
	forEach(t, func(t *test) {
		a, _, first := t.cold(plan{sub: hub.Subscription{Filter: func(m *hub.Message) bool {
			if m.Event.Data == "50" {
				panic("filter")
			}
			return true
		}}, expects: []string{"panic"}})
		if s, err := a.try(a.client, "/", "Last-Event-ID", first.String()); err == nil {
			_, _ = s.rest()
		}
		_, isPanic := errors.AsType[*sse.PanicError](a.end().Err)
		require.True(t, isPanic)
	})
}

// A snapshot that is older than what the log still has is followed by a gap, once.
func TestSnapshotThatIsOlderThanTheLog(t *testing.T) {
	forEach(t, func(t *test) {
		var pos atomic.Pointer[hub.Position]
		a, log, first := t.cold(plan{serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
			sub.Snapshot = func(s *sse.ServerSession, _ hub.Position) (hub.Position, error) {
				return *pos.Load(), s.Send(sse.Event{Name: "state", Data: "old"})
			}
			return h.Serve(s, sub)
		}})
		pos.Store(&first)
		log.Truncate(51)
		s := a.connect("/")
		require.Equal(t, "old", s.event().Data)
		gap := s.expectGap()
		require.Equal(t, hub.GapExpired, gap.Reason)
		require.False(t, gap.Snapshot)
		s.expectN(50, 100)
	})
}

// Config.MaxReplay bounds what a client gets when it comes, and not a slow one.
func TestMaxReplayCountsColdEvents(t *testing.T) {
	forEach(t, func(t *test) {
		a, _, first := t.cold(plan{hub: hub.Config{MaxReplay: 100_000}, small: true})
		a.resume("/", first.String()).expectN(1, 100)
		slow := a.connectSlow("/")
		a.joined("a", 2)
		big := strings.Repeat("x", 20_000)
		for i := 101; i <= 400; i++ {
			a.publish("a", sse.Event{Data: strconv.Itoa(i) + " " + big})
		}
		for i := 101; i <= 400; i++ {
			require.Equal(t, strconv.Itoa(i)+" "+big, slow.event().Data)
		}
		s := a.resume("/", first.String())
		require.Equal(t, []string{string(hub.GapReplay)}, s.Header.Values(hub.GapHeader))
		gap := s.expectGap()
		require.Equal(t, hub.Gap{Reason: hub.GapReplay, LastEventID: first.String(), Position: gap.Position}, gap)
	})
}

// A client with an id that leads nowhere is told of one gap, also if the Log has more than a
// replay may be.
func TestMaxReplayAfterAnotherGap(t *testing.T) {
	forEach(t, func(t *test) {
		a, _, first := t.cold(plan{hub: hub.Config{MaxReplay: 200}, sub: hub.Subscription{Start: hub.Beginning}})
		for id, reason := range map[string]hub.GapReason{
			"nonsense": hub.GapMalformed,
			hub.Position{Epoch: first.Epoch + 1, Offset: 1}.String(): hub.GapEpoch,
		} {
			s := a.resume("/", id)
			gap := s.expectGap()
			require.Equal(t, reason, gap.Reason)
			next := int(gap.Position.Offset) // its event has the number before
			require.Greater(t, next, 90)
			s.expectN(next, 100)
		}
		s := a.connect("/")
		require.NotEmpty(t, s.event().Data)
		require.EqualValues(t, 2, a.Stats().Gaps[hub.GapMalformed]+a.Stats().Gaps[hub.GapEpoch])
		require.Zero(t, a.Stats().Gaps[hub.GapReplay])
	})
}

// A hole of a Batch is told even if the last record of the Batch is at its end.
func TestHoleOfABatchIsTold(t *testing.T) {
	forEach(t, func(t *test) {
		log := &holedLog{Memory: logtest.NewMemory(1)}
		a := t.start(plan{hub: hub.Config{Log: log}})
		s := a.connect("/")
		a.joined("a", 1)
		a.publish("a", sse.Event{Data: "1"})
		s.expect("1")
		_, err := a.PublishAll(t.Context(), []hub.Publication{
			{Topic: "a", Event: sse.Event{Data: "lost"}}, {Topic: "a", Event: sse.Event{Data: "2"}},
		})
		require.NoError(t, err)
		gap := s.expectGap()
		require.Equal(t, hub.GapLost, gap.Reason)
		require.Equal(t, uint64(2), gap.Position.Offset)
		s.expect("2")
	})
}

// holedLog cannot give the records whose data are "lost".
type holedLog struct{ *logtest.Memory }

func (l *holedLog) Follow(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
	return l.Memory.Follow(ctx, after, func(b hub.Batch) error {
		var left []hub.Record
		for _, r := range b.Records {
			if r.Event.Data == "lost" {
				b.Hole = true
			} else {
				left = append(left, r)
			}
		}
		b.Records = left
		return apply(b)
	})
}

// A client that starts after a position, which another hub has told it, waits for it.
func TestStartAfterAPositionThatIsAheadWaits(t *testing.T) {
	t.Parallel()
	log := logtest.NewMemory(1)
	var pos atomic.Pointer[hub.Position]
	a := http1.start(t, plan{hub: hub.Config{Log: log}, serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
		sub.Start = hub.After(*pos.Load())
		return h.Serve(s, sub)
	}})
	log.Trouble(errors.New("away"))
	testkit.Eventually(t, func() bool { return a.Health().Err != nil }, "trouble")
	ahead := log.Insert(hub.Record{Topic: "a", Event: sse.Event{Data: "1"}})
	pos.Store(&ahead)
	time.AfterFunc(200*time.Millisecond, func() { log.Trouble(nil) })
	s := a.connect("/")
	requireNoGap(t, s)
	a.joined("a", 1)
	a.publish("a", sse.Event{Data: "2"})
	s.expect("2")
}
