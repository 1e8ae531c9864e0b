package hub_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
)

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]hub.Config{
		"a negative number of events": {LogEvents: -1},
		"a negative size":             {LogSize: -1},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := hub.New(cfg)
			require.Nil(t, h)
			require.ErrorContains(t, err, "hub: Config.")
		})
	}
}

func TestNewHasAnEpochOfItsOwn(t *testing.T) {
	t.Parallel()
	seen := make(map[uint64]bool)
	for range 100 {
		h, err := hub.New(hub.Config{LogAge: -1})
		require.NoError(t, err)
		require.Zero(t, h.Position().Offset)
		require.False(t, seen[h.Position().Epoch])
		seen[h.Position().Epoch] = true
	}
}
