package hub_test

import (
	"context"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/hub/logtest"
)

// newHub returns a hub without a Log, or of the Log that the environment variable SSE_HUB_LOG
// names, which drops events just as the hub's own memory does. So the tests can be run over
// each.
func newHub(t testing.TB, cfg hub.Config) *hub.Hub {
	t.Helper()
	h, _ := newHubAndLog(t, cfg)
	return h
}

// newHubAndLog is newHub, and returns the Log if it is a [logtest.Memory].
func newHubAndLog(t testing.TB, cfg hub.Config) (*hub.Hub, *logtest.Memory) {
	t.Helper()
	log, _ := cfg.Log.(*logtest.Memory)
	var applied *appliedLog
	switch name := os.Getenv("SSE_HUB_LOG"); {
	case cfg.Log != nil:
	case name == "":
		h, err := hub.New(cfg)
		require.NoError(t, err)
		return h, nil
	case name == "memory":
		log = logtest.NewMemory(1)
		log.Keep(cfg.LogEvents)
		applied = &appliedLog{Memory: log}
		cfg.Log = applied
	default:
		require.Fail(t, "SSE_HUB_LOG is unknown", name)
	}
	h, err := hub.Open(t.Context(), cfg)
	require.NoError(t, err)
	if applied != nil {
		applied.hub.Store(h)
	}
	return h, log
}

// appliedLog is a Log for one hub. Append returns when the hub has applied the records, so that
// a test can rely on it as without a Log.
type appliedLog struct {
	*logtest.Memory
	hub atomic.Pointer[hub.Hub]
}

func (l *appliedLog) Append(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
	positions, err := l.Memory.Append(ctx, records)
	if h := l.hub.Load(); err == nil && h != nil {
		_ = h.Wait(ctx, positions[len(positions)-1]) // it fails if the hub is shut down
	}
	return positions, err
}

// notWithALog are tests that do not apply to a hub of a Log, and why. For a test with subtests
// that run it over each transport, it is the name before those.
var notWithALog = map[string]string{
	"TestGapWhileTheSessionOpens":        "the hub still has pages of what the Log has just dropped, so the gap may be smaller or none",
	"TestGapBySize":                      "what is too much for the hub's memory is still in the Log",
	"TestGapByAge":                       "what is too old for the hub's memory is still in the Log",
	"TestGapOnlyWhereSomethingIsMissing": "a Log does not say of which topics it has dropped records",
}

// applies reports whether t applies to the hubs that newHub makes.
func applies(t *testing.T) bool {
	t.Helper()
	name, _, _ := strings.Cut(t.Name(), "/")
	return os.Getenv("SSE_HUB_LOG") == "" || notWithALog[name] == ""
}
