package alarm

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

type sleeper struct {
	Place
	due time.Time // zero: it must not come up
}

// dorm is a queue of sleepers with a lock. It checks that each comes up in time.
type dorm struct {
	sync.Mutex
	t *testing.T
	*Queue[*sleeper]
	woken []*sleeper
}

func newDorm(t *testing.T) *dorm {
	t.Helper()
	d := &dorm{t: t}
	d.Queue = New(func(s *sleeper) *Place { return &s.Place }, d.wake)
	return d
}

func (d *dorm) wake() {
	d.Lock()
	defer d.Unlock()
	var buf [3]*sleeper
	for {
		up := d.Due(buf[:])
		if len(up) == 0 {
			return
		}
		for _, s := range up {
			late := time.Since(s.due)
			require.False(d.t, s.due.IsZero() || late < 0 || late > Resolution, "%v late", late)
			require.False(d.t, s.Waits())
			s.due = time.Time{}
		}
		d.woken = append(d.woken, up...)
	}
}

func (d *dorm) set(s *sleeper, after time.Duration) {
	d.Lock()
	defer d.Unlock()
	s.due = time.Now().Add(max(0, after))
	d.Set(s, after)
	require.True(d.t, s.Waits())
	require.InDelta(d.t, max(0, after), d.Left(s), float64(Resolution))
}

func (d *dorm) remove(s *sleeper) {
	d.Lock()
	defer d.Unlock()
	s.due = time.Time{}
	d.Remove(s)
	require.False(d.t, s.Waits())
}

func (d *dorm) wokenNow() int {
	synctest.Wait()
	d.Lock()
	defer d.Unlock()
	return len(d.woken)
}

func TestQueueWakesInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDorm(t)
		var a, b, c sleeper
		d.set(&a, 10*time.Second)
		d.set(&b, time.Millisecond) // before the first
		d.set(&c, 24*time.Hour)
		time.Sleep(time.Second)
		require.Equal(t, 1, d.wokenNow())
		d.set(&a, 20*time.Second) // later
		d.set(&c, time.Second)    // sooner
		time.Sleep(15 * time.Second)
		require.Equal(t, 2, d.wokenNow())
		d.remove(&a)
		d.remove(&a)
		time.Sleep(15 * time.Second)
		require.Equal(t, 2, d.wokenNow())
		require.Zero(t, d.Len())
		d.set(&a, -time.Second)
		time.Sleep(Resolution)
		require.Equal(t, 3, d.wokenNow())
	})
}

func TestQueueWaitsForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDorm(t)
		d.Set(&sleeper{}, 1<<63-1)
		d.Set(&sleeper{}, 18*365*24*time.Hour)
		time.Sleep(365 * 24 * time.Hour)
		require.Zero(t, d.wokenNow())
		require.Equal(t, 2, d.Len())
		var a sleeper
		d.set(&a, time.Second)
		time.Sleep(2 * time.Second)
		require.Equal(t, 1, d.wokenNow())
	})
}

// Random changes. Each value comes up once for each time that it was set for, unless that was
// changed.
func TestQueueAtRandom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := rand.Uint64()
		t.Log("seed", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		d := newDorm(t)
		sleepers := make([]sleeper, 300)
		for range 20_000 {
			s := &sleepers[r.IntN(len(sleepers))]
			if r.IntN(3) == 0 {
				d.remove(s)
			} else {
				d.set(s, time.Duration(r.Int64N(int64(time.Minute))))
			}
			if r.IntN(10) == 0 {
				time.Sleep(time.Duration(r.Int64N(int64(10 * time.Second))))
			}
			if r.IntN(1000) == 0 { // all come up
				time.Sleep(2 * time.Minute)
				require.NotZero(t, d.wokenNow())
				require.Zero(t, d.Len())
			}
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Zero(t, d.Len())
		for i := range sleepers {
			require.Zero(t, sleepers[i].due, "it has not come up")
		}
	})
}

// A queue that gets empty gives its memory back, and nothing is held that does not wait.
func TestQueueHoldsOnlyWhatWaits(t *testing.T) {
	collected := make(chan struct{})
	d := newDorm(t)
	var stays sleeper
	d.set(&stays, time.Hour)
	func() {
		s := &sleeper{}
		runtime.AddCleanup(s, func(int) { close(collected) }, 0)
		d.set(s, time.Hour)
		d.remove(s)
	}()
	for range 100 {
		runtime.GC()
		select {
		case <-collected:
			d.remove(&stays)
			require.Nil(t, d.heap)
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatal("the queue holds a value that was removed")
}

// BenchmarkQueue opens and ends sessions with an age among 100,000 others.
func BenchmarkQueue(b *testing.B) {
	q := New(func(s *sleeper) *Place { return &s.Place }, func() {})
	for range 100_000 {
		q.Set(new(sleeper), time.Hour+rand.N(time.Hour))
	}
	b.ReportAllocs()
	var s sleeper
	for b.Loop() {
		q.Set(&s, time.Hour+rand.N(time.Hour))
		q.Remove(&s)
	}
}
