package hub

import (
	"context"
	"fmt"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
)

// Shutdown ends the hub. From then on nothing can be published, and Serve refuses every
// session. Each member is sent every event that was published for it; then its session
// ends, with sse.ErrShutdown as the cause. Clients are told to reconnect at times that are
// spread out; see [sse.Config].ShutdownSpread.
//
// A server that shuts down needs only [sse.Plugin.Shutdown], which does the same for the
// members of all hubs at a time, but does not refuse publications. Call Shutdown before it,
// or at the same time, if Publish must fail from the beginning of the shutdown on, so that
// no event is accepted that nobody gets; or alone, to end a hub while the server goes on.
//
// A client that takes nothing for a second, or for [sse.Config].WriteTimeout if that is less,
// is cut off; of a large event it must take 32 KiB in that time. Shutdown waits until all
// members have left, or until ctx is done. It then waits as long as members go on leaving, so that
// several hubs can be shut down one after the other with one ctx, but no longer than 200 ms
// for the next, and a second in all. After that it cuts off the members that are left, and
// returns an error that wraps the error of ctx. Their clients resume where they connect next.
//
// With Config.Log, Shutdown first waits up to a second until the hub has applied what it has
// published. It returns when the hub no longer uses the Log, or when ctx is done. OnHealth must
// not call it.
func (h *Hub) Shutdown(ctx context.Context) error {
	if h.follower != nil {
		h.follower.finish(ctx)
		defer h.follower.close(ctx) // members may need pages until then
	}
	h.close()
	if h.follower != nil {
		h.follower.stop()
		h.follower.announce()
	}
	for _, sh := range h.shards {
		for _, m := range sh.copyMembers() {
			m.endSoon(sse.ErrShutdown)
		}
	}
	select {
	case <-h.gone:
		return nil
	case <-ctx.Done():
	}
	engine.AwaitDwindling(func() int { return h.Stats().Members })
	select {
	case <-h.gone:
		return nil
	default:
	}
	left := 0
	for _, sh := range h.shards {
		for _, m := range sh.copyMembers() {
			left++
			m.cutOff(sse.ErrShutdown)
		}
	}
	return fmt.Errorf("hub: shutdown with %d members left: %w", left, ctx.Err())
}

// close makes the hub refuse publications and sessions, and stops its timers.
func (h *Hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed.Swap(true) {
		return
	}
	for _, timer := range []*time.Timer{h.expiry, h.finished.timer} {
		if timer != nil {
			timer.Stop()
		}
	}
	if h.members == 0 {
		close(h.gone)
	}
}
