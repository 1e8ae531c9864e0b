package sse_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/engine"
	"github.com/chi-sse/sse/internal/testkit"
)

// BenchmarkIdle measures the memory and the goroutines of an open session that has nothing
// to do. It compares them with a net/http handler that has flushed its header and waits,
// with and without a chi router in front of it. The clients run in another process.
func BenchmarkIdle(b *testing.B) {
	const n = 4000
	bare := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, ": open\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	b.Run("net-http", func(b *testing.B) { measureIdle(b, n, http.HandlerFunc(bare)) })
	b.Run("chi", func(b *testing.B) {
		r := chi.NewRouter()
		r.Get("/", bare)
		measureIdle(b, n, r)
	})
	b.Run("sse", func(b *testing.B) {
		r := sse.Install(chi.NewRouter(), sse.Config{})
		r.SSE("/", func(s *sse.ServerSession) error {
			if err := s.Open(); err != nil {
				return err
			}
			<-s.Done()
			return nil
		})
		measureIdle(b, n, r)
	})
	// What most servers have: middleware, and a hub. The frames of middleware are on the stack of
	// each session's goroutine, which a runtime grows by doubling.
	b.Run("chi-middleware", func(b *testing.B) {
		r := chi.NewRouter()
		useMiddleware(r)
		r.Get("/", bare)
		measureIdle(b, n, r)
	})
	b.Run("hub-middleware", func(b *testing.B) {
		h, err := hub.New(hub.Config{})
		require.NoError(b, err)
		_, err = h.Publish(b.Context(), "a", sse.Event{Data: "x", Comment: "open"}) // startIdleClients waits for the comment
		require.NoError(b, err)
		r := sse.Install(chi.NewRouter(), sse.Config{})
		useMiddleware(r)
		r.SSE("/", func(s *sse.ServerSession) error {
			return h.Serve(s, hub.Subscription{Topics: []string{"a"}, Start: hub.Beginning})
		})
		measureIdle(b, n, r)
	})
}

// useMiddleware puts the middleware on r that servers of chi commonly have.
func useMiddleware(r chi.Router) {
	logger := middleware.RequestLogger(&middleware.DefaultLogFormatter{Logger: log.New(io.Discard, "", 0)})
	//nolint:staticcheck // RealIP is deprecated, but many use it
	r.Use(middleware.RequestID, middleware.RealIP, logger, middleware.Recoverer, middleware.Timeout(time.Hour))
}

// measureIdle reports what n idle clients of h cost the server.
func measureIdle(b *testing.B, n int, h http.Handler) {
	b.Helper()
	for range b.N {
		var open atomic.Int64
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			open.Add(1)
			h.ServeHTTP(w, r)
		}))
		goroutines, heap, stack := footprint()
		leave := startIdleClients(b, srv, n)
		require.EqualValues(b, n, open.Load())
		goroutines2, heap2, stack2 := footprint()
		b.ReportMetric(float64(heap2-heap+stack2-stack)/float64(n), "B/session")
		b.ReportMetric(float64(heap2-heap)/float64(n), "heap-B/session")
		b.ReportMetric(float64(stack2-stack)/float64(n), "stack-B/session")
		b.ReportMetric(float64(goroutines2-goroutines)/float64(n), "goroutines/session")
		leave()
		srv.Close()
	}
}

// footprint returns the number of goroutines, and the bytes of the heap and the stacks that
// are in use after a garbage collection.
func footprint() (goroutines int, heap, stack int64) {
	time.Sleep(100 * time.Millisecond)
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), int64(m.HeapAlloc), int64(m.StackInuse)
}

// startIdleClients starts another process, which opens n streams at srv, and waits until
// all of them are open. The function that it returns ends the process.
func startIdleClients(b *testing.B, srv *httptest.Server, n int) (leave func()) {
	b.Helper()
	client := exec.Command(os.Args[0])
	client.Env = append(os.Environ(), idleClientEnv+"="+srv.Listener.Addr().String()+" "+strconv.Itoa(n))
	client.Stderr = os.Stderr
	stdin, err := client.StdinPipe()
	require.NoError(b, err)
	stdout, err := client.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, client.Start())
	_, err = bufio.NewReader(stdout).ReadString('\n')
	require.NoError(b, err)
	return func() {
		require.NoError(b, stdin.Close())
		require.NoError(b, client.Wait())
	}
}

// idleClientEnv is set in the environment of the clients' process, to the server's address
// and the number of streams. The init function below is that process: it opens the
// streams, prints a line, and holds the streams until its standard input ends.
const idleClientEnv = "SSE_BENCH_IDLE_CLIENT"

func init() {
	addr, count, ok := strings.Cut(os.Getenv(idleClientEnv), " ")
	if !ok {
		return
	}
	n, err := strconv.Atoi(count)
	conns := make([]net.Conn, 0, n) // keeps them from being collected and closed
	for i := 0; i < n && err == nil; i++ {
		var conn net.Conn
		if conn, err = net.Dial("tcp", addr); err != nil {
			break
		}
		conns = append(conns, conn)
		if _, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nAccept-Encoding: gzip\r\nUser-Agent: idle\r\n\r\n"); err != nil {
			break
		}
		buf := make([]byte, 1024)
		for got := 0; err == nil && !strings.Contains(string(buf[:got]), ": open"); {
			var k int
			k, err = conn.Read(buf[got:])
			got += k
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "idle client:", err)
		os.Exit(1)
	}
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(conns)
	os.Exit(0)
}

// BenchmarkIdleDetached measures the same as BenchmarkIdle, for sessions that are detached.
// The clients run in another process. RSS is the resident memory that the system reports for
// this process after the runtime has returned all free memory.
func BenchmarkIdleDetached(b *testing.B) {
	const n = 10_000
	for range b.N {
		var open atomic.Int64
		r := sse.Install(chi.NewRouter(), sse.Config{})
		r.SSE("/", func(s *sse.ServerSession) error {
			if err := s.Open(); err != nil {
				return err
			}
			if !engine.Of(s).Detach() {
				return errors.New("cannot be detached")
			}
			open.Add(1)
			return nil
		})
		srv := httptest.NewServer(r)
		rss := residentBytes()
		goroutines, heap, stack := footprint()
		leave := startIdleClients(b, srv, n)
		testkit.Eventually(b, func() bool { return open.Load() == n }, "the opening of all sessions")
		goroutines2, heap2, stack2 := footprint()
		rss2 := residentBytes()
		b.ReportMetric(float64(heap2-heap+stack2-stack)/n, "B/session")
		b.ReportMetric(float64(heap2-heap)/n, "heap-B/session")
		b.ReportMetric(float64(stack2-stack)/n, "stack-B/session")
		b.ReportMetric(float64(rss2-rss)/n, "RSS-B/session")
		b.ReportMetric(float64(goroutines2-goroutines), "goroutines")
		leave()
		testkit.Eventually(b, func() bool { return r.Plugin().Len() == 0 }, "the end of all sessions")
		srv.Close()
	}
}

// residentBytes returns the resident memory of the process in bytes, or 0 if the system has
// no /proc/self/status.
func residentBytes() (n int64) {
	time.Sleep(100 * time.Millisecond)
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	if _, after, ok := bytes.Cut(status, []byte("VmRSS:")); ok {
		_, _ = fmt.Fscan(bytes.NewReader(after), &n)
	}
	return n << 10
}
