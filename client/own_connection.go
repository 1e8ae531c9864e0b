// Connections that no other request has used: what a session asks for after a connection
// went silent. This file knows nothing of sessions.

package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"
)

// ownConnTransport is the Transport of a client. It sends each request whose Close is set
// over a connection that no other request has used.
//
// net/http does not do that by itself. An HTTP/2 request with Close set goes over a shared
// connection, if there is one, and only keeps later requests from it. A connection whose
// peer has vanished stays among the shared ones, because nothing closes it, so the request
// would wait for an answer that cannot come.
type ownConnTransport struct {
	next http.RoundTripper // nil: http.DefaultTransport
}

// maxRefusedConns limits how many connections, used before, a request is kept from.
// net/http counts a request that is kept from a shared connection as one with Close set
// only about every second time, so the same connection is usually offered again.
const maxRefusedConns = 64

var errUsedConn = errors.New("client: the connection was used before")

// RoundTrip implements [http.RoundTripper].
func (t *ownConnTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	next := t.transport()
	hasBody := req.Body != nil && req.Body != http.NoBody
	if !req.Close || hasBody && req.GetBody == nil {
		return next.RoundTrip(req)
	}
	for refused := range maxRefusedConns {
		resp, err := t.roundTripOverNew(req)
		if err != errUsedConn { //nolint:errorlint // never wrapped
			return resp, err
		}
		if hasBody { // closed with the attempt, although nothing of it was sent
			again := *req
			if again.Body, err = req.GetBody(); err != nil {
				return nil, err
			}
			req = &again
		}
		if refused > 2 {
			time.Sleep(time.Millisecond) // another goroutine of net/http sees to the connection
		}
	}
	return next.RoundTrip(req)
}

// roundTripOverNew sends req, unless net/http is about to send it over an HTTP/2
// connection that was used before. Then nothing is sent, and the error is errUsedConn.
//
// A used HTTP/1.1 connection is accepted, because net/http may write to it before it
// notices that the request was canceled. CloseIdleConnections has removed the old ones.
func (t *ownConnTransport) roundTripOverNew(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context()) // released with the context of req
	attempt := req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			if info.Reused && t.isHTTP2(info.Conn) {
				cancel(errUsedConn) // net/http looks at the context again before it writes
			}
		},
	}))
	resp, err := t.transport().RoundTrip(attempt)
	if err != nil {
		used := context.Cause(ctx) == errUsedConn //nolint:errorlint // never wrapped
		cancel(nil)
		if used {
			return nil, errUsedConn
		}
		return nil, err
	}
	if resp.Request == attempt {
		resp.Request = req
	}
	return resp, nil
}

// isHTTP2 reports whether conn, a connection of t, certainly speaks HTTP/2.
func (t *ownConnTransport) isHTTP2(conn net.Conn) bool {
	if encrypted, ok := conn.(interface{ ConnectionState() tls.ConnectionState }); ok {
		return encrypted.ConnectionState().NegotiatedProtocol == "h2"
	}
	transport, ok := t.transport().(*http.Transport)
	return ok && transport.Protocols != nil && transport.Protocols.UnencryptedHTTP2() && !transport.Protocols.HTTP1()
}

// CloseIdleConnections does what the method of the caller's Transport does, if it has one.
func (t *ownConnTransport) CloseIdleConnections() {
	if closer, ok := t.transport().(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

func (t *ownConnTransport) transport() http.RoundTripper {
	if t.next == nil {
		return http.DefaultTransport
	}
	return t.next
}
