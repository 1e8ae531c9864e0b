package redislog

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
	"github.com/chi-sse/sse/internal/testkit"
)

// pair is a server with a replica.
type pair struct {
	t               testing.TB
	master, replica *server
	link            *testkit.Proxy // through which the replica reads from the master
}

func startPair(t testing.TB) *pair {
	t.Helper()
	p := &pair{t: t, master: startServer(t)}
	p.link = testkit.NewProxy(t, p.master.addr)
	host, port, err := net.SplitHostPort(p.link.Addr())
	require.NoError(t, err)
	p.replica = startServer(t, "--replicaof", host+" "+port)
	p.awaitReplica()
	return p
}

func (p *pair) awaitReplica() {
	p.t.Helper()
	testkit.Eventually(p.t, func() bool {
		return parseInfo(p.replica.do("INFO", "replication").(string))["master_link_status"] == "up"
	}, "the replica to have what the master has")
}

// awaitOffset waits until the replica has all that the master has.
func (p *pair) awaitOffset() {
	p.t.Helper()
	testkit.Eventually(p.t, func() bool {
		return p.master.info("master_repl_offset") == p.replica.info("master_repl_offset")
	}, "the replica to catch up")
}

// promote makes the replica a master.
func (p *pair) promote() {
	p.t.Helper()
	p.replica.do("REPLICAOF", "NO", "ONE")
}

// through returns a client whose connections go through a proxy, which can lead elsewhere later.
func through(t testing.TB, s *server) (*redis.Client, *testkit.Proxy) {
	t.Helper()
	c := clientByProxy(t, s, nil)
	p, _ := proxies.Load(redis.UniversalClient(c))
	return c, p.(*testkit.Proxy)
}

// move makes the proxy p lead to another server.
func move(p *testkit.Proxy, s *server) {
	p.Redirect(s.addr)
	p.Cut()
}

// After a failover that has lost records, there is another epoch, whether the first node that comes
// to the new master has seen those records or not. No position of the lost ones is taken for one of
// the new ones, and the ids of both may be the same.
func TestFailoverThatLosesRecords(t *testing.T) {
	t.Parallel()
	for _, sawFirst := range []bool{true, false} {
		p := startPair(t)
		c1, proxy1 := through(t, p.master)
		c2, proxy2 := through(t, p.master)
		saw, notSaw := openLog(t, c1, Config{}), openLog(t, c2, Config{})
		kept := add(t, saw, recs("a", 1, 5)...)
		epoch := kept[0].Epoch
		p.awaitOffset()
		f2 := logkit.Follow(t, notSaw, hub.Position{Epoch: epoch})
		f2.Await(5)
		f1 := logkit.Follow(t, saw, hub.Position{Epoch: epoch})

		p.link.Hold(testkit.ToClient, true) // from now on the replica gets nothing
		proxy2.Hold(testkit.ToClient, true) // nor the second node
		lost := add(t, saw, recs("a", 6, 5)...)
		f1.Await(10)
		require.Equal(t, epoch, lost[4].Epoch)
		p.master.kill()
		move(proxy1, p.replica)
		move(proxy2, p.replica)
		proxy2.Hold(testkit.ToClient, false)
		p.promote()

		first, second := saw, notSaw
		if !sawFirst {
			first, second = notSaw, saw
		}
		fresh := add(t, first, recs("a", 11, 3)...)
		require.NotEqual(t, epoch, fresh[0].Epoch)
		again := add(t, second, recs("a", 14, 3)...)
		require.Equal(t, fresh[0].Epoch, again[0].Epoch, "one other epoch, not two")
		for _, f := range []*logkit.Follower{f1, f2} {
			err := f.End() // of the connection, or of the epoch
			require.Error(t, err)
		}
		for _, l := range []*Log{saw, notSaw} {
			for _, pos := range []hub.Position{kept[4], lost[0], lost[4]} {
				require.ErrorIs(t, l.Follow(t.Context(), pos, func(hub.Batch) error { return nil }), hub.ErrEpoch)
				_, err := l.Read(t.Context(), nil, pos, hub.Position{Epoch: pos.Epoch, Offset: pos.Offset + 1<<40}, 100)
				require.ErrorIs(t, err, hub.ErrEpoch)
			}
			b := bounds(t, l)
			require.Equal(t, hub.Position{Epoch: b.Epoch, Offset: b.Last}, again[2])
			batch, err := l.Read(t.Context(), nil, hub.Position{Epoch: b.Epoch, Offset: b.First - 1}, again[2], 100)
			require.NoError(t, err)
			require.Equal(t, []string{"1", "2", "3", "4", "5", "11", "12", "13", "14", "15", "16"}, texts(batch.Records))
		}
	}
}

// A master that was demoted has lost what its replica did not have. If it is promoted again before any
// node has come to the other server, the same process serves the log.
func TestDemotedAndPromotedAgain(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	l := openLog(t, p.master.client(nil), Config{})
	before := add(t, l, recs("a", 1, 2)...)[1]
	p.awaitOffset()
	p.link.Hold(testkit.ToClient, true)
	add(t, l, rec("a", "lost"))
	require.NoError(t, l.Close())
	p.promote()
	p.master.do("REPLICAOF", "127.0.0.1", port(p.replica))
	testkit.Eventually(t, func() bool {
		return parseInfo(p.master.do("INFO", "replication").(string))["master_link_status"] == "up"
	}, "the master to be demoted")
	p.master.do("REPLICAOF", "NO", "ONE")
	other := openLog(t, p.master.client(nil), Config{}) // which has seen nothing before
	require.EqualValues(t, 2, p.master.do("XLEN", l.keys[keyEvents]))
	require.NotEqual(t, before.Epoch, bounds(t, other).Epoch)
}

// A key that was replicated is known after a failover: the event is published once.
func TestKeysAfterAFailover(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	c, proxy := through(t, p.master)
	l := openLog(t, c, Config{})
	keyed := hub.Record{Topic: "a", Key: "k", Event: sse.Event{Data: "1"}}
	before := add(t, l, keyed)[0]
	p.awaitOffset()
	p.master.kill()
	move(proxy, p.replica)
	p.promote()
	after := add(t, l, keyed)[0]
	require.NotEqual(t, before.Epoch, after.Epoch)
	require.Equal(t, 1, int(p.replica.do("XLEN", l.keys[keyEvents]).(int64)))
	require.Equal(t, bounds(t, l).Last, after.Offset)
}

// What happens to a server, and whether another epoch begins.
func TestEpochs(t *testing.T) {
	t.Parallel()
	aof := []string{"--appendonly", "yes", "--appendfsync", "always"}
	for name, test := range map[string]struct {
		args []string
		f    func(t *testing.T, s *server, l *Log)
		same bool
		kept bool // the records are still there
	}{
		"FLUSHALL":              {nil, func(_ *testing.T, s *server, _ *Log) { s.do("FLUSHALL") }, false, false},
		"the stream is deleted": {nil, func(_ *testing.T, s *server, l *Log) { s.do("DEL", l.keys[keyEvents]) }, false, false},
		"the hash is deleted":   {nil, func(_ *testing.T, s *server, l *Log) { s.do("DEL", l.keys[keyMeta]) }, false, true},
		"restart without files": {nil, func(_ *testing.T, s *server, _ *Log) { s.kill(); s.start() }, false, false},
		"restart with a file":   {aof, func(_ *testing.T, s *server, _ *Log) { s.shutdown(); s.start() }, false, true},
		"kill with a file":      {aof, func(_ *testing.T, s *server, _ *Log) { s.kill(); s.start() }, false, true},
		"a first replica comes": {nil, func(_ *testing.T, s *server, _ *Log) { attach(s) }, true, true},
		"the server was a replica for a moment": {nil, func(_ *testing.T, s *server, _ *Log) {
			other := startServer(s.t)
			s.do("REPLICAOF", "127.0.0.1", port(other))
			testkit.Eventually(s.t, func() bool {
				return parseInfo(s.do("INFO", "replication").(string))["master_link_status"] == "up"
			}, "the server to be a replica")
			s.do("REPLICAOF", "NO", "ONE")
		}, false, false},
		"the scripts are forgotten":      {nil, func(_ *testing.T, s *server, _ *Log) { s.do("SCRIPT", "FLUSH") }, true, true},
		"all connections are killed":     {nil, func(_ *testing.T, s *server, _ *Log) { s.do("CLIENT", "KILL", "TYPE", "normal") }, true, true},
		"an older copy is put back":      {nil, putBack, false, true},
		"the file is written anew":       {aof, func(_ *testing.T, s *server, _ *Log) { s.do("BGREWRITEAOF") }, true, true},
		"the data are loaded once again": {nil, func(_ *testing.T, s *server, _ *Log) { s.do("DEBUG", "RELOAD") }, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, append(test.args, "--enable-debug-command", "yes")...)
			l := openLog(t, s.client(nil), Config{})
			other := openLog(t, s.client(nil), Config{})
			add(t, l, recs("a", 1, 2)...)
			before := bounds(t, l)
			last := add(t, l, recs("a", 3, 1)...)[0]
			f := logkit.Follow(t, other, hub.Position{Epoch: last.Epoch})
			f.Await(3)
			test.f(t, s, l)
			// The other one comes first, which need not have done anything since then.
			next := add(t, other, recs("a", 4, 1)...)[0]
			now := bounds(t, l)
			require.Equal(t, test.same, next.Epoch == last.Epoch)
			require.Equal(t, hub.Position{Epoch: now.Epoch, Offset: now.Last}, next)
			batch, err := l.Read(t.Context(), nil, hub.Position{Epoch: now.Epoch, Offset: now.First - 1}, next, 100)
			require.NoError(t, err)
			require.NotEmpty(t, batch.Records)
			require.Equal(t, test.kept, len(batch.Records) > 1, "%v", texts(batch.Records))
			if test.same {
				require.Equal(t, before.First, now.First)
				require.Greater(t, next.Offset, last.Offset)
				return
			}
			require.ErrorIs(t, l.Follow(t.Context(), last, func(hub.Batch) error { return nil }), hub.ErrEpoch)
			testkit.Eventually(t, func() bool { // its error may be that of the connection
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				defer cancel()
				return other.Follow(ctx, last, func(hub.Batch) error { return nil }) != nil
			}, "Follow to return")
			require.Error(t, f.End())
		})
	}
}

// putBack puts the keys back as they were before the last record was appended. Only a hub that
// has seen that record can know of it: l has, and looks first.
func putBack(t *testing.T, s *server, l *Log) {
	t.Helper()
	c := s.client(nil)
	copies := make(map[string]string)
	for _, key := range l.keys {
		if dump, err := c.Dump(t.Context(), key).Result(); err == nil {
			copies[key] = dump
		}
	}
	add(t, l, rec("a", "lost"))
	for key, dump := range copies {
		require.NoError(t, c.RestoreReplace(t.Context(), key, 0, dump).Err())
	}
	bounds(t, l)
}

func port(s *server) string {
	_, port, _ := net.SplitHostPort(s.addr)
	return port
}

// attach starts a replica of s.
func attach(s *server) {
	s.t.Helper()
	before := parseInfo(s.do("INFO", "replication").(string))["master_replid"]
	startServer(s.t, "--replicaof", "127.0.0.1 "+port(s))
	testkit.Eventually(s.t, func() bool {
		return parseInfo(s.do("INFO", "replication").(string))["connected_slaves"] == "1"
	}, "the replica to come")
	require.NotEqual(s.t, before, parseInfo(s.do("INFO", "replication").(string))["master_replid"], "otherwise this test shows nothing")
}

// An epoch that has begun with records of the one before numbers them anew, and says which are gone.
func TestNextEpochOfAKeptStream(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	l := openLog(t, s.client(nil), Config{MaxEvents: 10})
	for i := range 50 {
		add(t, l, recs("a", i, 1)...)
	}
	before := bounds(t, l)
	for range 3 {
		s.do("HSET", l.keys[keyMeta], "run", "another")
		s.do("HSET", l.keys[keyMeta], "replid", "another")
		b := bounds(t, l)
		require.NotEqual(t, before.Epoch, b.Epoch)
		require.Equal(t, before.Last-before.First, b.Last-b.First)
		batch, err := l.Read(t.Context(), nil, hub.Position{Epoch: b.Epoch, Offset: b.First - 1}, hub.Position{Epoch: b.Epoch, Offset: b.Last}, 100)
		require.NoError(t, err)
		require.Equal(t, "49", texts(batch.Records)[len(batch.Records)-1])
		require.GreaterOrEqual(t, len(batch.Records), 10)
		before = b
	}
}

// A server that was killed and has a file that is written every second may have lost records. Nobody
// can know, so there is another epoch.
func TestRestartWithACutFile(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--appendonly", "yes", "--appendfsync", "no")
	l := openLog(t, s.client(nil), Config{})
	last := add(t, l, recs("a", 1, 100)...)[99]
	add(t, l, recs("a", 101, 1)...)
	s.kill()
	names, err := filepath.Glob(filepath.Join(s.dir, "appendonlydir", "*.incr.aof"))
	require.NoError(t, err)
	require.Len(t, names, 1)
	info, err := os.Stat(names[0])
	require.NoError(t, err)
	require.NoError(t, os.Truncate(names[0], info.Size()-10))
	s.start()
	b := bounds(t, l)
	require.NotEqual(t, last.Epoch, b.Epoch)
	batch, err := l.Read(t.Context(), nil, hub.Position{Epoch: b.Epoch, Offset: b.First - 1}, hub.Position{Epoch: b.Epoch, Offset: b.Last}, 1000)
	require.NoError(t, err)
	require.Len(t, batch.Records, 100)
}
