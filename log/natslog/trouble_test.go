package natslog

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
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

// Connections are cut, delayed, refused and held back while hubs publish and follow.
func TestConnectionTrouble(t *testing.T) {
	t.Parallel()
	s := startServer(t, embedded.Config{Listen: "127.0.0.1:0", SlowSync: true})
	h := logkit.NewHistory[*Log](t)
	for range 2 {
		h.Open(openLog(t, connectByProxy(t, s.URL()), Config{Stream: "s", Create: &jetstream.StreamConfig{}}))
	}
	records := h.Run(func() { logkit.Trouble([2]*testkit.Proxy{proxyOf(h.Logs[0]), proxyOf(h.Logs[1])}) })
	requireDense(t, records)
}

// requireDense requires that no offset is left out.
func requireDense(t *testing.T, records []hub.Record) {
	t.Helper()
	for i, r := range records {
		require.Equal(t, uint64(i+1), r.Offset)
	}
}

// The server is restarted while hubs publish and follow.
func TestRestartsOfTheServer(t *testing.T) {
	t.Parallel()
	cfg := embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"}
	s := startServer(t, cfg)
	h := logkit.NewHistory[*Log](t)
	for range 2 {
		h.Open(openLog(t, connectByProxy(t, s.URL()), Config{Stream: "s", Create: &jetstream.StreamConfig{}}))
	}
	epoch := bounds(t, h.Logs[0]).Epoch
	records := h.Run(func() {
		for range 3 {
			time.Sleep(200 * time.Millisecond)
			stop(t, s)
			s = startServer(t, cfg)
			for _, l := range h.Logs {
				p := proxyOf(l)
				p.Redirect(s.URL()[len("nats://"):])
			}
		}
	})
	requireDense(t, records)
	require.Equal(t, epoch, bounds(t, h.Logs[0]).Epoch)
}

// Servers of a cluster are restarted one after the other, each time the leader of the stream.
func TestRestartsOfTheLeader(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	h := logkit.NewHistory[*Log](t)
	for i := range 3 {
		h.Open(openLog(t, connectByProxy(t, c.servers[i].URL()), Config{Stream: "s", Create: &jetstream.StreamConfig{Replicas: 3}}))
	}
	epoch := bounds(t, h.Logs[0]).Epoch
	records := h.Run(func() {
		for range 3 {
			var leader int
			testkit.Eventually(t, func() bool {
				s, err := h.Logs[rand.IntN(3)].js.Stream(t.Context(), "s")
				if err != nil || s.CachedInfo().Cluster == nil || s.CachedInfo().Cluster.Leader == "" || len(s.CachedInfo().Cluster.Replicas) != 2 {
					return false
				}
				leader = slices.IndexFunc(c.configs[:], func(c embedded.Config) bool { return c.Name == s.CachedInfo().Cluster.Leader })
				return !slices.ContainsFunc(s.CachedInfo().Cluster.Replicas, func(p *jetstream.PeerInfo) bool { return !p.Current || p.Offline })
			}, "a leader with two peers")
			stop(t, c.servers[leader])
			time.Sleep(300 * time.Millisecond)
			c.servers[leader] = startServer(t, c.configs[leader])
			p := proxyOf(h.Logs[leader])
			p.Redirect(c.servers[leader].URL()[len("nats://"):])
		}
	})
	requireDense(t, records)
	require.Equal(t, epoch, bounds(t, h.Logs[0]).Epoch)
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
