package hub

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDeque(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		var d deque[*int]
		var want []*int
		grow := 0
		for step := range 4000 {
			if step%200 == 0 {
				grow = 20 + r.IntN(60) // percent
			}
			if len(want) == 0 || r.IntN(100) < grow {
				v := new(step)
				d.push(v)
				want = append(want, v)
			} else {
				require.Same(t, want[0], d.pop(), "seed %d, step %d", seed, step)
				want = want[1:]
			}
			require.Equal(t, len(want), d.len())
			if n := len(want); n > 0 {
				i := r.IntN(n)
				require.Same(t, want[i], d.at(i), "seed %d, step %d", seed, step)
				require.Same(t, want[n-1], d.at(n-1))
			}
			size := len(d.ring)
			require.Equal(t, 0, size&(size-1), "the ring's length")
			require.LessOrEqual(t, size, max(64, 4*len(want)+1), "the ring of %d", len(want))
		}
		held := 0
		for _, v := range d.ring {
			if v != nil {
				held++
			}
		}
		require.Equal(t, len(want), held, "what was popped is not held")
	}
}
