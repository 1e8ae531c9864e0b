package hub_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// net/http calls ConnState in the middle of a detaching. A kick from there counts at once, and
// what was published before it arrives.
func TestKickWhileTheSessionDetaches(t *testing.T) {
	for name, late := range map[string]func(a *app, s *sse.ServerSession){
		"then a send": func(a *app, s *sse.ServerSession) {
			err := s.Send(sse.Event{Data: "too late"})
			testkit.ErrorIs(a.t, err, hub.ErrKicked)
			testkit.ErrorIs(a.t, err, errOwn)
		},
		"then an event": func(a *app, _ *sse.ServerSession) {
			_, err := a.Publish(a.t.Context(), "a", sse.Event{Data: "too late"})
			testkit.NoError(a.t, err)
		},
		"then a shutdown": func(a *app, _ *sse.ServerSession) {
			go func() { testkit.NoError(a.t, a.plugin.Shutdown(a.t.Context())) }()
		},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				if !t.detached {
					return // it does not detach
				}
				var once sync.Once
				joins := make(chan string, 10)
				a := t.start(plan{
					hub: hub.Config{OnJoin: func(_ *hub.Member, topic string) { joins <- topic }},
					server: func(a *app, srv *http.Server) {
						srv.ConnState = func(_ net.Conn, state http.ConnState) {
							if state != http.StateHijacked {
								return
							}
							once.Do(func() {
								for s := range a.plugin.Sessions() {
									testkit.NoError(t, s.Send(sse.Event{Data: "sent"}))
									_, err := a.Publish(t.Context(), "a", sse.Event{Data: "published"})
									testkit.NoError(t, err)
									if a.kick("a", errOwn) != 1 || a.Count("a") != 0 {
										t.Error("the member is not kicked")
									}
									late(a, s)
								}
							})
						}
					},
				})
				s := a.connect("/")
				s.expect("sent", "published")
				s.expectEnd()
				e := a.end()
				require.Equal(t, sse.EndKicked, e.Reason)
				require.ErrorIs(t, e.Err, errOwn)
				require.Empty(t, joins, "it was kicked before it joined")
			})
		})
	}
}

// A shutdown cuts off a client in the middle of an event early if its context ends soon, but not
// one of a hub that takes what was published for it.
func TestShutdownWithAShortContextDeliversAllTheSame(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{small: true, sse: sse.Config{WriteTimeout: time.Hour}})
		s := a.connectSlow("/")
		a.joined("a", 1)
		for range 40 {
			a.publish("a", sse.Event{Data: strings.Repeat("x", 30_000)})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1900*time.Millisecond)
		defer cancel()
		down := make(chan error, 1)
		go func() { down <- a.plugin.Shutdown(ctx) }()
		for range 40 { // more than half of the time, steadily
			s.event()
			time.Sleep(30 * time.Millisecond)
		}
		_, err := s.remaining()
		require.NoError(t, err)
		require.NoError(t, testkit.Receive(t, down))
		require.Equal(t, sse.EndShutdown, a.end().Reason)
	})
}
