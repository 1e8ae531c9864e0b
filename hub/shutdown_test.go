package hub_test

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// browser is the headers by which the server knows a browser's EventSource.
var browser = []string{"Accept", "text/event-stream", "Sec-Fetch-Mode", "cors"}

// farewell asserts that a shutdown ends the stream, and returns the reconnection time that
// the client is sent.
func (s *stream) farewell() time.Duration {
	s.t.Helper()
	b := s.block()
	require.True(s.t, b.silent, "%q", b.text)
	require.NotZero(s.t, b.Retry, "%q", b.text)
	require.Empty(s.t, b.ID)
	s.expectEnd()
	return b.Retry
}

func TestShutdownEndsAllSessions(t *testing.T) {
	forEach(t, func(t *test) {
		left := make(chan error, 10)
		a := t.start(plan{hub: hub.Config{OnLeave: func(_ *hub.Member, _ string, cause error) { left <- cause }}})
		streams := []*stream{a.connect("/"), a.connect("/"), a.connect("/?topic=quiet")}
		a.publishN("a", 1, 3)
		require.NoError(t, a.Shutdown(t.Context()))
		require.Zero(t, a.Stats().Members)
		for i, s := range streams {
			require.NotEmpty(t, s.block().ID)
			if i < 2 {
				s.expectN(1, 3)
			}
			retry := s.farewell()
			require.GreaterOrEqual(t, retry, 3*time.Second)
			require.Less(t, retry, 8*time.Second)
			require.ErrorIs(t, testkit.Receive(t, left), sse.ErrShutdown)
			require.Equal(t, sse.EndShutdown, a.end().Reason)
		}
		require.NoError(t, a.Shutdown(t.Context()), "again")
	})
}

func TestShutdownAfterAllThatIsDue(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{small: true, sub: hub.Subscription{Topics: []string{"a", "b"}}})
		slow := []*stream{a.connectSlow("/"), a.connectSlow("/"), a.connectSlow("/")}
		a.blockWrite("a", slow[0])
		for i := range 50 {
			a.publish([]string{"a", "b"}[i%2], numbered(i))
		}
		down := make(chan error, 1)
		go func() { down <- a.Shutdown(t.Context()) }()
		testkit.Eventually(t, func() bool {
			_, err := a.Publish(t.Context(), "a", sse.Event{Data: "too late"})
			return err != nil
		}, "the shutdown to begin")
		require.Empty(t, down)
		for _, s := range slow {
			s.readOn()
		}
		for _, s := range slow {
			require.Equal(t, "large", s.event().Name)
			for i := range 50 {
				require.Equal(t, i, number(t, s.event()))
			}
			for {
				b, err := s.tryBlock() // events that were published before the shutdown had begun
				require.NoError(t, err)
				if b.Retry != 0 {
					break
				}
				require.Equal(t, "too late", b.Data)
			}
			s.expectEnd()
		}
		require.NoError(t, testkit.Receive(t, down))
		for range slow {
			require.Equal(t, sse.EndShutdown, a.end().Reason)
		}
	})
}

func TestShutdownDoesNotWaitForEver(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{small: true, sse: sse.Config{WriteTimeout: time.Hour}})
		s := a.connectSlow("/")
		a.blockWrite("a", s)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		a.shutdownLeaves(ctx, 1)
		require.Equal(t, sse.EndShutdown, a.end().Reason)
		_, err := s.rest()
		require.Error(t, err, "an incomplete event must not look like an orderly end")

		canceled, cancelNow := context.WithCancel(t.Context())
		cancelNow()
		testkit.Eventually(t, func() bool { return a.Stats().Members == 0 }, "the member to leave")
		require.NoError(t, a.Shutdown(canceled), "nothing is left to wait for")
	})
}

func TestShutdownOfAnEmptyHub(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		h, err := hub.New(hub.Config{LogAge: time.Minute})
		require.NoError(t, err)
		_, err = h.Publish(t.Context(), "a", sse.Event{Data: "1"})
		require.NoError(t, err)
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() { testkit.NoError(t, h.Shutdown(canceled)) })
		}
		all.Wait()
		_, err = h.Publish(t.Context(), "a", sse.Event{Data: "2"})
		require.ErrorIs(t, err, sse.ErrShutdown)
		require.EqualError(t, err, "hub: publish: sse: shutting down")
		require.EqualValues(t, 1, h.Position().Offset)
		require.EqualValues(t, 1, h.Stats().Published)
	}
}

func TestShutdownRefusesWhoComesLater(t *testing.T) {
	forEach(t, func(t *test) {
		joins := make(chan string, 1)
		errs := make(chan error, 10)
		a := t.start(plan{
			hub: hub.Config{OnJoin: func(_ *hub.Member, topic string) { joins <- topic }},
			serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
				sub.Snapshot = func(_ *sse.ServerSession, at hub.Position) (hub.Position, error) {
					assert.Fail(t, "no snapshot is needed")
					return at, nil
				}
				err := h.Serve(s, sub)
				errs <- err
				return err
			},
		})
		a.publish("a", sse.Event{Data: "1"})
		require.NoError(t, a.Shutdown(t.Context()))

		s := a.connect("/", browser...)
		b := s.block()
		require.NotZero(t, b.Retry, "the client is told when to reconnect")
		require.True(t, b.silent)
		s.expectEnd()
		s = a.dial("/")
		require.Equal(t, http.StatusServiceUnavailable, s.StatusCode)
		seconds, err := strconv.Atoi(s.Header.Get("Retry-After"))
		require.NoError(t, err)
		require.Positive(t, seconds)
		for range 2 {
			err := testkit.Receive(t, errs)
			require.ErrorIs(t, err, sse.ErrShutdown)
			require.EqualError(t, err, "hub: serve: sse: shutting down")
			require.Equal(t, sse.EndShutdown, a.end().Reason)
		}
		require.Empty(t, joins)
		require.Equal(t, 1, a.Stats().Topics)
	})
}

// During a shutdown, every event that Publish accepts reaches every client that Serve
// accepts.
func TestShutdownBesidePublishersAndClients(t *testing.T) {
	forEach(t, func(t *test) {
		var joins, leaves atomic.Int32
		a := t.start(plan{hub: hub.Config{
			OnJoin:  func(*hub.Member, string) { joins.Add(1) },
			OnLeave: func(*hub.Member, string, error) { leaves.Add(1) },
		}})
		var all, connected sync.WaitGroup
		var accepted [3]atomic.Int64
		for i := range accepted {
			all.Go(func() {
				for n := int64(1); ; n++ {
					_, err := a.Publish(t.Context(), "a", sse.Event{Name: strconv.Itoa(i), Data: strconv.FormatInt(n, 10)})
					if err != nil {
						testkit.ErrorIs(t, err, sse.ErrShutdown)
						return
					}
					accepted[i].Store(n)
					time.Sleep(100 * time.Microsecond)
				}
			})
		}
		const clients = 10
		connected.Add(clients)
		ends := make(chan map[string]string, 1000)
		for range clients {
			all.Go(func() {
				once := sync.OnceFunc(connected.Done)
				for {
					s, err := a.try(a.client, "/", browser...)
					if !testkit.NoError(t, err) {
						once()
						return
					}
					last := make(map[string]string)
					for {
						b, err := s.tryBlock()
						if err != nil {
							break
						}
						if b.silent {
							continue
						}
						if last[b.Name] != "" {
							n, err := strconv.Atoi(last[b.Name])
							testkit.NoError(t, err)
							assert.Equal(t, strconv.Itoa(n+1), b.Data)
						}
						last[b.Name] = b.Data
						once()
					}
					if len(last) == 0 { // Serve has refused the client
						return
					}
					ends <- last
				}
			})
		}
		connected.Wait()
		require.NoError(t, a.Shutdown(t.Context()))
		all.Wait()
		close(ends)
		want := make(map[string]string)
		for i := range accepted {
			want[strconv.Itoa(i)] = strconv.FormatInt(accepted[i].Load(), 10)
		}
		n := 0
		for last := range ends {
			for name, data := range last {
				require.Equal(t, want[name], data)
			}
			n++
		}
		require.GreaterOrEqual(t, n, clients)
		require.Equal(t, joins.Load(), leaves.Load())
	})
}

func TestShutdownOfThePluginOnly(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{})
		streams := []*stream{a.connect("/"), a.connect("/?topic=b")}
		a.joined("b", 1)
		require.NoError(t, a.plugin.Shutdown(t.Context()))
		for _, s := range streams {
			require.NotEmpty(t, s.block().ID)
			s.farewell()
			require.Equal(t, sse.EndShutdown, a.end().Reason)
		}
		require.Zero(t, a.plugin.Len())
		require.Zero(t, a.Stats().Members)
		a.publish("a", sse.Event{Data: "the hub goes on"})
	})
}

func TestShutdownOfTheServer(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{server: func(a *app, srv *http.Server) { a.plugin.Attach(srv) }})
		s := a.connect("/")
		a.joined("a", 1)
		ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
		defer cancel()
		down := make(chan error, 1)
		go func() { down <- a.srv.Config.Shutdown(ctx) }()
		require.NotEmpty(t, s.block().ID)
		s.farewell()
		require.NoError(t, testkit.Receive(t, down))
		require.Equal(t, sse.EndShutdown, a.end().Reason)
	})
}

// This is the recommended order.
func TestShutdownOfHubPluginAndServer(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{})
		s := a.connect("/")
		a.publishN("a", 1, 100)
		ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
		defer cancel()
		require.NoError(t, a.Shutdown(ctx))
		require.NoError(t, a.plugin.Shutdown(ctx))
		require.NoError(t, a.srv.Config.Shutdown(ctx))
		s.expectN(1, 100)
		s.farewell()
	})
}

// The client is sent Config.Retry when the stream opens, and at least that time again at
// the end.
func TestShutdownAfterARetryOnOpen(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{sse: sse.Config{Retry: 10 * time.Second}})
		s := a.connect("/")
		require.Equal(t, 10*time.Second, s.block().Retry)
		require.NoError(t, a.Shutdown(t.Context()))
		require.NotEmpty(t, s.block().ID)
		require.GreaterOrEqual(t, s.farewell(), 10*time.Second)
	})
}
