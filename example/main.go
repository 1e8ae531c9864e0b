// Command example serves this machine's vitals and its own access log as two
// streams of server-sent events, and a page that shows both live.
//
//	go run .
//
// The page is at http://localhost:8080/. The streams read well at a terminal too:
//
//	curl -N http://localhost:8080/vitals
//	curl -N http://localhost:8080/log
//
// This file is the server: flags, routes, start and end. Of the rest, vitals.go
// and machine.go are the first stream, logfile.go, tail.go and accesslog.go the
// second, and page.go with the folder page is the page.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/chi-sse/sse"
)

// retry is the time a client waits before it reconnects.
const retry = 2 * time.Second

func main() {
	addr := flag.String("addr", "localhost:8080", "listen on this `address`")
	logPath := flag.String("log", defaultLogPath(), "append the access log to this `file`")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the server, in order. From then on signals do what
	// they always do, so a second one ends it at once.
	context.AfterFunc(ctx, stop)

	if err := run(ctx, *addr, *logPath, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "example:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. Then it closes all streams and returns.
func run(ctx context.Context, addr, logPath string, out io.Writer) (err error) {
	logger := slog.New(slog.NewTextHandler(out, nil))

	listener, err := listen(ctx, addr)
	if err != nil {
		return err
	}
	// A second time, unless we never get to serve.
	defer listener.Close()

	log, err := openLogFile(logPath)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.close()) }()

	vitals := newMonitor(func() reading { return readMachine(filepath.Dir(logPath)) })
	stopVitals := start(vitals.run)
	defer stopVitals()

	r := routes(log, vitals, logger)
	srv := newServer(r, logger)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	greet(out, addr, listener, logPath)
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}

	open, began := r.Plugin().Len(), time.Now()
	if err := shutdown(srv, r.Plugin()); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\nEnded in %s. Streams that were open: %d.\n", time.Since(began).Round(time.Millisecond), open)
	return nil
}

// newServer bounds all that a request or its answer may take. A stream outlives
// these bounds.
func newServer(h http.Handler, logger *slog.Logger) *http.Server {
	srv := &http.Server{
		Handler:           h,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		Protocols:         new(http.Protocols),
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	return srv
}

// shutdown ends the server in well under a second, whoever is connected.
func shutdown(srv *http.Server, streams *sse.Plugin) error {
	// The streams go first, since srv.Shutdown waits for them and they do not end
	// by themselves. A client that is too slow to take the end is cut off.
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	cutOff := streams.Shutdown(ctx)

	// Then all else that is under way. What is left after that is a connection
	// that a browser opened ahead of need: nothing was ever asked on it, and
	// srv.Shutdown would give it 5 seconds to do so.
	ctx, cancel = context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	err := srv.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	if cutOff != nil {
		srv.ErrorLog.Print(cutOff)
	}
	return err
}

// routes returns the whole site.
func routes(log *logFile, vitals *monitor, logger *slog.Logger) *sse.Router {
	// The plugin comes first. What follows is for all requests alike: the
	// streams stand behind a compressor and a timeout, and mind neither.
	r := sse.Install(chi.NewRouter(), sse.Config{
		Logger: logger,
		Retry:  retry,
		// A crowd must not come back all at once after a restart. We are few, and
		// the page counts down to Retry.
		ShutdownSpread: -1,
	})
	r.Use(
		middleware.RequestID,
		accessLog(log, logger),
		middleware.Recoverer,
		middleware.Compress(5),
		middleware.Timeout(30*time.Second),
	)

	r.SSE("/vitals", vitals.stream)
	r.SSE("/log", log.tail)

	page(r)
	r.Get("/hello", hello)
	r.With(http.NewCrossOriginProtection().Handler).Post("/drop", drop(r.Plugin()))
	return r
}

// start runs f in a goroutine. To stop it is to have it return.
func start(f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// hello is there to be asked for: each request is a line of the log.
func hello(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	_, _ = fmt.Fprintln(w, "Hello! The access log has one line more.")
}

// drop closes the streams of one page, which it finds by the query parameter
// "page" that both were opened with. The browser takes it for a lost connection.
func drop(plugin *sse.Plugin) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		page := r.URL.Query().Get("page")
		if page == "" {
			http.Error(w, "which page?", http.StatusBadRequest)
			return
		}
		for s := range plugin.Sessions() {
			if s.Call().URL.Query().Get("page") == page {
				_ = s.Close() // it may have gone by itself
			}
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// listen is net.Listen with an error that says what to do.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is taken by another program; choose an address with -addr, such as -addr localhost:8081", addr)
	}
	return listener, err
}

// greet says where to find what.
func greet(out io.Writer, addr string, listener net.Listener, logPath string) {
	host, _, _ := net.SplitHostPort(addr) // listen has found it good
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "localhost"
	}
	site := "http://" + net.JoinHostPort(host, port)
	_, _ = fmt.Fprintf(out, `
Open  %s/
or    curl -N %[1]s/vitals
and   curl -N %[1]s/log

The access log is %s.
Ctrl-C ends the server, a second one kills it.

`, site, logPath)
}

// defaultLogPath is the same for each run, so that a client resumes over a restart.
func defaultLogPath() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "chi-sse-example", "access.log")
}
