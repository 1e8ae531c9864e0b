// Helpers for tests of requests: logs of what a server received, dialers, and pipes.

package client_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

// requestSeen holds a request as a server received it.
type requestSeen struct {
	Method, URI, Host, Body string
	Proto                   string
	Length                  int64
	Header                  http.Header
}

// requestLog keeps the requests that a server received.
type requestLog struct {
	mu   sync.Mutex
	seen []requestSeen
}

// add reads r to its end, keeps it, and returns its number, counted from 1.
func (l *requestLog) add(r *http.Request) int {
	body, _ := io.ReadAll(r.Body)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, requestSeen{r.Method, r.RequestURI, r.Host, string(body), r.Proto, r.ContentLength, r.Header.Clone()})
	return len(l.seen)
}

func (l *requestLog) all() []requestSeen {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]requestSeen(nil), l.seen...)
}

// last returns the latest request.
func (l *requestLog) last(t testing.TB) requestSeen {
	t.Helper()
	all := l.all()
	require.NotEmpty(t, all, "no request was made")
	return all[len(all)-1]
}

// bodies returns the body of each request.
func (l *requestLog) bodies() []string {
	var bodies []string
	for _, r := range l.all() {
		bodies = append(bodies, r.Body)
	}
	return bodies
}

// values returns the values of a header field in each request.
func (l *requestLog) values(key string) [][]string {
	var values [][]string
	for _, r := range l.all() {
		values = append(values, r.Header.Values(key))
	}
	return values
}

// requestDialer connects every host name to a server of the test.
type requestDialer struct {
	servers map[string]string // the server's address by host:port; "" is for all others
	mu      sync.Mutex
	dialed  []string
}

func (d *requestDialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d.mu.Lock()
	d.dialed = append(d.dialed, address)
	d.mu.Unlock()
	to, ok := d.servers[address]
	if !ok {
		to = d.servers[""]
	}
	if to == "" {
		return nil, errors.New("the test has no server for " + address)
	}
	return new(net.Dialer).DialContext(ctx, network, to)
}

// client returns an http.Client that dials with d. It trusts the servers of httptest,
// whose certificate is for example.com and its subdomains.
func (d *requestDialer) client(t testing.TB) *http.Client {
	t.Helper()
	trusting := httptest.NewTLSServer(nil)
	defer trusting.Close()
	transport := trusting.Client().Transport.(*http.Transport).Clone()
	transport.DialContext = d.dial
	transport.ForceAttemptHTTP2 = false
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func requestAddr(srv *httptest.Server) string { return srv.Listener.Addr().String() }

// anyURL serves an event stream under any host name. It returns a client for it, and
// where the requests and the dialed addresses are kept.
func anyURL(t testing.TB) (*http.Client, *requestLog, *requestDialer) {
	t.Helper()
	log := new(requestLog)
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		log.add(r)
		streamOf("data: x\n\n")(w, r)
	})
	d := &requestDialer{servers: map[string]string{"": requestAddr(srv)}}
	hc := d.client(t)
	return hc, log, d
}

// loggedStreams returns a handler that answers the first request with the first stream,
// the second with the second, and those after the last stream with the last. An empty
// stream is a 204.
func loggedStreams(l *requestLog, streams ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n := l.add(r)
		text := streams[min(n, len(streams))-1]
		if text == "" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		streamOf(text)(w, r)
	}
}

// roundTrip makes a function a RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// requestPipes returns a client whose connections are pipes to a server of h. In a
// synctest bubble, waiting on a pipe lets time pass, and waiting on a socket does not.
func requestPipes(t *testing.T, h http.Handler) *http.Client {
	t.Helper()
	pipes := testkit.NewPipeListener()
	srv := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(pipes)
	}()
	transport := &http.Transport{DialContext: pipes.DialContext}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		srv.Close()
		<-served
	})
	return &http.Client{Transport: transport}
}

// requestRawPipes is like requestPipes, but calls serve with each connection after it has
// read the header of a request.
func requestRawPipes(t *testing.T, serve func(conn net.Conn, r *http.Request)) *http.Client {
	t.Helper()
	var conns sync.WaitGroup
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		conns.Go(func() {
			defer theirs.Close()
			if r, err := http.ReadRequest(bufio.NewReader(theirs)); err == nil {
				serve(theirs, r)
			}
		})
		return ours, nil
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		conns.Wait()
	})
	return &http.Client{Transport: transport}
}

// onlyReader hides every method of a reader except Read.
type onlyReader struct{ io.Reader }

// retryOn returns an OnFailure that retries after each status for which again is true, and
// after no other, and otherwise decides as the default does.
func retryOn(again func(status int) bool) func(client.Failure) client.Decision {
	return func(f client.Failure) client.Decision {
		status, ok := errors.AsType[*client.StatusError](f.Err)
		switch {
		case !ok:
			return client.DefaultDecision(f)
		case again(status.Status):
			return client.Retry()
		}
		return client.Stop(nil)
	}
}

// resendIf returns ResendAlways if always is set, and ResendNever otherwise.
func resendIf(always bool) client.ResendMode {
	if always {
		return client.ResendAlways
	}
	return client.ResendNever
}
