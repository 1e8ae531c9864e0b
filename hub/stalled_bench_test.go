package hub_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// BenchmarkAmongStalled measures how long an event takes to a healthy client, of one that is
// published each millisecond, while other detached members have a Send under way that their
// clients do not take.
func BenchmarkAmongStalled(b *testing.B) {
	for _, stalled := range []int{0, 300} {
		b.Run(fmt.Sprintf("stalled=%d", stalled), func(b *testing.B) {
			quiet := slog.New(slog.DiscardHandler)
			joined := make(chan *hub.Member, stalled+1)
			h, err := hub.New(hub.Config{Detached: true, Logger: quiet, OnJoin: func(m *hub.Member, _ string) { joined <- m }})
			require.NoError(b, err)
			r := sse.Install(chi.NewRouter(), sse.Config{Logger: quiet, WriteTimeout: time.Minute})
			r.SSE("/", func(s *sse.ServerSession) error { return h.Serve(s, hub.Subscription{Topics: []string{"a"}}) })
			srv := httptest.NewServer(r)
			defer srv.Close()
			connect := func() net.Conn {
				conn, err := net.Dial("tcp", srv.Listener.Addr().String())
				require.NoError(b, err)
				_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				require.NoError(b, err)
				return conn
			}
			large := strings.Repeat("x", 4<<20)
			var conns []net.Conn
			defer func() {
				for _, conn := range conns {
					conn.Close()
				}
			}()
			for range stalled {
				conn := connect()
				conns = append(conns, conn)
				m := <-joined
				go func() { _ = m.Session().SendData(large) }()
			}
			conn := connect()
			defer conn.Close()
			lines := bufio.NewScanner(conn)
			next := func() (sent int64) {
				for lines.Scan() {
					if _, err := fmt.Sscanf(lines.Text(), "data: t%d", &sent); err == nil {
						return sent
					}
				}
				b.Fatal(lines.Err())
				return 0
			}
			time.Sleep(500 * time.Millisecond) // all stall by then
			began := time.Now()
			publish := func() {
				_, err := h.Publish(context.Background(), "a", sse.Event{Data: fmt.Sprintf("t%d", time.Since(began))})
				require.NoError(b, err)
			}
			var took []time.Duration
			for b.Loop() {
				publish()
				took = append(took, time.Since(began)-time.Duration(next()))
				time.Sleep(time.Millisecond)
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64(took[len(took)-1].Microseconds()), "max-µs")
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
			defer cancel()
			_ = r.Plugin().Shutdown(ctx) // cuts off those that have stalled
		})
	}
}
