package logkit

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Soak returns how long a soak makes trouble, and the seed of its choices, which it logs: the values
// of the environment variables with that name and with the suffix _SEED. Without them, the length is
// what standard says, and the seed is random.
func Soak(t *testing.T, name string, standard time.Duration) (length time.Duration, seed uint64) {
	t.Helper()
	length, seed = standard, rand.Uint64()
	var err error
	if text := os.Getenv(name); text != "" {
		length, err = time.ParseDuration(text)
		require.NoError(t, err, name)
	}
	if text := os.Getenv(name + "_SEED"); text != "" {
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, name+"_SEED")
	}
	t.Logf("seed %d, for %v", seed, length)
	return length, seed
}
