// Which requests may be sent again, and which of them the server has certainly not acted
// on.

package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

// ResendMode says when a request that may not be idempotent may be sent again.
type ResendMode int

const (
	// ResendNever sends nothing again, whatever happened to the request. It cannot bill
	// twice.
	ResendNever ResendMode = iota

	// ResendUntilEvent sends the request again until the first event has arrived, also
	// after a connection that broke before it. The server may then have done its work
	// already, and bill it twice. To repeat only what the server has certainly not acted
	// on, let Config.OnFailure stop unless [Refused] is true.
	ResendUntilEvent

	// ResendAlways sends the request again at any time, as if it were a GET. The server
	// may bill each attempt. It is for servers that resume after Last-Event-ID.
	ResendAlways
)

// mayResend reports whether Config.Resend allows another request. It may be called from
// any goroutine.
func (s *Session) mayResend() bool {
	return s.requests.idempotent.Load() || s.call.cfg.Resend == ResendAlways ||
		s.call.cfg.Resend == ResendUntilEvent && !s.hadEvent.Load()
}

// Refused reports whether err, usually Failure.Err, shows that the server has not acted on
// the request, so that sending it again cannot bill twice:
//
//   - no connection could be made: the host name could not be resolved, the host or a
//     proxy could not be reached, or the client did not trust the server's certificate;
//   - the server refused the HTTP/2 stream (REFUSED_STREAM, RFC 9113 §8.7);
//   - the server answered with status 429 or 503.
//
// It is false for everything that may happen after the request was sent: a reset, a
// timeout, another status, and other errors of TLS, because a server may reject a client's
// certificate only after it has read the request. It is also false after a redirect that
// turned the request into a GET, because the server has then acted on the original one.
func Refused(err error) bool {
	if isA[*redirectedError](err) {
		return false
	}
	if status, ok := errors.AsType[*StatusError](err); ok {
		return (status.Status == http.StatusTooManyRequests || status.Status == http.StatusServiceUnavailable) && !status.redirected
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		switch op.Op {
		case "dial", "proxyconnect", "socks connect":
			return true
		}
	}
	if isA[*net.DNSError](err) || isA[*tls.CertificateVerificationError](err) {
		return true
	}
	stream, ok := errors.AsType[streamError](err)
	return ok && stream.Code == refusedStream
}

// streamError has the shape of the error that net/http returns after an HTTP/2 RST_STREAM.
// Its type is not exported, but its method As fills in any struct of this shape.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return "client: HTTP/2 stream error" }

const refusedStream = 0x7

// redirectedError wraps the error of an attempt that was redirected with another method.
type redirectedError struct{ error }

func (e *redirectedError) Unwrap() error { return e.error }

// connKey is the key under which the context of a request has its [*conn].
type connKey struct{}

// markRedirect records on the conn of the request via[0] that a redirect turns it into
// req with another method, as 303 does with a POST: the server has acted on it.
func markRedirect(req *http.Request, via []*http.Request) {
	if c, ok := req.Context().Value(connKey{}).(*conn); ok {
		c.headSent.Store(false) // what follows is another request
		c.redirected = c.redirected || req.Method != via[0].Method
	}
}

// changedMethod reports whether redirects led to resp with another method than that of the
// original request.
func changedMethod(resp *http.Response) bool {
	if resp.Request == nil {
		return false
	}
	first := resp.Request
	for first.Response != nil && first.Response.Request != nil {
		first = first.Response.Request
	}
	return first.Method != resp.Request.Method
}

// maxNetResends is how many times net/http may send an idempotent request again by itself,
// on another connection.
const maxNetResends = 10

// errNetResend is the cause of a failure in place of another request by net/http.
var errNetResend = errors.New("client: the server gave up the connection before its response, and net/http would have sent the request again")

// guarded returns ctx for the request of c. Over HTTP/2, it keeps net/http from sending a
// request again that is not idempotent, once its header was sent, on another connection.
// net/http does that without a wait and without end if a server resets the streams with
// PROTOCOL_ERROR, although the server may have acted on each of them. On the same
// connection it only repeats what the server has refused.
func (c *conn) guarded(ctx context.Context, idempotent *atomic.Bool) context.Context {
	ctx = context.WithValue(ctx, connKey{}, c)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaderField: func(key string, _ []string) {
			if key == ":method" { // over HTTP/1.1, net/http is careful enough
				c.headSent.Store(true)
			}
		},
		GotConn: func(info httptrace.GotConnInfo) {
			if c.headSent.Swap(false) && info.Conn != c.sentOn {
				if c.resends++; !idempotent.Load() || c.resends > maxNetResends {
					c.cancel(errNetResend)
				}
			}
			c.sentOn = info.Conn
		},
	})
}
