package natslog

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
	"github.com/chi-sse/sse/log/natslog/embedded"
)

func TestLimits(t *testing.T) {
	t.Parallel()
	js := connect(t, startServer(t, embedded.Config{MaxPayload: 100_000}))
	l := openLog(t, js, Config{Stream: "s", Create: &jetstream.StreamConfig{}})
	small := openLog(t, js, Config{Stream: "t", Create: &jetstream.StreamConfig{MaxMsgSize: 2000}})
	for _, c := range []struct {
		l       *Log
		records []hub.Record
		limit   LimitError
	}{
		{l, recs("a", 0, 1001), LimitError{"records of an append", 1001, 1000}},
		{l, []hub.Record{rec(strings.Repeat(".", 1030), "")}, LimitError{"bytes of a subject", 3092, maxSubject}},
		{l, []hub.Record{rec("a", "ok"), rec("a", strings.Repeat("x", 100_000))}, LimitError{"bytes of a record", 100_000 + 22, 100_000 - headroom}},
		{small, []hub.Record{rec("a", strings.Repeat("x", 2000))}, LimitError{"bytes of a record", 2000 + 21, 2000 - headroom}},
	} {
		_, err := c.l.Append(t.Context(), c.records)
		var limit *LimitError
		require.ErrorAs(t, err, &limit)
		require.Equal(t, c.limit.Limit, limit.Limit)
		require.Equal(t, c.limit.Max, limit.Max)
		require.InDelta(t, c.limit.Value, limit.Value, 10)
		require.NotErrorIs(t, err, hub.ErrUnknown)
	}
	require.Zero(t, bounds(t, l).Last)

	// What is within the limits fits, whatever headers it has.
	most := 100_000 - headroom - 40
	for _, n := range []int{1, 3} {
		batch := make([]hub.Record, n)
		for i := range batch {
			batch[i] = hub.Record{Topic: "a", Key: strings.Repeat("k", 20) + string(rune('a'+i+10*n)), Event: sse.Event{Data: strings.Repeat("x", most-20)}}
		}
		add(t, l, batch...)
	}
	add(t, l, recs("a", 0, 1000)...)
	require.Equal(t, uint64(1004), bounds(t, l).Last)

	_, err := l.Append(t.Context(), []hub.Record{{Event: sse.Event{ResetID: true}}})
	var field *event.FieldError
	require.ErrorAs(t, err, &field)
	_, err = l.Append(t.Context(), []hub.Record{{Kind: hub.InvalidRecord}})
	require.ErrorContains(t, err, "kind")
	positions, err := l.Append(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, positions)
}

// Known keys in a large batch, which was appended before, or in part.
func TestKeysOfBatches(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	batch := make([]hub.Record, 600)
	for i := range batch {
		batch[i] = hub.Record{Topic: []string{"a", "b.c"}[i%2], Key: string(rune('a' + i)), Event: sse.Event{Data: "x"}}
	}
	first := add(t, l, batch[:300]...)
	add(t, l, recs("a", 1, 1000)...)
	all := add(t, l, batch...)
	require.Equal(t, first, all[:300])
	require.Equal(t, uint64(1600), bounds(t, l).Last)
	require.Equal(t, uint64(1301), all[300].Offset)
	require.Equal(t, all, add(t, l, batch...))
	require.Equal(t, uint64(1600), bounds(t, l).Last)
}

// The keys of a batch that comes again late are found among older records.
func TestKeysOfALateBatch(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	batch := []hub.Record{{Topic: "a", Key: "1"}, {Topic: "b", Key: "2"}}
	first := add(t, l, batch...)
	time.Sleep(4200 * time.Millisecond) // where findKeys begins
	add(t, l, recs("a", 1, 5)...)
	require.Equal(t, first, add(t, l, append(batch, rec("a", "new"))...)[:2])
	require.Equal(t, uint64(8), bounds(t, l).Last)
}

// appendWithin appends records within a time.
func appendWithin(t testing.TB, l *Log, limit time.Duration, records []hub.Record) ([]hub.Position, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return l.Append(ctx, records)
}

// Append without a connection appends nothing, now or later.
func TestAppendWithoutAConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t, embedded.Config{Listen: "127.0.0.1:0", SlowSync: true})
	l := openLog(t, connectByProxy(t, s.URL()), Config{Stream: "s", Create: &jetstream.StreamConfig{}})
	p := proxyOf(l)
	p.Refuse(true)
	p.Cut()
	testkit.Eventually(t, func() bool { return !l.nc.IsConnected() }, "the connection to be lost")
	for _, n := range []int{1, 2} {
		_, err := appendWithin(t, l, 500*time.Millisecond, recs("a", 0, n))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, nats.ErrDisconnected)
		require.NotErrorIs(t, err, hub.ErrUnknown)
	}
	time.AfterFunc(100*time.Millisecond, func() { p.Refuse(false) })
	add(t, l, rec("a", "later"))
	require.Equal(t, uint64(1), bounds(t, l).Last)
	l.nc.Close()
	_, err := l.Append(t.Context(), recs("a", 0, 1))
	require.ErrorIs(t, err, nats.ErrConnectionClosed)
	_, err = l.Bounds(t.Context())
	require.ErrorIs(t, err, nats.ErrConnectionClosed)
}

// A server that gets a message and does not answer leaves it unknown whether it was appended.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	s := startServer(t, embedded.Config{Listen: "127.0.0.1:0", SlowSync: true})
	for _, direction := range []int{testkit.ToServer, testkit.ToClient} {
		l := openLog(t, connectByProxy(t, s.URL()), Config{Stream: newStream(), Create: &jetstream.StreamConfig{}})
		proxyOf(l).Hold(direction, true)
		for _, n := range []int{1, 2} {
			_, err := appendWithin(t, l, 100*time.Millisecond, recs("a", 0, n))
			require.ErrorIs(t, err, hub.ErrUnknown)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		proxyOf(l).Hold(direction, false)
		testkit.Eventually(t, func() bool { return bounds(t, l).Last == 3 }, "the messages to arrive")
	}
}

// A record that is appended after the stream was made anew has a position in the new epoch, though
// the Log has not looked at the stream since. So has one for which a sequence is given twice.
func TestAppendToAnotherEpoch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, embedded.Config{Dir: dir, SlowSync: true})
	for _, n := range []int{1, 2} {
		cfg := Config{Stream: newStream(), Create: &jetstream.StreamConfig{}}
		l, other := openLog(t, connect(t, s), cfg), openLog(t, connect(t, s), cfg)
		before := add(t, l, recs("a", 1, 5)...)[0].Epoch
		deleteStream(t, l, []string{dir})
		_, err := l.js.CreateStream(t.Context(), *l.cfg.Create)
		require.NoError(t, err)
		epoch := bounds(t, other).Epoch
		require.NotEqual(t, before, epoch)
		for i := range 3 {
			got := add(t, l, recs("a", 1, n)...)
			require.Equal(t, hub.Position{Epoch: epoch, Offset: uint64(n*i + 1)}, got[0])
		}

		// The server refuses it at first, because there is no stream.
		deleteStream(t, l, []string{dir})
		time.AfterFunc(100*time.Millisecond, func() { _, _ = l.js.CreateStream(t.Context(), *l.cfg.Create) })
		got := add(t, other, recs("a", 1, n)...)
		require.Equal(t, hub.Position{Epoch: bounds(t, l).Epoch, Offset: 1}, got[0])

		// The stream has lost what was acknowledged, and has other records in its place.
		add(t, l, recs("a", 1, 20)...)
		epoch, newest := l.newest()
		got = add(t, other, rec("a", "1"))
		again, err := l.epochOfNew(t.Context(), epoch, newest, newest-1)
		require.NoError(t, err)
		require.NotEqual(t, epoch, again)
		require.Equal(t, again, bounds(t, other).Epoch)
		require.Equal(t, got[0].Offset, bounds(t, other).Last)
	}
}
