//go:build unix

package boltlog

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A process is killed while it publishes, again and again. Whatever it had acknowledged is in
// the file, in order, and no offset comes twice. SSE_BOLTLOG_KILLS says how often; 20 times
// without it.
func TestKill(t *testing.T) {
	t.Parallel()
	kills := 20
	if n, err := strconv.Atoi(os.Getenv("SSE_BOLTLOG_KILLS")); err == nil {
		kills = n
	}
	path := newPath(t)
	known := map[uint64]string{} // every record that was acknowledged or found, by offset
	var epoch, seen uint64
	total := 0
	for range kills {
		acknowledged := publishAndKill(t, path)
		total += len(acknowledged)
		for offset, data := range acknowledged {
			_, twice := known[offset]
			require.False(t, twice, "offset %d came twice", offset)
			known[offset] = data
		}
		l := openLog(t, path, Config{})
		if epoch == 0 {
			epoch = epochOf(t, l)
		}
		require.Equal(t, epoch, epochOf(t, l), "a kill makes no new epoch")
		next := map[string]int{} // by process and publisher
		batch := map[string]int{}
		for _, r := range all(t, l, seen) {
			require.Greater(t, r.Offset, seen)
			seen = r.Offset
			if data, ok := known[r.Offset]; ok {
				require.Equal(t, data, r.Event.Data)
			}
			known[r.Offset] = r.Event.Data
			delete(acknowledged, r.Offset)
			i := strings.LastIndexByte(r.Event.Data, '-')
			publisher := r.Event.Data[:i]
			n, err := strconv.Atoi(r.Event.Data[i+1:])
			require.NoError(t, err)
			require.Equal(t, next[publisher], n, "in order, and none is missing")
			next[publisher]++
			batch[publisher]++
			pos := add(t, l, r)
			require.Equal(t, r.Offset, pos[0].Offset, "its key is known")
		}
		require.Empty(t, acknowledged, "acknowledged, and not in the file")
		for publisher, n := range batch {
			p, err := strconv.Atoi(publisher[strings.IndexByte(publisher, '-')+1:])
			require.NoError(t, err)
			require.Zero(t, n%(1+p%3), "a batch is all or none")
		}
		require.NoError(t, l.Close())
	}
	require.Greater(t, total, 20*kills, "the test has published something")
	t.Logf("%d kills, %d acknowledged records", kills, total)
}

// publishAndKill runs a process that publishes, and kills it after a while. It returns what was
// acknowledged, by offset.
func publishAndKill(t *testing.T, path string) map[uint64]string {
	t.Helper()
	cmd := child(t, "publish", path)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	acknowledged := map[uint64]string{}
	in := bufio.NewReader(out)
	opened := false
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			break // the rest of a line counts for nothing
		}
		if !opened {
			opened = true
			require.Equal(t, "open\n", line)
			time.AfterFunc(time.Duration(rand.IntN(200))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			continue
		}
		var offset uint64
		var data string
		_, err = fmt.Sscan(line, &offset, &data)
		require.NoError(t, err)
		require.NotContains(t, acknowledged, offset)
		acknowledged[offset] = data
	}
	require.True(t, opened)
	require.ErrorContains(t, cmd.Wait(), "killed")
	return acknowledged
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	require.NoError(t, child(t, "full", newPath(t)).Run())
}
