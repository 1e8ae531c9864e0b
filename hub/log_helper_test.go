package hub_test

import (
	"os"
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
	switch name := os.Getenv("SSE_HUB_LOG"); {
	case cfg.Log != nil:
	case name == "":
		h, err := hub.New(cfg)
		require.NoError(t, err)
		return h
	case name == "memory":
		log := logtest.NewMemory(1)
		log.Keep(cfg.LogEvents)
		cfg.Log = log
	default:
		require.Fail(t, "SSE_HUB_LOG is unknown", name)
	}
	h, err := hub.Open(t.Context(), cfg)
	require.NoError(t, err)
	return h
}
