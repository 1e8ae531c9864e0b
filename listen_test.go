package sse_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/engine"
	"github.com/chi-sse/sse/internal/testkit"
)

// listening is a call of ListenAndServe.
type listening struct {
	t    *testing.T
	url  string
	addr string
	stop context.CancelFunc
	done chan error
	*http.Client
}

// listenOn runs ListenAndServe on a free port until the test ends.
func listenOn(t *testing.T, srv *http.Server, r *sse.Router, opts ...sse.ServeOption) *listening {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	s := &listening{t: t, addr: l.Addr().String(), stop: cancel, done: make(chan error, 1)}
	s.url = "http://" + s.addr
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	s.Client = &http.Client{Transport: transport, Timeout: testkit.Patience}
	t.Cleanup(transport.CloseIdleConnections)
	go func() { s.done <- sse.ListenAndServe(ctx, srv, r, append(opts, sse.WithListener(l))...) }()
	t.Cleanup(cancel)
	return s
}

// connect opens a stream, reads its first event, "open", and returns a channel for the rest.
func (s *listening) connect(path string) (resp *http.Response, rest <-chan answer) {
	s.t.Helper()
	resp, err := s.Get(s.url + path)
	require.NoError(s.t, err)
	require.Equal(s.t, http.StatusOK, resp.StatusCode)
	head := make([]byte, len("data: open\n"))
	_, err = io.ReadFull(resp.Body, head)
	require.NoError(s.t, err)
	ch := make(chan answer, 1)
	go func() { ch <- readAnswer(resp) }()
	return resp, ch
}

// accepts reports whether something accepts connections.
func (s *listening) accepts() bool {
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// ListenAndServe ends sessions of each mode in order, over each protocol, and returns nil.
func TestListenAndServe(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		for name, opts := range map[string][]sse.ServeOption{
			"at once": nil, "over": {sse.WithDrainOver(300 * time.Millisecond)}, "wait": {sse.WithDrainWait(300 * time.Millisecond)},
		} {
			t.Run(fmt.Sprint(name, ", TLS ", secure), func(t *testing.T) {
				t.Parallel()
				var hubs []*hub.Hub
				var cfg sse.Config
				ends := endsOf(&cfg)
				r := newRouter(cfg)
				r.SSE("/0", untilDone)
				for i, detached := range []bool{false, true} {
					h, err := hub.New(hub.Config{Detached: detached})
					require.NoError(t, err)
					hubs = append(hubs, h)
					opts = append(opts, sse.WithHubs(h))
					_, err = h.Publish(t.Context(), "a", sse.Event{Data: "open"})
					require.NoError(t, err)
					r.SSE(fmt.Sprint("/", i+1), func(s *sse.ServerSession) error {
						return h.Serve(s, hub.Subscription{Topics: []string{"a"}, Start: hub.Beginning})
					})
				}
				srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0)} // of handshakes that the end cuts off
				if secure {
					srv.TLSConfig = &tls.Config{Certificates: certificates(), MinVersion: tls.VersionTLS12}
				}
				s := listenOn(t, srv, r, opts...)
				if secure {
					s.url = "https://" + s.addr
				}
				var rests []<-chan answer
				for i := range 3 {
					resp, rest := s.connect(fmt.Sprint("/", i))
					require.Equal(t, secure, resp.ProtoMajor == 2)
					rests = append(rests, rest)
				}
				idle, err := net.Dial("tcp", s.addr) // as a browser does in advance
				require.NoError(t, err)
				defer idle.Close()
				for _, h := range hubs {
					_, err = h.Publish(t.Context(), "a", sse.Event{Data: "last"})
					require.NoError(t, err)
				}
				s.stop()
				require.NoError(t, testkit.Receive(t, s.done))
				for i, rest := range rests {
					a := testkit.Receive(t, rest)
					require.NoError(t, a.Err, "the stream is complete")
					require.Contains(t, a.Body, "retry: ")
					require.Equal(t, i > 0, strings.Contains(a.Body, "data: last\n"))
					require.Equal(t, sse.EndShutdown, testkit.Receive(t, ends).Reason)
				}
				for _, h := range hubs {
					_, err = h.Publish(t.Context(), "a", sse.Event{Data: "late"})
					require.ErrorIs(t, err, sse.ErrShutdown)
				}
				require.False(t, s.accepts(), "the listener is closed")
				require.Zero(t, r.Plugin().Len())
			})
		}
	}
}

// From the beginning of each kind of drain on, new sessions are refused. Other requests are served.
func TestListenAndServeRefusesWhileItDrains(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]sse.ServeOption{
		"over": sse.WithDrainOver(time.Hour), "wait": sse.WithDrainWait(time.Hour),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, err := hub.New(hub.Config{})
			require.NoError(t, err)
			finish := make(chan struct{})
			r := newRouter(sse.Config{})
			r.SSE("/", func(s *sse.ServerSession) error {
				if err := s.SendData("open"); err != nil {
					return err
				}
				select {
				case <-s.Done():
					return nil
				case <-finish:
					return s.SendData("done")
				}
			})
			r.Get("/plain", plain)
			s := listenOn(t, &http.Server{}, r, opt, sse.WithHubs(h))
			_, rest := s.connect("/")
			s.stop()
			testkit.Eventually(t, func() bool {
				resp, err := s.Get(s.url)
				require.NoError(t, err)
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					return false
				}
				require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
				require.NotEmpty(t, resp.Header.Get("Retry-After"))
				return true
			}, "the refusal of sessions")
			resp, err := s.Get(s.url + "/plain")
			require.NoError(t, err)
			a := readAnswer(resp)
			require.Equal(t, "plain", a.Body)
			_, err = h.Publish(t.Context(), "a", sse.Event{Data: "x"})
			require.NoError(t, err, "hubs accept publications until then")
			require.Empty(t, s.done)
			if name == "over" {
				r.Plugin().Attach(&http.Server{}) // another one does no harm
				go func() { _ = r.Plugin().Shutdown(context.Background()) }()
			} else {
				close(finish)
			}
			require.NoError(t, testkit.Receive(t, s.done), "it ends with the last session")
			b := testkit.Receive(t, rest)
			require.NoError(t, b.Err)
			require.Equal(t, name == "wait", strings.Contains(b.Body, "data: done\n"))
		})
	}
}

// Sessions end evenly over the time.
func TestListenAndServeDrainsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n, over = 60, time.Minute
		var cfg sse.Config
		ends := endsOf(&cfg)
		r := newRouter(cfg)
		h, err := hub.New(hub.Config{})
		require.NoError(t, err)
		r.SSE("/own", untilDone)
		r.SSE("/hub", func(s *sse.ServerSession) error { return h.Serve(s, hub.Subscription{Topics: []string{"a"}}) })
		var asked atomic.Int64
		r.SSE("/stub", func(s *sse.ServerSession) error { // of a hub that ends the session when it is asked to
			e := engine.Of(s)
			e.Attach(&stubHub{endSoon: func(cause error) bool {
				asked.Add(1)
				assert.Equal(t, sse.ErrShutdown, cause)
				e.End(cause)
				return true
			}})
			return untilDone(s)
		})
		l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
		l.close = sync.OnceFunc(func() { close(l.done) })
		p := &pipeServer{t, l.conns}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- sse.ListenAndServe(ctx, &http.Server{}, r, sse.WithListener(l), sse.WithDrainWait(time.Hour), sse.WithDrainOver(over), sse.WithHubs(h))
		}()
		for i := range n {
			s := p.connect([]string{"/own", "/hub", "/stub"}[i%3])
			go io.Copy(io.Discard, s.Body) //nolint:errcheck // it reads what there is
		}
		began := time.Now()
		stop()
		for i := range n {
			require.Equal(t, sse.EndShutdown, (<-ends).Reason)
			want := over / n * time.Duration(i+1)
			require.InDelta(t, want.Seconds(), time.Since(began).Seconds(), 0.1)
		}
		require.NoError(t, <-done)
		require.EqualValues(t, n/3, asked.Load())
		require.Less(t, time.Since(began), over+time.Second)
	})
}

// Streams that finish by themselves may, and those that do not are ended.
func TestListenAndServeDrainWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := sse.Config{Heartbeat: sse.Heartbeat{Period: -1}} // nobody reads meanwhile
		ends := endsOf(&cfg)
		r := newRouter(cfg)
		r.SSE("/job", func(s *sse.ServerSession) error {
			if err := s.Open(); err != nil {
				return err
			}
			time.Sleep(20 * time.Second)
			return s.SendData("done")
		})
		r.SSE("/feed", untilDone)
		l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
		l.close = sync.OnceFunc(func() { close(l.done) })
		p := &pipeServer{t, l.conns}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- sse.ListenAndServe(ctx, &http.Server{}, r, sse.WithListener(l), sse.WithDrainOver(time.Hour), sse.WithDrainWait(time.Minute))
		}()
		job, feed := p.connect("/job"), p.connect("/feed")
		began := time.Now()
		stop()
		require.Equal(t, "done", job.nextData())
		job.end()
		require.Equal(t, sse.EndReturned, (<-ends).Reason)
		require.Equal(t, 20*time.Second, time.Since(began))
		time.Sleep(39 * time.Second)
		idle, server := net.Pipe() // as a browser opens in advance
		defer idle.Close()
		l.conns <- server
		require.Equal(t, "open", feed.nextData())
		body, err := feed.rest()
		require.NoError(t, err)
		require.Contains(t, body, "retry: ")
		require.Equal(t, sse.EndShutdown, (<-ends).Reason)
		require.Equal(t, time.Minute, time.Since(began))
		require.NoError(t, <-done)
		require.Less(t, time.Since(began), time.Minute+time.Second, "it has waited for the idle connection")
	})
}

// The sessions of handlers do not wait for hubs.
func TestListenAndServeDrainsSideBySide(t *testing.T) {
	t.Parallel()
	var cfg sse.Config
	ends := endsOf(&cfg)
	r := newRouter(cfg)
	r.SSE("/", untilDone)
	s := listenOn(t, &http.Server{}, r, sse.WithHubs(waitingHub(func() {
		assert.Equal(t, sse.EndShutdown, testkit.Receive(t, ends).Reason)
	})))
	s.connect("/")
	s.stop()
	require.NoError(t, testkit.Receive(t, s.done))
}

type waitingHub func()

func (h waitingHub) Shutdown(context.Context) error { h(); return nil }

// What does not end in time is cut off, and the error says so.
func TestListenAndServeCutsOff(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	r := newRouter(sse.Config{})
	r.SSE("/", func(s *sse.ServerSession) error { defer func() { <-release }(); return untilDone(s) })
	r.Get("/slow", func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush(); <-release })
	broken := errors.New("the hub is broken")
	s := listenOn(t, &http.Server{}, r, sse.WithDrainTimeout(50*time.Millisecond), sse.WithHubs(failingHub{broken}))
	defer close(release)
	s.connect("/")
	resp, err := s.Get(s.url + "/slow")
	require.NoError(t, err)
	s.stop()
	err = testkit.Receive(t, s.done)
	require.ErrorIs(t, err, broken)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "sse: shutdown with 1 handlers still running")
	require.ErrorContains(t, err, "sse: shutdown of the server, with requests still running")
	err = readAnswer(resp).Err
	require.Error(t, err, "it is cut off")
	var timeout net.Error
	require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "the connection is still open")
}

type failingHub struct{ err error }

func (h failingHub) Shutdown(context.Context) error { return h.err }

// When it cannot listen, nothing has happened. What has ended is not served again.
func TestListenAndServeFails(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	r := newRouter(sse.Config{})
	r.SSE("/", untilDone)
	h, err := hub.New(hub.Config{})
	require.NoError(t, err)
	srv := &http.Server{Addr: taken.Addr().String()}
	var opErr *net.OpError
	require.ErrorAs(t, sse.ListenAndServe(t.Context(), srv, r, sse.WithHubs(h)), &opErr)
	_, err = h.Publish(t.Context(), "a", sse.Event{Data: "x"})
	require.NoError(t, err, "the hub is as it was")

	s := listenOn(t, srv, r, sse.WithHubs(h)) // the same server again
	_, rest := s.connect("/")
	s.stop()
	require.NoError(t, testkit.Receive(t, s.done))
	require.NoError(t, testkit.Receive(t, rest).Err)

	again := listenOn(t, &http.Server{}, r)
	require.ErrorIs(t, testkit.Receive(t, again.done), sse.ErrShutdown, "the plugin has ended")
	require.False(t, again.accepts())
	srv = &http.Server{}
	require.NoError(t, srv.Close())
	again = listenOn(t, srv, newRouter(sse.Config{}))
	require.ErrorIs(t, testkit.Receive(t, again.done), http.ErrServerClosed, "the server has ended")
	require.False(t, again.accepts())
}

// An end of the listener ends everything.
func TestListenAndServeLosesItsListener(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := newRouter(sse.Config{})
	r.SSE("/", untilDone)
	s := listenOn(t, &http.Server{}, r, sse.WithListener(l)) // which the option of listenOn replaces
	_, rest := s.connect("/")
	l.Close()
	require.Empty(t, s.done)
	done := make(chan error, 1)
	l, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() {
		done <- sse.ListenAndServe(t.Context(), &http.Server{}, r, sse.WithListener(l), sse.WithDrainWait(time.Hour))
	}()
	testkit.Eventually(t, func() bool {
		resp, err := http.Get("http://" + l.Addr().String() + "/none")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	}, "the second server")
	l.Close()
	require.ErrorIs(t, testkit.Receive(t, done), net.ErrClosed)
	require.NoError(t, testkit.Receive(t, rest).Err, "the sessions of all servers have ended")
	s.stop()
	require.NoError(t, testkit.Receive(t, s.done))
}

// A context that is done already, and one server that serves two listeners at the same time.
func TestListenAndServeTwice(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.SSE("/", untilDone)
	var states sync.Map
	srv := &http.Server{ConnState: func(_ net.Conn, state http.ConnState) { states.Store(state, true) }}
	r.Plugin().Attach(srv)
	a := listenOn(t, srv, r)
	_, first := a.connect("/")
	b := listenOn(t, srv, r)
	_, second := b.connect("/")
	a.stop()
	require.NoError(t, testkit.Receive(t, a.done))
	require.NoError(t, testkit.Receive(t, first).Err)
	require.NoError(t, testkit.Receive(t, second).Err)
	require.ErrorIs(t, testkit.Receive(t, b.done), http.ErrServerClosed)
	_, ok := states.Load(http.StateActive)
	require.True(t, ok, "the ConnState of the application")

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, sse.ListenAndServe(ended, &http.Server{}, newRouter(sse.Config{}), sse.WithListener(l)))
	_, err = l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}

// The requests have the values of ctx, but not its end.
func TestListenAndServeContext(t *testing.T) {
	t.Parallel()
	type key struct{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	r := newRouter(sse.Config{})
	asked, released, answer := make(chan any), make(chan bool), make(chan error)
	r.Get("/", func(_ http.ResponseWriter, r *http.Request) {
		asked <- r.Context().Value(key{})
		<-released
		answer <- r.Context().Err()
	})
	done := make(chan error, 1)
	go func() { done <- sse.ListenAndServe(ctx, &http.Server{}, r, sse.WithListener(l)) }()
	go http.Get("http://" + l.Addr().String()) //nolint:errcheck // the handler is what counts
	require.Equal(t, "value", testkit.Receive(t, asked))
	stop()
	time.Sleep(10 * time.Millisecond)
	released <- true
	require.NoError(t, testkit.Receive(t, answer), "a request that is running goes on")
	require.NoError(t, testkit.Receive(t, done))
}

func TestServeOptionsPanic(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]func(){
		"sse: WithDrainOver(-1ns): the time must not be negative": func() { sse.WithDrainOver(-1) },
		"sse: WithDrainWait(-1ns): the time must not be negative": func() { sse.WithDrainWait(-1) },
		"sse: WithDrainTimeout(0s): the time must be positive":    func() { sse.WithDrainTimeout(0) },
	} {
		require.Equal(t, want, panicOf(t, f))
	}
}

// A server with a hub, from its start to its end.
func ExampleListenAndServe() {
	h, err := hub.New(hub.Config{})
	if err != nil {
		panic(err)
	}
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/events", func(s *sse.ServerSession) error {
		return h.Serve(s, hub.Subscription{Topics: []string{"news"}})
	})

	ctx, stop := context.WithTimeout(context.Background(), 50*time.Millisecond) // a program has signal.NotifyContext
	defer stop()
	fmt.Println(sse.ListenAndServe(ctx, &http.Server{Addr: "127.0.0.1:0"}, r, sse.WithHubs(h)))
	_, err = h.Publish(context.Background(), "news", sse.Event{Data: "late"})
	fmt.Println(errors.Is(err, sse.ErrShutdown))
	// Output:
	// <nil>
	// true
}
