package redislog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
)

// history checks what two hubs of a log apply while there is trouble.
type history struct {
	t    *testing.T
	hubs []*hub.Hub
	logs []*Log

	mu    sync.Mutex
	acked map[string]hub.Position // of the keys that were acknowledged
	tried map[string]bool
}

func newHistory(t *testing.T) *history {
	t.Helper()
	return &history{t: t, acked: make(map[string]hub.Position), tried: make(map[string]bool)}
}

// open opens a hub of l.
func (h *history) open(l *Log) {
	hb, err := hub.Open(h.t.Context(), hub.Config{Log: l, Logger: quiet, LogEvents: 100_000, PublishTimeout: 2 * time.Second})
	require.NoError(h.t, err)
	h.hubs, h.logs = append(h.hubs, hb), append(h.logs, l)
	h.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = hb.Shutdown(ctx)
	})
}

// publish publishes through the hub with numbers as keys until ctx ends. What is unknown or
// failed is published again with its key.
func (h *history) publish(ctx context.Context, who int) {
	for i := 0; ctx.Err() == nil; i++ {
		ps := make([]hub.Publication, 1+rand.IntN(3))
		for k := range ps {
			key := fmt.Sprint(who, " ", i, " ", k)
			ps[k] = hub.Publication{Topic: "a", Key: key, Event: sse.Event{Data: key}}
			h.mu.Lock()
			h.tried[key] = true
			h.mu.Unlock()
		}
		for range 50 {
			positions, err := h.hubs[who%len(h.hubs)].PublishAll(h.t.Context(), ps)
			if err != nil {
				continue
			}
			h.mu.Lock()
			for k := range ps {
				h.acked[ps[k].Key] = positions[k]
			}
			h.mu.Unlock()
			break
		}
	}
}

// run publishes with several publishers while f makes trouble.
func (h *history) run(f func()) {
	ctx, cancel := context.WithCancel(h.t.Context())
	var done sync.WaitGroup
	for who := range 4 {
		done.Go(func() { h.publish(ctx, who) })
	}
	f()
	time.Sleep(100 * time.Millisecond)
	cancel()
	done.Wait()
	h.check()
}

// check checks that the log has all that was acknowledged, once, at its offset if the epoch is
// still the same, and nothing that was not published; and that Follow and Read agree.
func (h *history) check() {
	b := bounds(h.t, h.logs[0])
	var read []hub.Record
	for at := b.First - 1; at < b.Last; {
		batch, err := h.logs[0].Read(h.t.Context(), nil, hub.Position{Epoch: b.Epoch, Offset: at}, hub.Position{Epoch: b.Epoch, Offset: b.Last}, 1000)
		require.NoError(h.t, err)
		require.False(h.t, batch.Hole)
		read, at = append(read, batch.Records...), batch.UpTo
	}
	f := logkit.Follow(h.t, h.logs[1], hub.Position{Epoch: b.Epoch, Offset: b.First - 1})
	require.Equal(h.t, read, f.Await(len(read)))
	offsets := make(map[string]uint64)
	for _, r := range read {
		require.True(h.t, h.tried[r.Event.Data])
		require.Zero(h.t, offsets[r.Event.Data], "%s is there twice", r.Event.Data)
		offsets[r.Event.Data] = r.Offset
	}
	for key, pos := range h.acked {
		require.NotZero(h.t, offsets[key], "%s is lost", key)
		if pos.Epoch == b.Epoch {
			require.Equal(h.t, pos.Offset, offsets[key])
		}
	}
	h.t.Logf("%d records, %d acknowledged", len(read), len(h.acked))
	for _, hb := range h.hubs {
		ctx, cancel := context.WithTimeout(h.t.Context(), 30*time.Second)
		var err error
		for ctx.Err() == nil { // it may not have heard of the epoch yet
			if err = hb.Wait(ctx, hub.Position{Epoch: b.Epoch, Offset: b.Last}); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
		require.NoError(h.t, err)
	}
}
