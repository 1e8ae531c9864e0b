package natslog

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
)

// leaderless answers as long as down is set as a cluster does that is electing a leader: a server
// that lags describes the stream.
type leaderless struct {
	jetstream.JetStream
	down  atomic.Bool
	asked atomic.Int64
}

func (j *leaderless) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	s, err := j.JetStream.Stream(ctx, name)
	if err == nil && j.down.Load() {
		j.asked.Add(1)
		info := *s.CachedInfo()
		info.State.LastSeq--
		info.State.Msgs--
		info.Cluster = &jetstream.ClusterInfo{Name: "cluster"}
		return described{s, &info}, nil
	}
	return s, err
}

// described is a stream of which a server has given the info.
type described struct {
	jetstream.Stream
	info *jetstream.StreamInfo
}

func (s described) CachedInfo() *jetstream.StreamInfo { return s.info }

// While the stream has no leader, a server that lags may describe it. That is no sign that records
// were lost.
func TestNoLeader(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	js := &leaderless{JetStream: l.js}
	l.js = js
	last := add(t, l, recs("a", 1, 3)...)[2]
	logkit.Follow(t, l, hub.Position{Epoch: last.Epoch}).Await(3)
	js.down.Store(true)
	_, err := l.Bounds(t.Context())
	require.ErrorIs(t, err, errNoLeader)
	require.True(t, isTemporary(err))
	ctx, cancel := context.WithTimeout(t.Context(), rewindPatience+time.Second)
	defer cancel()
	for ctx.Err() == nil && js.asked.Load() < 5 {
		require.Error(t, l.Follow(ctx, last, func(hub.Batch) error { return nil }))
		time.Sleep(rewindPatience / 4)
	}
	js.down.Store(false)
	require.Equal(t, hub.Bounds{Epoch: last.Epoch, First: 1, Last: 3}, bounds(t, l), "it has begun no epoch")
}
