package redislog

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
	"github.com/chi-sse/sse/internal/testkit"
)

// Three sentinels promote the replica of a master that was killed. The hubs find the new master,
// and have another epoch. Then the replica's new replica is promoted on request.
func TestSentinel(t *testing.T) {
	t.Parallel()
	p := &pair{t: t, master: startServer(t)}
	p.replica = startServer(t, "--replicaof", "127.0.0.1 "+port(p.master))
	p.awaitReplica()
	var addrs []string
	for range 3 {
		addrs = append(addrs, startSentinel(t, p.master).addr)
	}
	one := redis.NewClient(&redis.Options{Addr: addrs[0]})
	t.Cleanup(func() { _ = one.Close() })
	testkit.Eventually(t, func() bool {
		state, err := one.Do(t.Context(), "SENTINEL", "CKQUORUM", "events").Text()
		replicas, err2 := one.Do(t.Context(), "SENTINEL", "REPLICAS", "events").Slice()
		return err == nil && err2 == nil && state[:2] == "OK" && len(replicas) == 1
	}, "the sentinels to know each other and the replica")

	h := logkit.NewHistory[*Log](t)
	for range 2 {
		c := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "events", SentinelAddrs: addrs})
		t.Cleanup(func() { _ = c.Close() })
		h.Open(openLog(t, c, Config{Replicas: 1, ReplicaTimeout: time.Second}))
	}
	before := bounds(t, h.Logs[0]).Epoch
	f := logkit.Follow(t, h.Logs[1], hub.Position{Epoch: before})
	h.Run(func() {
		time.Sleep(200 * time.Millisecond)
		p.master.kill()
		testkit.Eventually(t, func() bool {
			return parseInfo(p.replica.do("INFO", "replication").(string))["role"] == "master"
		}, "the replica to be promoted")
		p.master.start() // the sentinels make it a replica
		testkit.Eventually(t, func() bool {
			return parseInfo(p.master.do("INFO", "replication").(string))["master_link_status"] == "up"
		}, "the old master to be a replica")
		time.Sleep(200 * time.Millisecond)
	})
	require.NotEqual(t, before, bounds(t, h.Logs[0]).Epoch)
	require.Error(t, f.End())
	require.EqualValues(t, p.replica.do("XLEN", h.Logs[0].keys[keyEvents]), p.master.do("XLEN", h.Logs[0].keys[keyEvents]))
}

// startSentinel starts a sentinel that watches a master.
func startSentinel(t testing.TB, master *server) *server {
	t.Helper()
	s := &server{t: t, program: "redis-server", addr: testkit.FreeAddress(t), dir: t.TempDir()}
	file := filepath.Join(s.dir, "sentinel.conf")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `port %s
dir %s
bind 127.0.0.1
logfile %s
sentinel monitor events 127.0.0.1 %s 2
sentinel down-after-milliseconds events 500
sentinel failover-timeout events 3000
`, port(s), s.dir, filepath.Join(s.dir, "log"), port(master)), 0o600))
	s.startWith(file, "--sentinel")
	t.Cleanup(s.kill)
	return s
}
