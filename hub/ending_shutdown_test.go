package hub_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// One call drains the plugin and the hub: clients that read get everything, and one that does
// not delays them no longer than its own bound.
func TestShutdownOfThePluginDeliversFirst(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{small: true, sse: sse.Config{WriteTimeout: time.Hour}})
		stuck := a.connectSlow("/?topic=stuck")
		a.joined("stuck", 1)
		a.blockWrite("stuck", stuck)
		var streams []*stream
		for range 5 {
			streams = append(streams, a.connect("/"))
		}
		a.joined("a", len(streams))
		a.publishN("a", 1, 100)
		began := time.Now()
		require.NoError(t, a.plugin.Shutdown(t.Context()))
		require.Less(t, time.Since(began), 6*time.Second)
		require.Zero(t, a.Stats().Members)
		for _, s := range streams {
			s.expectN(1, 100)
			s.farewell()
		}
		_, err := stuck.rest()
		require.Error(t, err)
		a.publish("a", sse.Event{Data: "the hub goes on"})
	})
}

// A hub whose turn comes when the time of the context is over still sends what its clients
// take at once, and waits for no others.
func TestShutdownOfTwoHubsOneAfterTheOther(t *testing.T) {
	forEach(t, func(t *test) {
		first := t.start(plan{small: true, sse: sse.Config{WriteTimeout: time.Hour}})
		stuck := first.connectSlow("/")
		first.blockWrite("a", stuck)
		second := t.start(plan{small: true, sse: sse.Config{WriteTimeout: time.Hour}})
		stuckToo := second.connectSlow("/?topic=stuck")
		second.joined("stuck", 1)
		second.blockWrite("stuck", stuckToo)
		var streams []*stream
		for range 20 {
			streams = append(streams, second.connect("/"))
		}
		second.joined("a", len(streams))
		second.publishN("a", 1, 100)

		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, first.Shutdown(ctx), context.DeadlineExceeded)
		second.shutdownLeaves(ctx, 1)
		for _, s := range streams {
			s.expectN(1, 100)
			s.farewell()
		}
	})
}

// A client that takes events is not cut off by a shutdown, even if it needs longer than the
// bound of one that does not.
func TestShutdownWaitsForAClientThatReads(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{small: true, sub: hub.Subscription{Start: hub.Beginning}})
		const n = 400
		for i := range n {
			a.publish("a", sse.Event{Name: strconv.Itoa(i), Data: strings.Repeat("x", 8<<10)})
		}
		s := a.connectSlow("/")
		down := make(chan error, 1)
		go func() { down <- a.plugin.Shutdown(context.Background()) }()
		for i := range n {
			require.Equal(t, strconv.Itoa(i), s.event().Name)
			time.Sleep(6 * time.Millisecond)
		}
		s.farewell()
		require.NoError(t, testkit.Receive(t, down))
	})
}

// A client that takes a large event part by part is not cut off by a shutdown: it gets the
// event and the farewell. One that takes nothing of such an event is cut off.
func TestShutdownDuringALargeEvent(t *testing.T) {
	for name, shutdown := range map[string]func(a *app, ctx context.Context) error{
		"plugin": func(a *app, ctx context.Context) error { return a.plugin.Shutdown(ctx) },
		"hub":    func(a *app, ctx context.Context) error { return a.Shutdown(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				a := t.start(plan{small: true})
				steady, stuck := a.connectSlow("/"), a.connectSlow("/?topic=stuck")
				a.joined("a", 1)
				a.joined("stuck", 1)
				steady.r = bufio.NewReaderSize(steadyReader{steady.Body}, 8<<10)
				large := sse.Event{Data: strings.Repeat("x", 5<<18)}
				a.publish("a", large)
				a.publish("stuck", large)
				down := make(chan error, 1)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				began := time.Now()
				go func() { down <- shutdown(a, ctx) }()

				ended := make(chan time.Duration, 1)
				go func() {
					<-a.ends
					ended <- time.Since(began)
				}()
				require.Equal(t, large.Data, steady.event().Data)
				steady.farewell()
				require.NoError(t, testkit.Receive(t, down))
				require.Greater(t, time.Since(began), 2*time.Second)
				require.Less(t, testkit.Receive(t, ended), 3*time.Second, "the stuck client") // its bound, after what fits into buffers
				require.Equal(t, sse.EndShutdown, a.end().Reason)
				_, err := stuck.rest()
				require.Error(t, err)
			})
		})
	}
}

// steadyReader reads 320 KB a second.
type steadyReader struct{ io.Reader }

func (r steadyReader) Read(p []byte) (int, error) {
	time.Sleep(25 * time.Millisecond)
	return r.Reader.Read(p[:min(len(p), 8<<10)])
}

// If the handler goes on after Serve has failed, a shutdown that came meanwhile still ends
// the session.
func TestShutdownWhileServeFails(t *testing.T) {
	forEach(t, func(t *test) {
		in, goOn := make(chan struct{}), make(chan struct{})
		a := t.start(plan{
			sse: sse.Config{OpenDelay: -1},
			sub: hub.Subscription{Snapshot: func(_ *sse.ServerSession, at hub.Position) (hub.Position, error) {
				close(in)
				<-goOn
				return at, errOwn
			}},
			serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
				testkit.ErrorIs(t, h.Serve(s, sub), errOwn)
				<-s.Done()
				return nil
			},
		})
		answered := make(chan error, 1)
		go func() {
			_, err := a.try(a.client, "/", browser...)
			answered <- err
		}()
		testkit.Receive(t, in)
		down := make(chan error, 1)
		go func() { down <- a.plugin.Shutdown(context.Background()) }()
		time.Sleep(5 * time.Millisecond)
		close(goOn)
		require.NoError(t, testkit.Receive(t, down))
		require.NoError(t, testkit.Receive(t, answered))
		require.Equal(t, sse.EndShutdown, a.end().Reason)
	})
}

// Kicks, shutdowns, publications and clients at the same time: run it with -race.
func TestEndsBesideEachOther(t *testing.T) {
	forEach(t, func(t *test) {
		pr := &presence{t: t}
		a := t.start(plan{hub: pr.config()})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 10 {
					s, err := a.try(a.client, "/?topic=a&topic=b", browser...)
					if !testkit.NoError(t, err) {
						return
					}
					_, err = s.remaining()
					testkit.NoError(t, err)
				}
			})
		}
		stop := make(chan struct{})
		var others sync.WaitGroup
		for _, f := range []func(){
			func() { a.kick("a", errOwn) },
			func() {
				for m := range a.Members("b") {
					m.Kick(nil)
				}
			},
			func() {
				for m := range a.Members("a") {
					_ = m.Subscribe("c")
					m.Unsubscribe("b")
				}
			},
			func() {
				_, err := a.Publish(context.Background(), "b", sse.Event{Data: "x"})
				assert.True(t, err == nil || errors.Is(err, sse.ErrShutdown))
			},
		} {
			others.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(200 * time.Microsecond):
						f()
					}
				}
			})
		}
		time.Sleep(20 * time.Millisecond)
		others.Go(func() { testkit.NoError(t, a.Shutdown(context.Background())) })
		others.Go(func() { testkit.NoError(t, a.plugin.Shutdown(context.Background())) })
		all.Wait()
		close(stop)
		others.Wait()
		testkit.Eventually(t, func() bool { return a.Stats().Members == 0 }, "all members to leave")
		pr.left(pr.joined(t, a))
	})
}
