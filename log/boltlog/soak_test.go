//go:build unix

package boltlog

import (
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/internal/testkit"
)

// TestSoak kills a server while it publishes, again and again, and starts it on the same file
// and address. Clients read the stream all the while. It checks that every event that was
// acknowledged reached every client once and in order, or that the client was told of a gap
// there; that each gap was due, because the log had dropped acknowledged events; and that an
// event that reached one client, acknowledged or not, reached all.
//
// SSE_BOLTLOG_SOAK says how often the server is killed; 20 times without it.
func TestSoak(t *testing.T) {
	kills := 20
	if n, err := strconv.Atoi(os.Getenv("SSE_BOLTLOG_SOAK")); err == nil {
		kills = n
	}
	s := &soak{path: newPath(t), addr: testkit.FreeAddress(t), acknowledged: map[uint64]string{}}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	// Three stay connected as well as they can. Two leave all the time, and one is away for so
	// long that the log drops what it has missed.
	clients := []*soakClient{
		{},
		{},
		{},
		{stay: 50, away: 20 * time.Millisecond},
		{stay: 500, away: 200 * time.Millisecond},
		{stay: 700, away: 4 * time.Second},
	}
	var reading sync.WaitGroup
	for _, c := range clients {
		c.soak = s
		reading.Go(func() { c.read(ctx) })
	}

	began := time.Now()
	for i := range kills {
		s.serveAndKill(t)
		if (i+1)%100 == 0 {
			t.Logf("%d kills after %.0f s", i+1, time.Since(began).Seconds())
		}
	}
	seconds := time.Since(began).Seconds()

	// The last process only serves until all clients have everything.
	p := s.start(t, "0")
	require.True(t, p.opened(t))
	head := s.acknowledgedUpTo()
	for _, c := range clients {
		c.hurry.Store(true)
		require.Eventually(t, func() bool { return c.upTo.Load() >= head }, time.Minute, 5*time.Millisecond,
			"a client is at %d and must get up to %d", c.upTo.Load(), head)
	}
	time.Sleep(100 * time.Millisecond) // for an event that was appended, not acknowledged, and is after the head
	stop()
	reading.Wait()
	p.kill(t)

	delivered, gaps := s.check(t, clients)
	t.Logf("%d kills, %d acknowledged, %d delivered to %d clients, %d gaps, %.1f s",
		kills, len(s.acknowledged), delivered, len(clients), gaps, seconds)
	require.Greater(t, len(s.acknowledged), kills, "the test has published something")
}

// serveAndKill runs a server, and kills it after a while: mostly while it publishes, sometimes
// while it starts.
func (s *soak) serveAndKill(t *testing.T) {
	t.Helper()
	p := s.start(t, "4")
	if rand.IntN(8) == 0 {
		time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
	} else {
		require.True(t, p.opened(t))
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
	}
	p.kill(t)
}

// check compares what the clients got with what was acknowledged. It returns the number of
// events that the clients got together, and of the gaps that they were told of.
func (s *soak) check(t *testing.T, clients []*soakClient) (delivered, gaps int) {
	t.Helper()
	events := maps.Clone(s.acknowledged) // and those that were only appended
	for i, c := range clients {
		require.NoError(t, c.err)
		delivered += len(c.got)
		gaps += len(c.gaps)
		last := uint64(0)
		for _, e := range c.got {
			if e.offset <= last {
				require.Fail(t, "an event came twice, or out of order", "client %d got %d after %d", i, e.offset, last)
			}
			last = e.offset
			if data, ok := events[e.offset]; ok && data != e.data {
				require.Fail(t, "an offset has two events", "%d is %s and, for client %d, %s", e.offset, data, i, e.data)
			}
			events[e.offset] = e.data
		}
	}
	offsets := map[string]uint64{}
	for offset, data := range events {
		if old, ok := offsets[data]; ok {
			require.Fail(t, "an event has two offsets", "%s is at %d and at %d", data, old, offset)
		}
		offsets[data] = offset
	}
	for i, c := range clients {
		got := map[uint64]bool{}
		for _, e := range c.got {
			got[e.offset] = true
		}
		for offset, data := range events {
			if got[offset] == c.inGap(offset) {
				require.Fail(t, "a client must get an event or be told of a gap, and not both", "client %d, %s at %d: got %v", i, data, offset, got[offset])
			}
		}
		for _, g := range c.gaps {
			require.Equal(t, "expired", g.reason)
			missed, held := 0, 0
			for offset := range s.acknowledged {
				if offset > g.after && offset <= g.upTo {
					missed++
				}
				if offset > g.upTo && offset <= g.head {
					held++
				}
			}
			require.Positive(t, missed, "client %d was told of a gap from %d to %d, where nothing acknowledged is missing", i, g.after, g.upTo)
			require.GreaterOrEqual(t, held, soakEvents-soakEvents/16-soakLag, "the log must still have had what client %d was told is missing", i)
		}
	}
	return delivered, gaps
}
