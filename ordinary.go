package sse

import (
	"io"
	"net/http"
)

// The ResponseWriter of a response that is not known to be a stream. It has every optional
// interface that the server's writer has, so that ordinary handlers do not notice the plugin.
// The guard itself has those that each of net/http's writers has, and Unwrap leads
// http.ResponseController to all others.

// The optional interfaces that not every writer has.
const (
	canHijack = 1 << iota
	canReadFrom
	canPush
	canNotify
)

// writer returns the ResponseWriter that the middleware gets. Because a handler may ask for
// each optional interface by a type assertion, each combination of them is a type.
func (g *guard) writer() http.ResponseWriter {
	if g.stream {
		return g
	}
	type closeNotifier = http.CloseNotifier //nolint:staticcheck // deprecated, but gin's Context.Stream asserts it
	hijacker, hijacks := g.ResponseWriter.(http.Hijacker)
	readerFrom, reads := g.ResponseWriter.(io.ReaderFrom)
	pusher, pushes := g.ResponseWriter.(http.Pusher)
	notifier, notifies := g.ResponseWriter.(closeNotifier)
	rf := guardReaderFrom{g, readerFrom}
	switch bit(hijacks, canHijack) | bit(reads, canReadFrom) | bit(pushes, canPush) | bit(notifies, canNotify) {
	case canHijack:
		return &struct {
			*guard
			http.Hijacker
		}{g, hijacker}
	case canReadFrom:
		return &struct {
			*guard
			guardReaderFrom
		}{g, rf}
	case canHijack | canReadFrom:
		return &struct {
			*guard
			http.Hijacker
			guardReaderFrom
		}{g, hijacker, rf}
	case canPush:
		return &struct {
			*guard
			http.Pusher
		}{g, pusher}
	case canHijack | canPush:
		return &struct {
			*guard
			http.Hijacker
			http.Pusher
		}{g, hijacker, pusher}
	case canReadFrom | canPush:
		return &struct {
			*guard
			guardReaderFrom
			http.Pusher
		}{g, rf, pusher}
	case canHijack | canReadFrom | canPush:
		return &struct {
			*guard
			http.Hijacker
			guardReaderFrom
			http.Pusher
		}{g, hijacker, rf, pusher}
	case canNotify:
		return &struct {
			*guard
			closeNotifier
		}{g, notifier}
	case canHijack | canNotify:
		return &struct {
			*guard
			http.Hijacker
			closeNotifier
		}{g, hijacker, notifier}
	case canReadFrom | canNotify:
		return &struct {
			*guard
			guardReaderFrom
			closeNotifier
		}{g, rf, notifier}
	case canHijack | canReadFrom | canNotify: // net/http's over HTTP/1.x
		return &struct {
			*guard
			http.Hijacker
			guardReaderFrom
			closeNotifier
		}{g, hijacker, rf, notifier}
	case canPush | canNotify: // net/http's over HTTP/2
		return &struct {
			*guard
			http.Pusher
			closeNotifier
		}{g, pusher, notifier}
	case canHijack | canPush | canNotify:
		return &struct {
			*guard
			http.Hijacker
			http.Pusher
			closeNotifier
		}{g, hijacker, pusher, notifier}
	case canReadFrom | canPush | canNotify:
		return &struct {
			*guard
			guardReaderFrom
			http.Pusher
			closeNotifier
		}{g, rf, pusher, notifier}
	case canHijack | canReadFrom | canPush | canNotify:
		return &struct {
			*guard
			http.Hijacker
			guardReaderFrom
			http.Pusher
			closeNotifier
		}{g, hijacker, rf, pusher, notifier}
	}
	return g
}

// bit returns b if has, or else 0.
func bit(has bool, b int) int {
	if has {
		return b
	}
	return 0
}

// guardReaderFrom makes what is copied pass the guard once a session has begun.
type guardReaderFrom struct {
	g  *guard
	rf io.ReaderFrom
}

func (w guardReaderFrom) ReadFrom(r io.Reader) (int64, error) {
	if w.g.active.Load() {
		return io.Copy(struct{ io.Writer }{w.g}, r)
	}
	return w.rf.ReadFrom(r)
}
