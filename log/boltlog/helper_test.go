package boltlog

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
)

// What the tests of all logs have.
var (
	rec   = logkit.Record
	recs  = logkit.Records
	add   = logkit.Append
	texts = logkit.Texts
)

// quiet is a Config that logs nothing, and that has small steps.
func quiet(cfg Config) Config {
	if cfg.indexEvery == 0 {
		cfg.indexEvery = 100
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	return cfg
}

// newPath returns the path of a file that does not exist.
func newPath(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "events.db")
}

// openLog opens the file. The test's end closes it, if the test does not.
func openLog(t testing.TB, path string, cfg Config) *Log {
	t.Helper()
	l, err := Open(path, quiet(cfg))
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// epochOf returns the epoch of l.
func epochOf(t testing.TB, l *Log) uint64 {
	t.Helper()
	b, err := l.Bounds(t.Context())
	require.NoError(t, err)
	return b.Epoch
}

// all reads all records of the topics after the offset, page by page.
func all(t testing.TB, l *Log, after uint64, topics ...string) []hub.Record {
	t.Helper()
	b, err := l.Bounds(t.Context())
	require.NoError(t, err)
	var records []hub.Record
	for after < b.Last {
		page, err := l.Read(t.Context(), topics, hub.Position{Epoch: b.Epoch, Offset: after}, hub.Position{Epoch: b.Epoch, Offset: b.Last}, 100)
		require.NoError(t, err)
		require.Greater(t, page.UpTo, after, "a page goes on")
		require.False(t, page.Hole)
		after = page.UpTo
		records = append(records, page.Records...)
	}
	return records
}

// follow starts to follow l after the offset. Each batch is sent on the channel that it
// returns; what Follow returns on the other.
func follow(ctx context.Context, l *Log, after hub.Position) (batches chan hub.Batch, ended chan error) {
	batches, ended = make(chan hub.Batch, 1000), make(chan error, 1)
	go func() {
		ended <- l.Follow(ctx, after, func(b hub.Batch) error {
			batches <- b
			return nil
		})
	}()
	return batches, ended
}

// copyFile copies a file into another, as cp does: an existing one stays the same file.
func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, b, 0o600))
}
