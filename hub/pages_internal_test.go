package hub

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Pages that somebody still asks for are kept, and the others are dropped.
func TestPagesAreKeptWhileTheyAreUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &pages{byKey: make(map[pageKey]*page)}
		for _, topics := range []string{"used", "unused"} {
			p, mine := c.claim(pageKey{topics: topics})
			require.True(t, mine)
			p.size = 7
			c.mu.Lock()
			c.keepLocked(p)
			c.mu.Unlock()
		}
		for range 5 {
			time.Sleep(keptFor / 2)
			_, mine := c.claim(pageKey{topics: "used"})
			require.False(t, mine)
		}
		synctest.Wait()
		c.mu.Lock()
		require.Len(t, c.order, 1)
		require.EqualValues(t, 7, c.size)
		c.mu.Unlock()
		time.Sleep(2 * keptFor)
		synctest.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		require.Empty(t, c.order)
		require.Empty(t, c.byKey)
		require.Zero(t, c.size)
		require.Nil(t, c.sweep)
	})
}
