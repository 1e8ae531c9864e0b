package redislog

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/hub/logtest"
	"github.com/chi-sse/sse/internal/testkit"
)

var names atomic.Int64

// newName returns a name for a log that nobody else uses in the test.
func newName() string { return fmt.Sprint("log", names.Add(1)) }

// runSuite runs the suite over a server.
func runSuite(t *testing.T, s *server) {
	t.Helper()
	open := func(t testing.TB, name string) *Log {
		t.Helper()
		return openLog(t, clientByProxy(t, s, nil), Config{Name: name, MaxEvents: -1, MaxBytes: -1, MaxAge: -1})
	}
	keysOf := func(log hub.Log) (all []any) {
		for _, key := range log.(*Log).keys {
			all = append(all, key)
		}
		return all
	}
	logtest.Run(t, logtest.Config{
		Open: func(t testing.TB) hub.Log {
			t.Helper()
			l := open(t, newName())
			t.Cleanup(func() { s.do(append([]any{"UNLINK"}, keysOf(l)...)...) })
			return l
		},
		Reopen: func(t testing.TB, log hub.Log) hub.Log {
			t.Helper()
			return open(t, log.(*Log).cfg.Name)
		},
		Shared: true,
		Renew: func(t testing.TB, log hub.Log) {
			t.Helper()
			s.do(append([]any{"DEL"}, keysOf(log)...)...)
		},
		Truncate: func(t testing.TB, log hub.Log, first uint64) {
			t.Helper()
			truncate(t, s, log.(*Log), first)
		},
		LoseAnswer: func(t testing.TB, log hub.Log) {
			t.Helper()
			loseAnswer(t, s, log.(*Log))
		},
		Insert: func(t testing.TB, log hub.Log, _ string, data []byte) {
			t.Helper()
			a := &appending{args: []any{"", data}}
			require.NoError(t, log.(*Log).sendGroup([]*appending{a}))
		},
		Damage: func(t testing.TB, log hub.Log, offset uint64) {
			t.Helper()
			l := log.(*Log)
			damage.Run(t.Context(), s.client(nil), l.keys[:1], idOf(offset, l.base).String())
		},
		Million:  os.Getenv("SSE_LOG_MILLION") != "",
		Patience: time.Minute,
	})
}

// damage makes an entry of a stream one that is no record. It copies the stream.
var damage = redis.NewScript(`
local entries = redis.call('XRANGE', KEYS[1], '-', '+')
redis.call('DEL', KEYS[1])
for _, entry in ipairs(entries) do
  local data = entry[2][2]
  if entry[1] == ARGV[1] then data = '\255\254' end
  redis.call('XADD', KEYS[1], entry[1], 'e', data)
end
`)

// truncate drops the records before the offset as a hub does.
func truncate(t testing.TB, s *server, l *Log, first uint64) {
	t.Helper()
	at := idOf(first, l.base)
	script := redis.NewScript(`
		local before = redis.call('XREVRANGE', KEYS[1], '(' .. ARGV[1], '-', 'COUNT', 1)[1]
		if before then
			local dropped = redis.call('XTRIM', KEYS[1], 'MINID', ARGV[1])
			redis.call('HSET', KEYS[2], 'gone', before[1])
			redis.call('HINCRBY', KEYS[2], 'gone-n', dropped)
		end`)
	err := script.Run(t.Context(), s.client(nil), l.keys[:2], at.String()).Err()
	if err != redis.Nil {
		require.NoError(t, err)
	}
}

var proxies sync.Map // of Logs' names and clients

// clientByProxy returns a client of s whose connections go through a proxy of its own.
func clientByProxy(t testing.TB, s *server, f func(*redis.Options)) *redis.Client {
	t.Helper()
	p := testkit.NewProxy(t, s.addr)
	c := s.client(func(opts *redis.Options) {
		opts.Addr = p.Addr()
		if f != nil {
			f(opts)
		}
	})
	proxies.Store(redis.UniversalClient(c), p)
	return c
}

// proxyOf returns the proxy through which l is connected.
func proxyOf(l *Log) *testkit.Proxy {
	p, _ := proxies.Load(l.node.source)
	return p.(*testkit.Proxy)
}

// loseAnswer makes the next append of l lose its answer: its connections are cut when the server
// has got it.
func loseAnswer(t testing.TB, s *server, l *Log) {
	t.Helper()
	p := proxyOf(l)
	before := bounds(t, l).Last
	p.Hold(testkit.ToClient, true)
	c := s.client(nil)
	ctx := context.WithoutCancel(t.Context())
	go func() {
		for t.Context().Err() == nil {
			newest, err := c.XRevRangeN(ctx, l.keys[keyEvents], "+", "-", 1).Result()
			if err == nil && len(newest) == 1 {
				if at, _ := parseID(newest[0].ID); at != idOf(before, l.base) {
					break
				}
			}
			time.Sleep(time.Millisecond)
		}
		p.Cut()
		p.Hold(testkit.ToClient, false)
	}()
}

func TestConformance(t *testing.T) {
	t.Parallel()
	runSuite(t, startServer(t))
}

// Valkey is not in every Debian, so its absence is not reported as a missing tool.
func TestConformanceWithValkey(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("valkey-server"); err != nil {
		t.Log("valkey-server is not on the PATH; to run the suite over it too, install it, for example with: apt-get install valkey-server")
		return
	}
	runSuite(t, startProgram(t, "valkey-server"))
}
