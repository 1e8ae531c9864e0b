package client_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

// BenchmarkIdle measures the memory and goroutines of an open session that waits for its
// next event. To compare, it measures a plain request of an http.Client that waits for
// its body with a buffer of 512 bytes. The server runs in another process.
func BenchmarkIdle(b *testing.B) {
	const n = 4000
	b.Run("net-http", func(b *testing.B) {
		measureIdle(b, n, func(ctx context.Context, hc *http.Client, url string, open func()) {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
			require.NoError(b, err)
			req.Header.Set("Accept", "text/event-stream")
			resp, err := hc.Do(req)
			require.NoError(b, err)
			defer resp.Body.Close()
			open()
			buf := make([]byte, 512)
			for err == nil {
				_, err = resp.Body.Read(buf)
			}
		})
	})
	for name, cfg := range map[string]client.Config{
		"sse": {}, "sse-with-IdleTimeout": {IdleTimeout: time.Hour},
		"sse-with-both-timeouts": {IdleTimeout: time.Hour, EventTimeout: time.Hour},
	} {
		b.Run(name, func(b *testing.B) {
			measureIdle(b, n, func(ctx context.Context, hc *http.Client, url string, open func()) {
				cfg.OnOpen = func(*http.Response) { open() }
				_ = install(hc, cfg).SSE(ctx, url, func(s *client.Session) error {
					for _, err := range s.Incoming() {
						return err
					}
					return nil
				})
			})
		})
	}
}

func measureIdle(b *testing.B, n int, wait func(ctx context.Context, hc *http.Client, url string, open func())) {
	b.Helper()
	for range b.N {
		url, stop := idleServer(b)
		transport := &http.Transport{}
		hc := &http.Client{Transport: transport}
		ctx, cancel := context.WithCancel(b.Context())
		var opening, waiting sync.WaitGroup
		goroutines, heap, stack := footprint()
		for i := range n {
			opening.Add(1)
			waiting.Go(func() { wait(ctx, hc, url, opening.Done) })
			if i%100 == 99 {
				opening.Wait()
			}
		}
		goroutines2, heap2, stack2 := footprint()
		b.ReportMetric(float64(heap2-heap+stack2-stack)/float64(n), "B/session")
		b.ReportMetric(float64(heap2-heap)/float64(n), "heap-B/session")
		b.ReportMetric(float64(stack2-stack)/float64(n), "stack-B/session")
		b.ReportMetric(float64(goroutines2-goroutines)/float64(n), "goroutines/session")
		cancel()
		waiting.Wait()
		transport.CloseIdleConnections()
		stop()
	}
}

func footprint() (goroutines int, heap, stack int64) {
	time.Sleep(200 * time.Millisecond)
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), int64(m.HeapAlloc), int64(m.StackInuse)
}

// idleServer starts a process that answers each request with a stream that sends one
// comment and then nothing.
func idleServer(b *testing.B) (url string, stop func()) {
	b.Helper()
	server := exec.CommandContext(b.Context(), os.Args[0])
	server.Env = append(os.Environ(), idleServerEnv+"=1")
	server.Stderr = os.Stderr
	stdin, err := server.StdinPipe()
	require.NoError(b, err)
	stdout, err := server.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, server.Start())
	addr, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(b, err)
	return "http://" + strings.TrimSpace(addr), func() {
		require.NoError(b, stdin.Close())
		require.NoError(b, server.Wait())
	}
}

const idleServerEnv = "SSE_BENCH_IDLE_SERVER"

func init() {
	if os.Getenv(idleServerEnv) == "" {
		return
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "idle server:", err)
		os.Exit(1)
	}
	fmt.Println(l.Addr())
	go func() {
		var conns []net.Conn // kept, so that the garbage collector does not close them
		buf := make([]byte, 4<<10)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)               //nolint:staticcheck // see above
			if _, err := conn.Read(buf); err == nil { // the request
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: open\n\n")
			}
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}
