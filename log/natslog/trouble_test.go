package natslog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
	"github.com/chi-sse/sse/internal/testkit"
	"github.com/chi-sse/sse/log/natslog/embedded"
)

// A follower notices a connection on which nothing comes any longer.
func TestFollowOfAHalfOpenConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t, embedded.Config{Listen: "127.0.0.1:0", SlowSync: true})
	for _, direction := range []int{testkit.ToServer, testkit.ToClient} {
		l := openLog(t, connectByProxy(t, s.URL()), Config{Stream: newStream(), Create: &jetstream.StreamConfig{}})
		b := bounds(t, l)
		f := logkit.Follow(t, l, hub.Position{Epoch: b.Epoch})
		f.Await(0)
		proxyOf(l).Hold(direction, true)
		require.Error(t, f.End())
		proxyOf(l).Hold(direction, false)
		f = logkit.Follow(t, l, hub.Position{Epoch: b.Epoch})
		add(t, l, rec("a", "1"))
		require.Equal(t, []string{"1"}, texts(f.Await(1)))
	}
}

// history checks what two hubs of a stream apply while there is trouble.
type history struct {
	t    *testing.T
	hubs []*hub.Hub
	logs []*Log

	mu    sync.Mutex
	acked map[string]uint64 // the keys that were acknowledged, and their offsets
	tried map[string]bool
}

// publish publishes through the hub with numbers as keys until ctx ends. What is unknown or
// failed is published again with its key.
func (h *history) publish(ctx context.Context, who int) {
	for i := 0; ctx.Err() == nil; i++ {
		ps := make([]hub.Publication, 1+rand.IntN(3))
		for k := range ps {
			key := fmt.Sprint(who, " ", i, " ", k)
			ps[k] = hub.Publication{Topic: "a", Key: key, Event: sse.Event{Data: key}}
			h.mu.Lock()
			h.tried[key] = true
			h.mu.Unlock()
		}
		for range 50 {
			positions, err := h.hubs[who%len(h.hubs)].PublishAll(h.t.Context(), ps)
			if err != nil {
				continue
			}
			h.mu.Lock()
			for k := range ps {
				h.acked[ps[k].Key] = positions[k].Offset
			}
			h.mu.Unlock()
			break
		}
	}
}

// check checks that the stream has all that was acknowledged, once, at its offset, and nothing
// that was not published; and that Follow and Read agree.
func (h *history) check() {
	b := bounds(h.t, h.logs[0])
	var records []hub.Record
	testkit.Eventually(h.t, func() bool { // a server that was restarted may have more trouble
		at := hub.Position{Epoch: b.Epoch, Offset: uint64(len(records))}
		ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Second)
		defer cancel()
		_ = h.logs[1].Follow(ctx, at, func(batch hub.Batch) error {
			if records = append(records, batch.Records...); len(records) >= int(b.Last) {
				return context.Canceled
			}
			return nil
		})
		return len(records) >= int(b.Last)
	}, "all records to be followed")
	require.Len(h.t, records, int(b.Last))
	count := make(map[string]int)
	for i, r := range records {
		count[r.Event.Data]++
		require.Equal(h.t, uint64(i+1), r.Offset)
		require.True(h.t, h.tried[r.Event.Data])
	}
	for key, offset := range h.acked {
		require.Equal(h.t, 1, count[key], key)
		require.Equal(h.t, key, records[offset-1].Event.Data)
	}
	for key, n := range count {
		require.Equal(h.t, 1, n, key)
	}
	h.t.Logf("%d records, %d acknowledged", len(records), len(h.acked))
	for _, hb := range h.hubs {
		ctx, cancel := context.WithTimeout(h.t.Context(), 30*time.Second)
		err := hb.Wait(ctx, hub.Position{Epoch: b.Epoch, Offset: b.Last})
		cancel()
		require.NoError(h.t, err)
	}
}

// open opens a hub of l, whose listener checks that nothing is missing.
func (h *history) open(l *Log) {
	hb, err := hub.Open(h.t.Context(), hub.Config{Log: l, Logger: quiet, LogEvents: 100_000, PublishTimeout: 2 * time.Second})
	require.NoError(h.t, err)
	h.hubs, h.logs = append(h.hubs, hb), append(h.logs, l)
	h.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = hb.Shutdown(ctx)
	})
}

func newHistory(t *testing.T) *history {
	t.Helper()
	return &history{t: t, acked: make(map[string]uint64), tried: make(map[string]bool)}
}

// run publishes with several publishers while f makes trouble.
func (h *history) run(f func()) {
	ctx, cancel := context.WithCancel(h.t.Context())
	var done sync.WaitGroup
	for who := range 4 {
		done.Go(func() { h.publish(ctx, who) })
	}
	f()
	time.Sleep(100 * time.Millisecond)
	cancel()
	done.Wait()
	h.check()
}

// Connections are cut, delayed, refused and held back while hubs publish and follow.
func TestConnectionTrouble(t *testing.T) {
	t.Parallel()
	s := startServer(t, embedded.Config{Listen: "127.0.0.1:0", SlowSync: true})
	h := newHistory(t)
	for range 2 {
		h.open(openLog(t, connectByProxy(t, s.URL()), Config{Stream: "s", Create: &jetstream.StreamConfig{}}))
	}
	h.run(func() {
		for i := range 12 {
			p := proxyOf(h.logs[i%2])
			time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
			switch i / 2 % 6 {
			case 0:
				p.Cut()
			case 1:
				p.Slow(5 * time.Millisecond)
			case 2:
				p.Slow(0)
				p.Hold(testkit.ToServer, true)
			case 3:
				p.Hold(testkit.ToServer, false)
				p.Refuse(true)
				p.Cut()
			case 4:
				p.Refuse(false)
				p.Hold(testkit.ToClient, true)
			case 5:
				p.Cut()
				p.Hold(testkit.ToClient, false)
			}
		}
	})
	require.NotEmpty(t, h.acked)
}

// The server is restarted while hubs publish and follow.
func TestRestartsOfTheServer(t *testing.T) {
	t.Parallel()
	cfg := embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"}
	s := startServer(t, cfg)
	h := newHistory(t)
	for range 2 {
		h.open(openLog(t, connectByProxy(t, s.URL()), Config{Stream: "s", Create: &jetstream.StreamConfig{}}))
	}
	epoch := bounds(t, h.logs[0]).Epoch
	h.run(func() {
		for range 3 {
			time.Sleep(200 * time.Millisecond)
			stop(t, s)
			s = startServer(t, cfg)
			for _, l := range h.logs {
				p := proxyOf(l)
				p.Redirect(s.URL()[len("nats://"):])
			}
		}
	})
	require.Equal(t, epoch, bounds(t, h.logs[0]).Epoch)
}

// Servers of a cluster are restarted one after the other, each time the leader of the stream.
func TestRestartsOfTheLeader(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	h := newHistory(t)
	for i := range 3 {
		h.open(openLog(t, connectByProxy(t, c.servers[i].URL()), Config{Stream: "s", Create: &jetstream.StreamConfig{Replicas: 3}}))
	}
	epoch := bounds(t, h.logs[0]).Epoch
	h.run(func() {
		for range 3 {
			var leader int
			testkit.Eventually(t, func() bool {
				s, err := h.logs[rand.IntN(3)].js.Stream(t.Context(), "s")
				if err != nil || s.CachedInfo().Cluster == nil || s.CachedInfo().Cluster.Leader == "" || len(s.CachedInfo().Cluster.Replicas) != 2 {
					return false
				}
				leader = slices.IndexFunc(c.configs[:], func(c embedded.Config) bool { return c.Name == s.CachedInfo().Cluster.Leader })
				return !slices.ContainsFunc(s.CachedInfo().Cluster.Replicas, func(p *jetstream.PeerInfo) bool { return !p.Current || p.Offline })
			}, "a leader with two peers")
			stop(t, c.servers[leader])
			time.Sleep(300 * time.Millisecond)
			c.servers[leader] = startServer(t, c.configs[leader])
			p := proxyOf(h.logs[leader])
			p.Redirect(c.servers[leader].URL()[len("nats://"):])
		}
	})
	require.Equal(t, epoch, bounds(t, h.logs[0]).Epoch)
}

// A Read never takes a server that lags for the whole: each record that was acknowledged is
// there, whichever server answers.
func TestReadFromALaggingServer(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	var logs [3]*Log
	for i := range logs {
		logs[i] = openLog(t, connectByProxy(t, c.servers[i].URL()), Config{Stream: "s", Create: &jetstream.StreamConfig{Replicas: 3}})
	}
	epoch := bounds(t, logs[0]).Epoch
	for i := range 60 {
		topic := strconv.Itoa(i % 5)
		last := add(t, logs[i%3], rec(topic, strconv.Itoa(i)))[0]
		for _, topics := range [][]string{nil, {topic}, {"0", "1", "2", "3", "4", "none"}} {
			b, err := logs[(i+1)%3].Read(t.Context(), topics, hub.Position{Epoch: epoch, Offset: last.Offset - 1}, last, 10)
			require.NoError(t, err)
			require.Equal(t, []string{strconv.Itoa(i)}, texts(b.Records))
			require.Equal(t, last.Offset, b.UpTo)
			require.False(t, b.Hole)
		}
	}
}

// An error of apply ends Follow as it is.
func TestErrorOfApply(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	failed := errors.New("failed")
	err := l.Follow(t.Context(), hub.Position{Epoch: bounds(t, l).Epoch}, func(hub.Batch) error { return failed })
	require.Equal(t, failed, err)
}

// A cluster of which one server is left takes nothing, and loses nothing. What was sent to it
// meanwhile comes once.
func TestWithoutQuorum(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	l := openLog(t, connectByProxy(t, c.servers[0].URL()), Config{Stream: "s", Create: &jetstream.StreamConfig{Replicas: 3}})
	first := add(t, l, rec("a", "1"))[0]
	f := logkit.Follow(t, l, hub.Position{Epoch: first.Epoch})
	f.Await(1)
	for _, i := range []int{1, 2} {
		stop(t, c.servers[i])
	}
	keyed := hub.Record{Topic: "a", Key: "k", Event: sse.Event{Data: "2"}}
	for range 2 {
		_, err := appendWithin(t, l, 300*time.Millisecond, []hub.Record{keyed})
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	for _, i := range []int{1, 2} {
		c.servers[i] = startServer(t, c.configs[i])
	}
	again := add(t, l, keyed)[0]
	require.Equal(t, hub.Position{Epoch: first.Epoch, Offset: 2}, again)
	require.Equal(t, hub.Bounds{Epoch: first.Epoch, First: 1, Last: 2}, bounds(t, l))
	var data []string
	testkit.Eventually(t, func() bool {
		b, err := l.Read(t.Context(), nil, hub.Position{Epoch: first.Epoch}, again, 10)
		data = texts(b.Records)
		return err == nil && b.UpTo == 2
	}, "the servers to be back")
	require.Equal(t, []string{"1", "2"}, data)
}
