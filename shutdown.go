package sse

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/chi-sse/sse/internal/engine"
)

// Shutdown ends all sessions and waits until their handlers have returned, or until ctx is
// done. In that case it cuts off the sessions that are left, and returns an error that wraps
// the error of ctx. Clients are told to reconnect at times spread over Config.ShutdownSpread.
//
// A session that a hub serves is first sent every event that was published for it before the
// call. The sessions of all hubs end at the same time, so one call is enough for a server,
// and a client that takes nothing delays no other. The hubs stay open: to make them refuse
// publications as well, call their own Shutdown before, or at the same time.
//
// A client that is in the middle of an event has a second to take it, or half of the time
// until ctx's deadline if that is less. The client of a hub that takes its events has as
// much time as ctx allows. One that takes none for a second, or for Config.WriteTimeout if
// that is less, is cut off. If ctx is done early, the clients of hubs still get what they
// take at once.
//
// From then on the plugin refuses sessions. A browser's EventSource gets a stream that holds
// only a reconnection time, because any status but 200 would stop it forever. Other clients
// get 503 with Retry-After.
//
// [http.Server.Shutdown] waits until each connection is idle, which an open stream never
// becomes. So call Shutdown before it, or [Plugin.Attach] once. [ListenAndServe] does all of it.
func (p *Plugin) Shutdown(ctx context.Context) error {
	p.drain()
	if deadline, ok := ctx.Deadline(); ok {
		if left := time.Until(deadline) / 2; left > 0 && left < shutdownGrace {
			defer time.AfterFunc(left, p.interruptEnded).Stop()
		}
	}
	select {
	case <-p.drained:
		p.lingering.Wait() // half a second at most
		return nil
	case <-ctx.Done():
	}
	engine.AwaitDwindling(p.delivering)
	p.cutOff()
	select {
	case <-p.drained:
		return nil
	default:
		return fmt.Errorf("sse: shutdown with %d handlers still running: %w", p.Len(), ctx.Err())
	}
}

// shutdownGrace is how long a write that is under way may go on when the plugin shuts down,
// or when a hub ends the session.
const shutdownGrace = time.Second

// drain makes the plugin refuse new sessions, and ends those that it has. A session that a
// hub serves is ended by the hub, which has perhaps still something to send.
func (p *Plugin) drain() {
	var ended []*ServerSession
	for s, owner := range p.beginEnding() {
		if owner == nil || !owner.EndSoon(ErrShutdown) {
			s.end(ErrShutdown)
			ended = append(ended, s)
		}
	}
	if len(ended) > 0 {
		time.AfterFunc(shutdownGrace, func() {
			for _, s := range ended {
				s.interruptWrite() // a hub does that with its sessions
			}
		})
	}
}

// beginEnding makes the plugin refuse new sessions. The first call returns the sessions and
// their owners, and later ones none.
func (p *Plugin) beginEnding() map[*ServerSession]engine.Owner {
	p.refuseSessions()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ending {
		return nil
	}
	p.ending = true
	owners := make(map[*ServerSession]engine.Owner, len(p.sessions))
	for s := range p.sessions {
		owners[s] = s.owner
	}
	return owners
}

// refuseSessions makes the plugin refuse new sessions.
func (p *Plugin) refuseSessions() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isDraining() {
		return
	}
	close(p.draining)
	if len(p.sessions) == 0 {
		close(p.drained)
	}
}

// interruptEnded interrupts the writes of sessions that have ended. The others' hubs are still
// sending.
func (p *Plugin) interruptEnded() {
	for _, s := range p.snapshot() {
		if s.seal.Load() == ended {
			s.interruptWrite()
		}
	}
}

// cutOff ends all sessions at once, and interrupts their writes.
func (p *Plugin) cutOff() {
	for _, s := range p.snapshot() {
		s.end(ErrShutdown)
		s.interruptWrite()
	}
}

// delivering returns the number of sessions that a hub has not ended yet.
func (p *Plugin) delivering() (n int) {
	for _, s := range p.snapshot() {
		if s.seal.Load() != ended {
			n++
		}
	}
	return n
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
		retry = usualRetry
	}
	return max(time.Millisecond, retry) + rand.N(p.cfg.ShutdownSpread)
}
