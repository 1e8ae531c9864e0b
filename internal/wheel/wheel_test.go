package wheel

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Periods may be what clients make up. Nothing of a wheel stays when its values have come up.
func TestSetForgetsWheels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Int64
		s := NewSet(func(int, *Wheel[int]) { up.Add(1) })
		for i := range 1000 {
			period := time.Second + time.Duration(i)
			s.Of(period).Add(i, period)
		}
		require.Equal(t, 1000, s.Len())
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.EqualValues(t, 1000, up.Load())
		require.Zero(t, s.Len())
	})
}

// A value that waits again and again stays on one wheel, and a forgotten wheel still works.
func TestWheelOfAValueThatComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const period = time.Second
		var w *Wheel[int]
		times, last := 0, time.Now()
		s := NewSet(func(v int, on *Wheel[int]) {
			require.Same(t, w, on)
			waited := time.Since(last)
			require.GreaterOrEqual(t, waited, period-period/Spokes)
			require.LessOrEqual(t, waited, period+period/Spokes)
			last = time.Now()
			if times++; times < 20 {
				on.Add(v, period)
			}
		})
		w = s.Of(period)
		w.Add(1, period)
		time.Sleep(10 * period)
		require.Same(t, w, s.Of(period))
		time.Sleep(20 * period)
		synctest.Wait()
		require.Equal(t, 20, times)
		require.Zero(t, s.Len())
		require.NotSame(t, w, s.Of(period))
		last = time.Now()
		w.Add(1, period)
		time.Sleep(5 * period)
		synctest.Wait()
		require.Equal(t, 21, times)
		require.Zero(t, w.Len())
		require.Equal(t, 1, s.Len(), "the other wheel is none of its business")
	})
}
