package pglog

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/pgtest"
	"github.com/chi-sse/sse/internal/testkit"
)

// copyFiles copies the data of a server that is not running, and returns a server of the copy at
// another port.
func (s *server) copyFiles(t testing.TB) *server {
	t.Helper()
	files, err := pgtest.NewFolder()
	require.NoError(t, err)
	t.Cleanup(files.Remove)
	files.Port = s.Port
	out, err := exec.Command("cp", "-a", filepath.Join(s.Dir, "data"), filepath.Join(files.Dir, "data")).CombinedOutput()
	require.NoError(t, err, string(out))
	return &server{files}
}

// A server that crashes and comes back is the same log, and a Follow goes on by itself.
func TestRestartOfTheServer(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pool := connect(t, s.dsn("postgres", "postgres"))
	migrate(t, pool)
	l := openLog(t, pool, Config{})
	r := startReading(t, l)
	before := boundsOf(t, l)
	for i := range 3 {
		add(t, l, rec("a", "appended"))
		pool.Reset()
		require.NoError(t, Publish(t.Context(), pool, "a", sse.Event{Data: "published"}))
		s.kill()
		done := make(chan struct{})
		go func() { // it waits for the server
			defer close(done)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			for { // a connection that the server had closed may have been used
				if _, err := l.Append(ctx, []hub.Record{{Topic: "a", Key: strconv.Itoa(i), Event: sse.Event{Data: "meanwhile"}}}); err == nil || ctx.Err() != nil {
					return
				}
			}
		}()
		time.Sleep(50 * time.Millisecond)
		require.NoError(t, s.start())
		<-done
		require.Equal(t, []string{"appended", "published", "meanwhile"}, texts(r.await(3 * (i + 1))[3*i:]))
	}
	require.Equal(t, hub.Bounds{Epoch: before.Epoch, First: 1, Last: 9}, boundsOf(t, l))
}

// A standby that is promoted may lack what the server had, so the log has another epoch.
func TestPromotion(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pool := connect(t, s.dsn("postgres", "postgres"))
	migrate(t, pool)
	l := openLog(t, pool, Config{})
	before := boundsOf(t, l)
	add(t, l, recs("a", 1, 3)...)

	files, err := pgtest.NewFolder()
	require.NoError(t, err)
	t.Cleanup(files.Remove)
	standby := &server{files}
	require.NoError(t, standby.run("pg_basebackup", "-D", "data", "-R", "-c", "fast", "-d", s.dsn("postgres", "postgres")))
	require.NoError(t, standby.start())

	// A read-only Log follows the standby.
	other := connect(t, standby.dsn("postgres", "postgres"))
	readOnly := openLog(t, other, Config{ReadOnly: true})
	r := startReading(t, readOnly)
	require.Equal(t, []string{"1", "2", "3"}, texts(r.await(3)))
	add(t, l, rec("a", "4"))
	r.await(4)
	require.Equal(t, before.Epoch, boundsOf(t, readOnly).Epoch)
	writer := openLog(t, other, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = writer.Append(ctx, recs("a", 5, 1)) // it waits for the promotion
	require.ErrorIs(t, err, context.DeadlineExceeded)

	require.NoError(t, Publish(t.Context(), pool, "a", sse.Event{Data: "lost, perhaps"}))
	s.kill()
	require.NoError(t, standby.run("pg_ctl", "promote", "-D", "data"))
	following := startReading(t, writer)
	pos := add(t, writer, rec("a", "after"))
	require.NotEqual(t, before.Epoch, pos[0].Epoch)
	testkit.Eventually(t, func() bool {
		following.mu.Lock()
		defer following.mu.Unlock()
		for _, err := range following.errs {
			if err != nil {
				testkit.ErrorIs(t, err, hub.ErrEpoch)
				return true
			}
		}
		return len(following.got) > 4
	}, "the other epoch to be noticed")
	require.Equal(t, pos[0].Epoch, boundsOf(t, writer).Epoch)
	require.Equal(t, uint64(1), boundsOf(t, writer).First, "the records are kept")
}

// A dump that is restored into another cluster is another log, and what was committed but had no
// number is not lost, although the transactions have other ids there.
func TestDump(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pool := connect(t, s.dsn("postgres", "postgres"))
	for range 500 { // so that the ids are higher than in the other cluster
		execute(t, pool, "SELECT pg_current_xact_id()")
	}
	migrate(t, pool)
	l := openLog(t, pool, Config{})
	add(t, l, recs("a", 1, 3)...)
	require.NoError(t, Publish(t.Context(), pool, "a", sse.Event{Data: "4"}))
	require.NoError(t, Publish(t.Context(), pool, "a", sse.Event{Data: "5"}))
	require.NoError(t, s.run("pg_dump", "-f", "dump", "-n", "sse", s.dsn("postgres", "postgres")))

	other := startServer(t)
	require.NoError(t, os.Rename(filepath.Join(s.Dir, "dump"), filepath.Join(other.Dir, "dump")))
	require.NoError(t, other.run("psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", "dump", other.dsn("postgres", "postgres")))
	otherPool := connect(t, other.dsn("postgres", "postgres"))
	require.NoError(t, Publish(t.Context(), otherPool, "a", sse.Event{Data: "6"}))
	restored := openLog(t, otherPool, Config{})
	pos := add(t, restored, rec("a", "7"))
	require.NotEqual(t, boundsOf(t, l).Epoch, pos[0].Epoch)
	require.NoError(t, Publish(t.Context(), otherPool, "a", sse.Event{Data: "8"}))
	require.Equal(t, []string{"1", "2", "3", "4", "5", "6", "7", "8"}, texts(startReading(t, restored).await(8)))
}

// A copy of the files has the same log. A hub that has seen more begins another epoch.
func TestCopyOfTheFiles(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pool := connect(t, s.dsn("postgres", "postgres"))
	migrate(t, pool)
	l := openLog(t, pool, Config{})
	r := startReading(t, l)
	add(t, l, recs("a", 1, 3)...)
	r.await(3)
	before := boundsOf(t, l)
	s.Signal(syscall.SIGINT) // fast shutdown
	c := s.copyFiles(t)
	require.NoError(t, s.start())
	add(t, l, recs("a", 4, 2)...)
	r.await(5)
	s.kill()
	require.NoError(t, c.start())
	readOnly := openLog(t, connect(t, c.dsn("postgres", "postgres")), Config{ReadOnly: true})
	require.Equal(t, uint64(3), boundsOf(t, readOnly).Last)
	testkit.Eventually(t, func() bool { return boundsOf(t, l).Epoch != before.Epoch }, "another epoch")

	// So does one that finds another record where it has seen one.
	r.stop() // it would find that too
	now := boundsOf(t, l)
	pool.Reset()
	var at time.Time
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT at FROM sse.log WHERE number = 3").Scan(&at))
	l.saw(mark{now.Epoch, 3, at})
	require.NoError(t, l.checkMark(t.Context(), hub.Position{Epoch: now.Epoch}))
	execute(t, pool, "UPDATE sse.log SET at = at + interval '1 second' WHERE number = 3")
	err := readOnly.checkMark(t.Context(), hub.Position{Epoch: now.Epoch})
	require.NoError(t, err, "it has seen nothing")
	readOnly.saw(mark{now.Epoch, 3, time.Now()})
	rewound := new(RewoundError)
	require.ErrorAs(t, readOnly.checkMark(t.Context(), hub.Position{Epoch: now.Epoch}), &rewound)
	require.ErrorIs(t, l.checkMark(t.Context(), hub.Position{Epoch: now.Epoch}), hub.ErrEpoch)
	require.NotEqual(t, now.Epoch, boundsOf(t, l).Epoch)
}
