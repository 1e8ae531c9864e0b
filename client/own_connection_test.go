// Connections that are dead but still open: after a timeout, and after Reconnect, a session
// goes on over a connection that no other request has used.

package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

// forgetfulProxy forwards connections to a server until it forgets them. It keeps those
// sockets open, but forwards nothing any longer, as a firewall that has lost its state.
type forgetfulProxy struct {
	addr     string
	protocol testkit.Protocol // of the server behind it
	mu       sync.Mutex
	conns    []*atomic.Bool // whether each connection is forgotten
}

func newForgetfulProxy(t testing.TB, server string) *forgetfulProxy {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &forgetfulProxy{addr: l.Addr().String()}
	var forwarding sync.WaitGroup
	var open []net.Conn // guarded by p.mu, as closed is
	closed := false
	forwarding.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", server)
			if err != nil {
				near.Close()
				continue
			}
			forgotten := new(atomic.Bool)
			p.mu.Lock()
			open = append(open, near, far)
			p.conns = append(p.conns, forgotten)
			if closed { // it was accepted before the listener was closed
				near.Close()
				far.Close()
			}
			p.mu.Unlock()
			forward := func(to, from net.Conn) {
				buf := make([]byte, 32<<10)
				for {
					n, err := from.Read(buf)
					if forgotten.Load() {
						if err != nil {
							return
						}
						continue
					}
					if n > 0 {
						if _, err := to.Write(buf[:n]); err != nil {
							from.Close()
						}
					}
					if err != nil {
						to.Close()
						return
					}
				}
			}
			forwarding.Go(func() { forward(far, near) })
			forwarding.Go(func() { forward(near, far) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		closed = true
		for _, conn := range open {
			conn.Close()
		}
		p.mu.Unlock()
		forwarding.Wait()
	})
	return p
}

// forget makes the proxy forget its connections.
func (p *forgetfulProxy) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, forgotten := range p.conns {
		forgotten.Store(true)
	}
}

// overForgetful runs test once for each protocol, against a server of h behind a proxy.
func overForgetful(t *testing.T, h http.HandlerFunc, test func(t *testing.T, hc *http.Client, url string, p *forgetfulProxy)) {
	t.Helper()
	for _, protocol := range protocols {
		t.Run(protocol.Name, func(t *testing.T) {
			srv := testkit.Serve(t, h, protocol.Setup)
			p := newForgetfulProxy(t, requestAddr(srv))
			p.protocol = protocol
			test(t, srv.Client(), strings.Replace(srv.URL, requestAddr(srv), p.addr, 1), p)
		})
	}
}

// failureLog keeps the causes that OnFailure gets: "EOF", the name of a timeout, or the
// error's text.
type failureLog struct {
	mu     sync.Mutex
	causes []string
}

func (l *failureLog) add(f client.Failure) client.Decision {
	cause := f.Err.Error()
	if timeout, ok := errors.AsType[*client.TimeoutError](f.Err); ok {
		cause = timeout.Option
	}
	l.mu.Lock()
	l.causes = append(l.causes, cause)
	l.mu.Unlock()
	return client.DefaultDecision(f)
}

func (l *failureLog) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.causes...)
}

// deadConfig is for sessions whose connection dies: a dead one costs an OpenTimeout, which
// the failureLog shows.
func deadConfig(failures *failureLog) client.Config {
	return client.Config{
		MaxReconnectionAttempts: client.Unlimited, OnFailure: failures.add,
		IdleTimeout: 300 * time.Millisecond, OpenTimeout: testkit.Patience / 2,
	}
}

// deadHandler answers a request without a Last-Event-ID with an event, and holds the
// stream open. Later requests get one event each, and in the end 204.
func deadHandler(w http.ResponseWriter, r *http.Request) {
	switch r.Header.Get("Last-Event-ID") {
	case "":
		send(w, "id: 1\ndata: a\n\n")
		<-r.Context().Done()
	case "1":
		send(w, "id: 2\ndata: b\n\n")
	case "2":
		send(w, "id: 3\ndata: c\n\n")
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// The first attempt after IdleTimeout already goes over another connection, and none goes
// back to the dead one, not even after the stream over the new one has ended in order.
func TestDeadConnectionIsLeftAfterOneIdleTimeout(t *testing.T) {
	overForgetful(t, deadHandler, func(t *testing.T, hc *http.Client, url string, p *forgetfulProxy) {
		t.Helper()
		for range 3 {
			failures := new(failureLog)
			var got []string
			for ev, err := range session(t, install(hc, deadConfig(failures)), url).Incoming() {
				require.NoError(t, err)
				if got = append(got, ev.Data); ev.ID == "1" {
					p.forget()
				}
			}
			require.Equal(t, []string{"a", "b", "c"}, got)
			require.Equal(t, []string{"IdleTimeout", "EOF", "EOF"}, failures.all())
		}
	})
}

// All sessions on a dead connection leave it, and a session that opens later does not get
// it either.
func TestSessionsOnOneDeadConnectionAllLeaveIt(t *testing.T) {
	const n = 5
	overForgetful(t, deadHandler, func(t *testing.T, hc *http.Client, url string, p *forgetfulProxy) {
		t.Helper()
		failures := new(failureLog)
		c := install(hc, deadConfig(failures))
		var reading, began sync.WaitGroup
		began.Add(n)
		for range n {
			s := session(t, c, url)
			reading.Go(func() {
				for ev, err := range s.Incoming() {
					if assert.NoError(t, err) && ev.ID == "1" {
						began.Done()
						began.Wait()
						p.forget()
					}
				}
			})
		}
		reading.Wait()
		want := make(map[string]int)
		for _, cause := range failures.all() {
			want[cause]++
		}
		require.Equal(t, map[string]int{"IdleTimeout": n, "EOF": 2 * n}, want)

		later := new(failureLog)
		_, err := collect(session(t, install(hc, deadConfig(later)), url, client.WithLastEventID("2")))
		require.NoError(t, err)
		require.Equal(t, []string{"EOF"}, later.all())
	})
}

// A session that opens over dead connections of earlier requests loses one OpenTimeout to
// them, however many there are.
func TestDeadConnectionsCostOneOpenTimeout(t *testing.T) {
	const idle = 4
	var arrived sync.WaitGroup
	overForgetful(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/warm" {
			arrived.Done()
			arrived.Wait() // so that HTTP/1.1 needs as many connections
			return
		}
		send(w, "data: x\n\n")
	}, func(t *testing.T, hc *http.Client, url string, p *forgetfulProxy) {
		t.Helper()
		hc.Transport.(*http.Transport).MaxIdleConnsPerHost = idle
		arrived.Add(idle)
		var warming sync.WaitGroup
		for range idle {
			warming.Go(func() {
				resp, err := hc.Get(url + "/warm")
				if assert.NoError(t, err) {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			})
		}
		warming.Wait()
		p.forget()

		failures := new(failureLog)
		cfg := deadConfig(failures)
		cfg.OpenTimeout = time.Second
		var got []string
		for ev, err := range session(t, install(hc, cfg), url).Incoming() {
			require.NoError(t, err)
			got = append(got, ev.Data)
			break
		}
		require.Equal(t, []string{"x"}, got)
		require.Equal(t, []string{"OpenTimeout"}, failures.all())
	})
}

// Reconnect is for a network that has changed, so it must not go over the old connection.
func TestReconnectLeavesADeadConnection(t *testing.T) {
	overForgetful(t, deadHandler, func(t *testing.T, hc *http.Client, url string, p *forgetfulProxy) {
		t.Helper()
		failures := new(failureLog)
		cfg := deadConfig(failures)
		cfg.IdleTimeout = 0
		s := session(t, install(hc, cfg), url)
		var got []string
		for ev, err := range s.Incoming() {
			require.NoError(t, err)
			if got = append(got, ev.Data); ev.ID == "1" {
				p.forget()
				require.NoError(t, s.Reconnect())
			}
		}
		require.Equal(t, []string{"a", "b", "c"}, got)
		require.Equal(t, []string{"EOF", "EOF"}, failures.all())
	})
}

// The dead connection may be the one that a redirect leads to.
func TestDeadConnectionBehindARedirectIsLeft(t *testing.T) {
	overForgetful(t, deadHandler, func(t *testing.T, hc *http.Client, url string, p *forgetfulProxy) {
		t.Helper()
		first := testkit.Serve(t, http.RedirectHandler(url, http.StatusFound), p.protocol.Setup)
		failures := new(failureLog)
		var got []string
		for ev, err := range session(t, install(hc, deadConfig(failures)), first.URL).Incoming() {
			require.NoError(t, err)
			if got = append(got, ev.Data); ev.ID == "1" {
				p.forget()
			}
		}
		require.Equal(t, []string{"a", "b", "c"}, got)
		require.Equal(t, []string{"IdleTimeout", "EOF", "EOF"}, failures.all())
	})
}

// The client cannot tell a dead connection from a server that is silent. If the connection
// is alive, nothing is sent over it while the client looks for another, and what others
// have on it goes on.
func TestConnectionThatIsLeftAliveSeesNoRequest(t *testing.T) {
	for _, p := range []testkit.Protocol{testkit.HTTP2, testkit.H2C} {
		t.Run(p.Name, func(t *testing.T) {
			var posts atomic.Int64
			var bodies requestLog
			release := make(chan struct{})
			srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/other" {
					send(w, "data: a\n\n")
					<-release
					send(w, "data: b\n\n")
					return
				}
				bodies.add(r)
				if posts.Add(1)%2 == 1 {
					send(w, ": \n\n")
					<-r.Context().Done()
					return
				}
				send(w, "data: [DONE]\n\n")
			}, p.Setup)
			other := session(t, install(srv.Client(), client.Config{}), srv.URL+"/other")
			const runs = 10
			for i := range runs {
				failures := new(failureLog)
				cfg := deadConfig(failures)
				cfg.Resend, cfg.Terminal = client.ResendUntilEvent, terminalDone
				events, err := collect(session(t, install(srv.Client(), cfg), srv.URL, client.WithBody("text/plain", strings.NewReader("prompt"))))
				require.NoError(t, err)
				require.Equal(t, []string{"[DONE]"}, dataOf(events))
				require.Equal(t, []string{"IdleTimeout"}, failures.all())
				require.EqualValues(t, 2*(i+1), posts.Load(), "a request that nobody has asked for")
			}
			for _, body := range bodies.bodies() {
				require.Equal(t, "prompt", body)
			}
			close(release)
			events, err := collect(other)
			require.NoError(t, err)
			require.Equal(t, []string{"a", "b"}, dataOf(events))
		})
	}
}

// A Transport that wraps net/http's passes the request on, and so the dead connection is
// left all the same.
func TestDeadConnectionOfAWrappedTransportIsLeft(t *testing.T) {
	srv := testkit.Serve(t, http.HandlerFunc(deadHandler), testkit.HTTP2.Setup)
	p := newForgetfulProxy(t, requestAddr(srv))
	inner := srv.Client().Transport
	hc := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		return inner.RoundTrip(r.WithContext(context.WithValue(r.Context(), closeContext{}, 1)))
	})}
	failures := new(failureLog)
	var got []string
	for ev, err := range session(t, install(hc, deadConfig(failures)), "https://"+p.addr).Incoming() {
		require.NoError(t, err)
		if got = append(got, ev.Data); ev.ID == "1" {
			p.forget()
		}
	}
	require.Equal(t, []string{"a", "b", "c"}, got)
	require.Equal(t, []string{"IdleTimeout", "EOF", "EOF"}, failures.all())
}
