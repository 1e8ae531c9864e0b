package main

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub/logtest"
)

const slot = 5 * time.Second // in which reconnections are counted

// gather makes a crowd of clients follow the feed of p's servers. The channel that it returns receives what
// each follower ends with.
func gather(t *testing.T, p *pool, crowd int) <-chan error {
	t.Helper()
	followed := make(chan error, crowd)
	c := p.client()
	for range crowd {
		go func() { followed <- follow(t.Context(), c, "http://test") }()
	}
	time.Sleep(time.Second)
	require.EqualValues(t, crowd, p.nodes[0].open.Load())
	return followed
}

// finish ends the feed, and checks that nobody has lost anything.
func finish(t *testing.T, f *feed, followed <-chan error) {
	t.Helper()
	f.end()
	for range cap(followed) {
		require.NoError(t, <-followed)
	}
}

// 2,000 clients connect at the same time. Then a second server is added. The rotation moves half
// of them to it, evenly over a fifth of the age, and nothing is lost.
func TestRotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const (
			crowd  = 2000
			age    = 10 * time.Minute
			first  = age / 5 // how long the first rotation takes
			events = 25      // one every minute: more than two ages
		)
		log := logtest.NewMemory(1)
		s := newServer(log)
		s.maxAge = age
		s.streams.Heartbeat.Period = -1 // it would be most of the test's work
		var p pool
		p.add(startPipe(t, s))
		f := newFeed(t, log)
		followed := gather(t, &p, crowd)
		began := time.Now()
		other := *s
		p.add(startPipe(t, &other))

		for i := range events {
			require.NoError(t, f.publish(t.Context()))
			time.Sleep(time.Minute)
			if i == 10 { // all have rotated once
				old, added := p.nodes[0].open.Load(), p.nodes[1].open.Load()
				t.Logf("after the first rotation, the servers have %d and %d clients", old, added)
				assert.InDelta(t, crowd/2, added, crowd/10)
				assert.EqualValues(t, crowd, old+added)
			}
		}
		slots := p.since(began, slot)
		finish(t, f, followed)

		mean := float64(crowd) * float64(slot) / float64(first)
		peak, total := 0, 0
		for _, n := range slots {
			peak, total = max(peak, n), total+n
		}
		t.Logf("%d reconnections, %d at most in %v; the mean of the first rotation is %.1f: peak/mean %.2f",
			total, peak, slot, mean, float64(peak)/mean)
		assert.Greater(t, total, 2*crowd, "two rotations")
		assert.Less(t, float64(peak), 2*mean)
	})
}

// A server with many clients drains, and another one takes them. WithDrainOver spreads that.
func TestDrainOfACrowd(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		over  time.Duration
		crowd int // enough for the rate to be even
	}{
		"at once":       {0, 500},
		"over a minute": {time.Minute, 2000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log := logtest.NewMemory(1)
				s := newServer(log)
				s.over = tt.over
				old := startPipe(t, s)
				var p pool
				p.add(old)
				f := newFeed(t, log)
				followed := gather(t, &p, tt.crowd)
				p.add(startPipe(t, newServer(log)))

				began := time.Now()
				old.stop()
				for range 10 {
					require.NoError(t, f.publish(t.Context()))
					time.Sleep(10 * time.Second)
				}
				require.NoError(t, <-old.done)
				require.EqualValues(t, tt.crowd, p.nodes[1].open.Load())
				slots := p.since(began, time.Second)
				finish(t, f, followed)

				peak, total := 0, 0
				for _, n := range slots {
					peak, total = max(peak, n), total+n
				}
				t.Logf("%d reconnections in %d s, %d at most in a second", total, len(slots), peak)
				assert.Equal(t, tt.crowd, total, "each has reconnected once")
				if tt.over > 0 {
					assert.Less(t, float64(peak), 2*float64(tt.crowd)/tt.over.Seconds(), "the rate is even")
				}
			})
		})
	}
}
