package logkit

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// History checks what hubs have applied, and Logs have, of what was published during trouble.
type History[L hub.Log] struct {
	Logs []L // those of the hubs

	t    *testing.T
	hubs []*hub.Hub

	mu    sync.Mutex
	acked map[string]hub.Position // of the keys that were acknowledged
	tried map[string]bool
}

// NewHistory returns a History without hubs.
func NewHistory[L hub.Log](t *testing.T) *History[L] {
	t.Helper()
	return &History[L]{t: t, acked: make(map[string]hub.Position), tried: make(map[string]bool)}
}

// Open opens a hub of l. All logs have the same records.
func (h *History[L]) Open(l L) {
	hb, err := hub.Open(h.t.Context(), hub.Config{Log: l, Logger: slog.New(slog.DiscardHandler), LogEvents: 100_000, PublishTimeout: 2 * time.Second})
	require.NoError(h.t, err)
	h.hubs, h.Logs = append(h.hubs, hb), append(h.Logs, l)
	h.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = hb.Shutdown(ctx)
	})
}

// publish publishes through the hub with numbers as keys until ctx ends. What is unknown or
// failed is published again with its key.
func (h *History[L]) publish(ctx context.Context, who int) {
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

// Run publishes with several publishers while f makes trouble, and checks the logs and the hubs
// afterwards. It returns the records of the logs.
func (h *History[L]) Run(f func()) []hub.Record {
	ctx, cancel := context.WithCancel(h.t.Context())
	var done sync.WaitGroup
	for who := range 4 {
		done.Go(func() { h.publish(ctx, who) })
	}
	f()
	time.Sleep(100 * time.Millisecond)
	cancel()
	done.Wait()
	require.NotEmpty(h.t, h.acked)
	return h.check()
}

// check checks that the log has all that was acknowledged, once, at its offset if the epoch is
// still the same, and nothing that was not published; and that Follow and Read agree. It
// returns the records. A server that has just started may have more trouble.
func (h *History[L]) check() []hub.Record {
	var b hub.Bounds
	testkit.Eventually(h.t, func() (ok bool) {
		var err error
		b, err = h.Logs[0].Bounds(h.t.Context())
		return err == nil
	}, "the bounds")
	read := h.read(b)
	followed := h.follow(b)
	require.Equal(h.t, read, followed)
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
	for _, hb := range h.hubs { // it may not have heard of the epoch yet
		testkit.Eventually(h.t, func() bool {
			ctx, cancel := context.WithTimeout(h.t.Context(), time.Second)
			defer cancel()
			return hb.Wait(ctx, hub.Position{Epoch: b.Epoch, Offset: b.Last}) == nil
		}, "a hub to apply everything")
	}
	return read
}

// read reads all records of the first log.
func (h *History[L]) read(b hub.Bounds) (all []hub.Record) {
	at := b.First - 1
	testkit.Eventually(h.t, func() bool {
		batch, err := h.Logs[0].Read(h.t.Context(), nil, hub.Position{Epoch: b.Epoch, Offset: at}, hub.Position{Epoch: b.Epoch, Offset: b.Last}, 1000)
		if err == nil {
			require.False(h.t, batch.Hole)
			all, at = append(all, batch.Records...), batch.UpTo
		}
		return at == b.Last
	}, "all records to be read")
	return all
}

// follow follows another log until it has all records.
func (h *History[L]) follow(b hub.Bounds) (all []hub.Record) {
	at := b.First - 1
	testkit.Eventually(h.t, func() bool {
		ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Second)
		defer cancel()
		_ = h.Logs[1].Follow(ctx, hub.Position{Epoch: b.Epoch, Offset: at}, func(batch hub.Batch) error {
			all, at = append(all, batch.Records...), batch.UpTo
			if at >= b.Last {
				cancel()
			}
			return nil
		})
		return at >= b.Last
	}, "all records to be followed")
	require.Equal(h.t, b.Last, at)
	return all
}

// Trouble makes trouble of all kinds on the two networks, one after the other.
func Trouble(networks [2]*testkit.Proxy) {
	for i := range 12 {
		p := networks[i%2]
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		switch i / 2 % 6 {
		case 0:
			p.Cut()
		case 1:
			p.Slow(5 * time.Millisecond)
		case 2:
			p.Slow(0)
			p.Hold(testkit.ToServer, true)
		case 3:
			p.Hold(testkit.ToServer, false)
			p.Refuse(true)
			p.Cut()
		case 4:
			p.Refuse(false)
			p.Hold(testkit.ToClient, true)
		case 5:
			p.Cut()
			p.Hold(testkit.ToClient, false)
		}
	}
}
