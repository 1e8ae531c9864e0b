package redislog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
	"github.com/chi-sse/sse/internal/sinks"
)

// What a node gets from the server does not depend on how many clients it has.
func TestTrafficOfANode(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	h := sinks.New(t, hub.Config{}, openLog(t, s.client(nil), Config{}))
	traffic := func(clients int) (out float64) {
		h.Join(clients, 300)
		before := s.info("total_net_output_bytes")
		h.Publish(300, 10)
		h.Await()
		return s.info("total_net_output_bytes") - before
	}
	one := traffic(1)
	require.Less(t, traffic(299), 2*one, "and not 300 times as much")
	require.Equal(t, 1, int(s.info("blocked_clients")))
}

// Many clients that come back at once to the same cold place read each page once.
func TestReturnOfManyClients(t *testing.T) {
	t.Parallel()
	logkit.CheckReturn(t, newLog(t))
}
