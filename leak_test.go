package sse_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

func TestLeakNothingAfterAThousandClients(t *testing.T) {
	const workers, each = 25, 20
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			var opened, closed, late atomic.Int64
			r := newRouter(sse.Config{
				Heartbeat: sse.Heartbeat{Period: time.Millisecond},
				OnOpen:    func(*sse.ServerSession) { opened.Add(1) },
				OnClose: func(_ *sse.ServerSession, e sse.End) {
					closed.Add(1)
					if e.Opened {
						opened.Add(-1)
					}
				},
			})
			r.Use(middleware.Compress(5), middleware.Timeout(time.Nanosecond))
			r.SSE("/{n}", func(s *sse.ServerSession) error {
				// The handler starts three producers. One of them runs longer than the handler.
				var producers sync.WaitGroup
				for range 2 {
					producers.Go(func() {
						for i := 0; s.SendData(strings.Repeat("x", rand.N(2000))) == nil && i < 20; i++ {
						}
					})
				}
				late.Add(1)
				go func() {
					defer late.Add(-1)
					for s.Comment("late") == nil {
						time.Sleep(time.Millisecond)
					}
				}()
				producers.Wait()
				if strings.HasSuffix(s.Call().URL.Path, "0") {
					<-s.Done()
				}
				return nil
			})
			srv := serve(t, r, proto.Setup)
			var clients sync.WaitGroup
			for w := range workers {
				clients.Go(func() {
					for i := range each {
						resp, err := srv.Client().Do(newRequest(t, "GET", fmt.Sprintf("%s/%d", srv.URL, w*each+i)))
						if !testkit.NoError(t, err) {
							return
						}
						assert.Equal(t, http.StatusOK, resp.StatusCode)
						if i%3 == 0 && i%10 != 0 {
							readAnswer(resp)
							continue
						}
						s := newStream(t, resp, func() {})
						for range rand.N(20) { // the client leaves in the middle of the stream
							if _, err := s.dec.Decode(); err != nil {
								break
							}
						}
						resp.Body.Close()
					}
				})
			}
			clients.Wait()
			testkit.Eventually(t, func() bool { return r.Plugin().Len() == 0 }, "the end of all sessions")
			testkit.Eventually(t, func() bool { return closed.Load() == workers*each }, "a call of OnClose for each session")
			testkit.Eventually(t, func() bool { return opened.Load() == 0 }, "the end of each session that opened")
			testkit.Eventually(t, func() bool { return late.Load() == 0 }, "the end of the producers that outlive their handler")
			require.NoError(t, r.Plugin().Shutdown(t.Context()))
			srv.CloseClientConnections()
			srv.Close()
			testkit.GoroutinesBackTo(t, before)
		})
	}
}
