package redislog

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
	"github.com/chi-sse/sse/internal/testkit"
)

// A follower notices a connection on which nothing comes any longer.
func TestFollowOfAHalfOpenConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, direction := range []int{testkit.ToServer, testkit.ToClient} {
		c, p := through(t, s)
		l := openLog(t, c, Config{Name: newName()})
		b := bounds(t, l)
		f := logkit.Follow(t, l, hub.Position{Epoch: b.Epoch, Offset: b.Last})
		f.Await(0)
		p.Hold(direction, true)
		require.Error(t, f.End())
		p.Hold(direction, false)
		f = logkit.Follow(t, l, hub.Position{Epoch: b.Epoch, Offset: b.Last})
		add(t, l, rec("a", "1"))
		require.Equal(t, []string{"1"}, texts(f.Await(1)))
	}
}

// Connections are cut, delayed, refused and held back while hubs publish and follow.
func TestConnectionTrouble(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	h := logkit.NewHistory[*Log](t)
	for range 2 {
		h.Open(openLog(t, clientByProxy(t, s, nil), Config{}))
	}
	epoch := bounds(t, h.Logs[0]).Epoch
	h.Run(func() { logkit.Trouble([2]*testkit.Proxy{proxyOf(h.Logs[0]), proxyOf(h.Logs[1])}) })
	require.Equal(t, epoch, bounds(t, h.Logs[0]).Epoch)
}

// The server is killed and started again while hubs publish and follow. Its file has all that it
// has acknowledged.
func TestRestartsOfTheServer(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--appendonly", "yes", "--appendfsync", "always")
	h := logkit.NewHistory[*Log](t)
	for range 2 {
		h.Open(openLog(t, s.client(nil), Config{}))
	}
	epochs := map[uint64]bool{bounds(t, h.Logs[0]).Epoch: true}
	h.Run(func() {
		for range 3 {
			time.Sleep(200 * time.Millisecond)
			s.kill()
			s.start()
			epochs[bounds(t, h.Logs[0]).Epoch] = true
		}
	})
	require.Len(t, epochs, 4)
}

// A server that does not answer for a while holds up publications. When it goes on, each is there
// once.
func TestStoppedServer(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	l := openLog(t, s.client(nil), Config{})
	keyed := hub.Record{Topic: "a", Key: "k", Event: sse.Event{Data: "1"}}
	start := bounds(t, l)
	f := logkit.Follow(t, l, hub.Position{Epoch: start.Epoch, Offset: start.Last})
	f.Await(0)
	s.signal(syscall.SIGSTOP)
	_, err := appendWithin(t, l, 200*time.Millisecond, []hub.Record{keyed})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, hub.ErrUnknown)
	began := time.Now()
	_, err = l.Append(t.Context(), []hub.Record{keyed})
	require.ErrorIs(t, err, hub.ErrUnknown, "the server's answer takes too long")
	require.Less(t, time.Since(began), 2*callTimeout)
	require.Error(t, f.End())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = l.Bounds(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	s.signal(syscall.SIGCONT)
	pos := add(t, l, keyed)[0]
	require.EqualValues(t, 1, s.do("XLEN", l.keys[keyEvents]))
	require.Equal(t, start.Epoch, pos.Epoch)
}

// While there is no server, Append waits; what was not sent is not appended.
func TestNoServer(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--appendonly", "yes", "--appendfsync", "always")
	l := openLog(t, s.client(nil), Config{})
	first := add(t, l, rec("a", "1"))[0]
	s.kill()
	requireRefusal(t, "connection refused", func(ctx context.Context) error { _, err := l.Append(ctx, recs("a", 2, 1)); return err })
	done := make(chan error, 1)
	go func() {
		_, err := l.Append(t.Context(), recs("a", 3, 2))
		done <- err
	}()
	time.Sleep(50 * time.Millisecond)
	s.start()
	require.NoError(t, testkit.Receive(t, done))
	require.NotEqual(t, first.Epoch, bounds(t, l).Epoch)
	data, _, err := readFrom(t, l, bounds(t, l).First-1)
	require.NoError(t, err)
	require.Equal(t, []string{"1", "3", "4"}, data)
}

// A server without memory refuses whole batches, and says why.
func TestNoMemory(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--maxmemory", "8mb", "--maxmemory-policy", "noeviction")
	l := openLog(t, s.client(nil), Config{})
	batch := []hub.Record{rec("a", strings.Repeat("x", 50_000)), rec("b", strings.Repeat("y", 50_000)), {Topic: "a", Key: "k"}}
	var err error
	n := 0
	for ; err == nil; n++ {
		batch[2].Key = strings.Repeat("k", n+1)
		_, err = appendWithin(t, l, 20*time.Second, batch)
	}
	var full *MemoryError
	require.ErrorAs(t, err, &full)
	require.NotErrorIs(t, err, hub.ErrUnknown)
	require.EqualValues(t, 3*(n-1), s.do("XLEN", l.keys[keyEvents]))
	epoch := bounds(t, l).Epoch
	s.do("CONFIG", "SET", "maxmemory", "100mb")
	add(t, l, batch...)
	require.Equal(t, epoch, bounds(t, l).Epoch)
}

// A server that may evict the log is refused. One that evicts it all the same is noticed.
func TestEviction(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--maxmemory", "20mb", "--maxmemory-policy", "allkeys-lru")
	_, err := Open(t.Context(), s.client(nil), Config{Name: "chat"})
	var unfit *ServerError
	require.ErrorAs(t, err, &unfit)
	require.ErrorContains(t, err, "maxmemory-policy is allkeys-lru")
	s.do("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
	l := openLog(t, s.client(nil), Config{})
	first := add(t, l, rec("a", "1"))[0]
	s.do("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
	c := s.client(nil)
	testkit.Eventually(t, func() bool {
		_ = c.Set(t.Context(), newName(), strings.Repeat("x", 1<<20), 0).Err()
		return s.do("EXISTS", l.keys[keyEvents], l.keys[keyMeta]).(int64) < 2
	}, "the server to evict a key of the log")
	s.do("CONFIG", "SET", "maxmemory", "0")
	require.NotEqual(t, first.Epoch, add(t, l, rec("a", "2"))[0].Epoch)
}

// requireRefusal requires that f returns an error with the text when its context ends, and that it is
// known that nothing was appended. It is not while the server is being asked.
func requireRefusal(t *testing.T, text string, f func(context.Context) error) {
	t.Helper()
	testkit.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		err := f(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, hub.ErrReadOnly)
		return !errors.Is(err, hub.ErrUnknown) && strings.Contains(err.Error(), text)
	}, "the error to have the text "+text)
}

// A server that has just been started loads its data, and one whose replicas are missing refuses to
// write; both are waited for.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	l := openLog(t, s.client(nil), Config{})
	s.do("CONFIG", "SET", "min-replicas-to-write", "1")
	requireRefusal(t, "NOREPLICAS", func(ctx context.Context) error { _, err := l.Append(ctx, recs("a", 1, 1)); return err })
	time.AfterFunc(100*time.Millisecond, func() { s.do("CONFIG", "SET", "min-replicas-to-write", "0") })
	add(t, l, rec("a", "2"))
	data, _, err := readFrom(t, l, bounds(t, l).First-1)
	require.NoError(t, err)
	require.Equal(t, []string{"2"}, data)

	big := startServer(t, "--appendonly", "yes", "--enable-debug-command", "yes", "--key-load-delay", "30")
	l = openLog(t, big.client(nil), Config{})
	for i := range 20 {
		big.do("DEBUG", "POPULATE", "3000", newName(), "10")
		add(t, l, recs("a", i, 1)...)
	}
	big.do("BGREWRITEAOF")
	testkit.Eventually(t, func() bool { return big.info("aof_rewrite_in_progress") == 0 && big.info("aof_rewrite_scheduled") == 0 }, "the file to be written")
	big.kill()
	big.launch()
	add(t, l, rec("a", "next"))
	f := logkit.Follow(t, l, hub.Position{Epoch: bounds(t, l).Epoch, Offset: bounds(t, l).First - 1})
	require.Len(t, f.Await(21), 21)
}

// A master that has become a replica takes nothing, and is not read from.
func TestReplica(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	c, proxy := through(t, p.master)
	l := openLog(t, c, Config{})
	add(t, l, rec("a", "1"))
	p.awaitOffset()
	move(proxy, p.replica)
	requireRefusal(t, "READONLY", func(ctx context.Context) error { _, err := l.Append(ctx, recs("a", 2, 1)); return err })
	requireRefusal(t, "READONLY", func(ctx context.Context) error { _, err := l.Bounds(ctx); return err })
	err := l.Follow(t.Context(), hub.Position{Epoch: l.epoch}, func(hub.Batch) error { return nil })
	require.ErrorContains(t, err, "READONLY")
}

// An error of apply ends Follow as it is.
func TestErrorOfApply(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	failed := errors.New("failed")
	b := bounds(t, l)
	err := l.Follow(t.Context(), hub.Position{Epoch: b.Epoch, Offset: b.Last}, func(hub.Batch) error { return failed })
	require.Equal(t, failed, err)
}

// Replicas are waited for, and their lack is an error although the record is there.
func TestReplicas(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	c, _ := through(t, p.master)
	l := openLog(t, c, Config{Replicas: 1, ReplicaTimeout: 100 * time.Millisecond})
	add(t, l, recs("a", 1, 3)...)
	require.EqualValues(t, 3, p.replica.do("XLEN", l.keys[keyEvents]))
	p.link.Hold(testkit.ToClient, true)
	keyed := hub.Record{Topic: "a", Key: "k", Event: sse.Event{Data: "4"}}
	for range 2 { // the second time nothing new is to be replicated
		_, err := appendWithin(t, l, 20*time.Second, []hub.Record{keyed})
		var few *ReplicasError
		require.ErrorAs(t, err, &few)
		require.Equal(t, ReplicasError{0, 1}, *few)
		require.ErrorIs(t, err, hub.ErrUnknown)
	}
	require.EqualValues(t, 4, p.master.do("XLEN", l.keys[keyEvents]))
	p.link.Hold(testkit.ToClient, false)
	testkit.Eventually(t, func() bool {
		_, err := l.Append(t.Context(), []hub.Record{keyed})
		return err == nil
	}, "the replica to have it")
	require.EqualValues(t, 4, p.replica.do("XLEN", l.keys[keyEvents]))
}
