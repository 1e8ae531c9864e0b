package sse

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Shutdown ends all sessions and waits until their handlers have returned, or until ctx is
// done. In that case it returns an error that wraps the error of ctx. Clients are told to
// reconnect at times spread over Config.ShutdownSpread. A client that is in the middle of an
// event has a second to take it, or half of the time until ctx's deadline if that is less.
//
// From then on the plugin refuses sessions. A browser's EventSource gets a stream that holds
// only a reconnection time, because any status but 200 would stop it forever. Other clients
// get 503 with Retry-After.
//
// [http.Server.Shutdown] waits until each connection is idle, which an open stream never
// becomes. So call Shutdown before it, or [Plugin.Attach] once.
func (p *Plugin) Shutdown(ctx context.Context) error {
	p.drain()
	if deadline, ok := ctx.Deadline(); ok {
		if left := time.Until(deadline) / 2; left < shutdownGrace {
			time.AfterFunc(left, p.interruptWrites)
		}
	}
	select {
	case <-p.drained:
		p.lingering.Wait() // half a second at most
		return nil
	case <-ctx.Done():
	}
	p.interruptWrites()
	select {
	case <-p.drained:
		return nil
	default:
		return fmt.Errorf("sse: shutdown with %d handlers still running: %w", p.Len(), ctx.Err())
	}
}

// shutdownGrace is how long a write that is under way may go on when the plugin shuts down.
const shutdownGrace = time.Second

// drain ends all sessions, and makes the plugin refuse new ones.
func (p *Plugin) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isDraining() {
		return
	}
	close(p.draining)
	if len(p.sessions) == 0 {
		close(p.drained)
		return
	}
	for s := range p.sessions {
		s.end(ErrShutdown)
	}
	time.AfterFunc(shutdownGrace, p.interruptWrites)
}

func (p *Plugin) interruptWrites() {
	for _, s := range p.snapshot() {
		s.interruptWrite()
	}
}

func (p *Plugin) isDraining() bool {
	select {
	case <-p.draining:
		return true
	default:
		return false
	}
}

// comeback returns a reconnection time for a client that is sent away, or 0 if clients are
// told none. retry is the route's own.
func (p *Plugin) comeback(retry time.Duration) time.Duration {
	if p.cfg.ShutdownSpread < 0 {
		return 0
	}
	if retry == 0 {
		retry = 3 * time.Second
	}
	return max(time.Millisecond, retry) + rand.N(p.cfg.ShutdownSpread)
}
