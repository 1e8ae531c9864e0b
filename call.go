package sse

import (
	"context"
	"crypto/tls"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
)

// call is the request of a session, and the parent of the session's context. It has the
// values of the request's context but not its end. Its route context is a copy, because chi
// uses the request's own again for another request.
//
// A hub packs the calls of the sessions that it serves: the request with its header, and for
// a detached session the contexts, would be most of what an idle session holds. Each reader
// of a packed call gets a new copy of what was packed.
type call struct {
	live   atomic.Pointer[liveCall] // nil if the call is packed
	packed packedCall
}

type liveCall struct {
	request *http.Request
	route   *chi.Context    // nil if chi has not routed the request
	values  context.Context // the request's context without its end
}

// packedCall is a request and its route context in one string.
type packedCall struct {
	text string      // fields, each after its length; see call_pack.go
	kept *keptOfCall // nil if there is nothing to keep, as for most detached sessions
}

// keptOfCall is what a string cannot hold.
type keptOfCall struct {
	tls    *tls.ConnectionState
	values context.Context // nil for a detached session
}

// init makes c the call of r. The caller sets the request of the liveCall that init returns.
// It needs the session's context, which cannot exist before its parent c.
func (c *call) init(r *http.Request) *liveCall {
	live := &liveCall{request: r, values: context.WithoutCancel(r.Context())}
	if rctx := chi.RouteContext(r.Context()); rctx != nil {
		live.route = rctx.Clone()
	}
	c.live.Store(live)
	return live
}

func (c *call) Deadline() (deadline time.Time, ok bool) { return deadline, false }
func (c *call) Done() <-chan struct{}                   { return nil }
func (c *call) Err() error                              { return nil }

func (c *call) Value(key any) any {
	live := c.live.Load()
	switch {
	case live == nil && key == chi.RouteCtxKey:
		if rctx := unpackRoute(c.packed.text); rctx != nil {
			return rctx
		}
		return nil
	case live == nil && (c.packed.kept == nil || c.packed.kept.values == nil):
		return nil
	case live == nil:
		return c.packed.kept.values.Value(key)
	case live.route != nil && key == chi.RouteCtxKey:
		return live.route
	}
	return live.values.Value(key)
}

// request returns the request with the context ctx, which is a child of c.
func (c *call) request(ctx context.Context) *http.Request {
	if live := c.live.Load(); live != nil {
		return live.request
	}
	r := unpackRequest(c.packed.text).WithContext(ctx)
	if kept := c.packed.kept; kept != nil {
		r.TLS = kept.tls
	}
	return r
}

// pack drops everything that can be made again from a string. With keepValues it keeps the
// values of the request's context.
func (c *call) pack(keepValues bool) {
	live := c.live.Load()
	if live == nil {
		return
	}
	kept := &keptOfCall{tls: live.request.TLS}
	if keepValues {
		kept.values = live.values
	}
	if *kept == (keptOfCall{}) {
		kept = nil
	}
	c.packed = packedCall{text: packCall(live.request, live.route), kept: kept}
	c.live.Store(nil)
}
