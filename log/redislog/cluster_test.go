package redislog

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
	"github.com/chi-sse/sse/internal/testkit"
)

// startCluster starts a cluster of three masters, of which each has a replica.
func startCluster(t testing.TB) (servers []*server, c *redis.ClusterClient) {
	t.Helper()
	var addrs []string
	for range 6 {
		s := startServer(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", port(&server{addr: testkit.FreeAddress(t)}), "--cluster-replica-validity-factor", "0")
		servers, addrs = append(servers, s), append(addrs, s.addr)
	}
	busPort := func(s *server) string { return s.args[slices.Index(s.args, "--cluster-port")+1] }
	for i, s := range servers[:3] {
		s.do("CLUSTER", "ADDSLOTSRANGE", 5461*i+min(i, 1), min(16383, 5461*(i+1)))
		s.do("CLUSTER", "SET-CONFIG-EPOCH", i+1)
	}
	for _, s := range servers[1:] {
		s.do("CLUSTER", "MEET", "127.0.0.1", port(servers[0]), busPort(servers[0]))
	}
	for i, s := range servers[3:] {
		master := servers[i].do("CLUSTER", "MYID")
		testkit.Eventually(t, func() bool {
			return strings.Contains(fmt.Sprint(s.do("CLUSTER", "NODES")), master.(string))
		}, "a replica to hear of its master")
		s.do("CLUSTER", "REPLICATE", master)
	}
	testkit.Eventually(t, func() bool {
		for _, s := range servers {
			info := fmt.Sprint(s.do("CLUSTER", "INFO"))
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:6") {
				return false
			}
		}
		for _, s := range servers[3:] {
			if parseInfo(s.do("INFO", "replication").(string))["master_link_status"] != "up" {
				return false
			}
		}
		return true
	}, "the cluster to be complete")
	c = redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	t.Cleanup(func() { _ = c.Close() })
	return servers, c
}

// All keys of a log are in one slot of a cluster. When the slot is moved, or its master fails, hubs
// go to the new one, and there is another epoch.
func TestCluster(t *testing.T) {
	t.Parallel()
	servers, c := startCluster(t)
	h := logkit.NewHistory[*Log](t)
	for range 2 {
		h.Open(openLog(t, c, Config{Name: "chat", Replicas: 1}))
	}
	l := h.Logs[0]
	slot := servers[0].do("CLUSTER", "KEYSLOT", l.keys[0]).(int64)
	for _, key := range l.keys {
		require.Equal(t, slot, servers[0].do("CLUSTER", "KEYSLOT", key))
	}
	masterOf := func() *server {
		master, err := c.MasterForKey(t.Context(), l.keys[0])
		require.NoError(t, err)
		return servers[slices.IndexFunc(servers, func(s *server) bool { return s.addr == master.Options().Addr })]
	}
	before := bounds(t, l).Epoch
	h.Run(func() {
		time.Sleep(200 * time.Millisecond)
		from := masterOf()
		to := servers[(slices.Index(servers, from)+1)%3]
		to.do("CLUSTER", "SETSLOT", slot, "IMPORTING", from.do("CLUSTER", "MYID"))
		from.do("CLUSTER", "SETSLOT", slot, "MIGRATING", to.do("CLUSTER", "MYID"))
		args := []any{"MIGRATE", "127.0.0.1", port(to), "", 0, 5000, "KEYS"}
		for _, key := range l.keys {
			args = append(args, key)
		}
		from.do(args...)
		for _, s := range []*server{to, from, servers[(slices.Index(servers, from)+2)%3]} {
			s.do("CLUSTER", "SETSLOT", slot, "NODE", to.do("CLUSTER", "MYID"))
		}
		testkit.Eventually(t, func() bool { c.ReloadState(t.Context()); return masterOf() == to }, "the slot to be moved")
		time.Sleep(200 * time.Millisecond)
	})
	moved := bounds(t, l).Epoch
	require.NotEqual(t, before, moved)

	f := logkit.Follow(t, l, hub.Position{Epoch: moved, Offset: bounds(t, l).Last})
	f.Await(0)
	master := masterOf()
	master.kill()
	pos := add(t, openLog(t, c, Config{}), rec("a", "after the failover"))[0] // no replica is left to wait for
	require.NotEqual(t, moved, pos.Epoch)
	require.Error(t, f.End())
	testkit.Eventually(t, func() bool {
		data, _, err := readFrom(t, h.Logs[1], pos.Offset-1)
		return err == nil && len(data) == 1
	}, "the other hub to find the new master")
}
