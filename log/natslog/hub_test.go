package natslog

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
	l := newLog(t)
	h := sinks.New(t, hub.Config{}, l)
	traffic := func(clients int) (messages, bytes uint64) {
		h.Join(clients, 300)
		before := l.nc.Stats()
		h.Publish(300, 10)
		h.Await()
		after := l.nc.Stats()
		return after.InMsgs - before.InMsgs, after.InBytes - before.InBytes
	}
	messages, bytes := traffic(1)
	require.GreaterOrEqual(t, messages, uint64(300))
	moreMessages, moreBytes := traffic(299)
	require.Less(t, moreMessages, messages+100, "and not 300 times as many")
	require.Less(t, moreBytes, 2*bytes)
}

// Many clients that come back at once to the same cold place read each page once.
func TestReturnOfManyClients(t *testing.T) {
	t.Parallel()
	logkit.CheckReturn(t, newLog(t))
}
