// Command example serves this machine's vitals and its own access log as two
// streams of server-sent events, and a page that shows both live. A second page is
// a room to talk in: one stream that all who are there share.
//
//	go run .
//
// The pages are at http://localhost:8080/ and http://localhost:8080/chat. The
// streams read well at a terminal too:
//
//	curl -N http://localhost:8080/vitals
//	curl -N http://localhost:8080/log
//	curl -N http://localhost:8080/chat/events
//
// This file is the server: flags, routes, start and end. Of the rest, vitals.go
// and machine.go are the first stream, logfile.go, tail.go and accesslog.go the
// second, chat.go is the third, which is broadcast by package hub, and page.go with
// the folder page is the pages.
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
	"github.com/chi-sse/sse/hub"
)

// retry is the time a client waits before it reconnects.
const retry = 2 * time.Second

func main() {
	var o options
	flag.StringVar(&o.addr, "addr", "localhost:8080", "listen on this `address`")
	flag.StringVar(&o.logPath, "log", defaultLogPath(), "append the access log to this `file`")
	flag.BoolVar(&o.detached, "detached", true, "have the chat's streams over HTTP/1.1 live on without a goroutine each, as hub.Config.Detached does; -detached=false keeps their handlers running")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the server, in order. From then on signals do what
	// they always do, so a second one ends it at once.
	context.AfterFunc(ctx, stop)

	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "example:", err)
		os.Exit(1)
	}
}

// options are what the flags say.
type options struct {
	addr     string
	logPath  string
	detached bool
}

// run serves until ctx ends. Then it closes all streams and returns.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	logger := slog.New(slog.NewTextHandler(out, nil))

	listener, err := listen(ctx, o.addr)
	if err != nil {
		return err
	}
	// A second time, unless we never get to serve.
	defer listener.Close()

	log, err := openLogFile(o.logPath)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.close()) }()

	vitals := newMonitor(func() reading { return readMachine(filepath.Dir(o.logPath)) })
	stopVitals := start(vitals.run)
	defer stopVitals()

	chat, err := newChat(o.detached, logger)
	if err != nil {
		return err
	}

	r := routes(log, vitals, chat, logger)
	srv := newServer(r, logger)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	greet(out, o.addr, listener, o.logPath)
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}

	open, began := r.Plugin().Len(), time.Now()
	if err := shutdown(srv, chat.hub, r.Plugin()); err != nil {
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
func shutdown(srv *http.Server, h *hub.Hub, streams *sse.Plugin) error {
	// The hub goes first: whoever follows it gets what is due, and then the end.
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	cutOff := h.Shutdown(ctx)

	// Then the other streams, since srv.Shutdown waits for them and they do not end
	// by themselves. A client that is too slow to take the end is cut off.
	ctx, cancel = context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	cutOff = errors.Join(cutOff, streams.Shutdown(ctx))

	// Then all else that is under way. What is left after that is a connection
	// that a browser opened ahead of need: nothing was ever asked on it, and
	// srv.Shutdown would give it 5 seconds to do so.
	ctx, cancel = context.WithTimeout(context.Background(), 400*time.Millisecond)
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
func routes(log *logFile, vitals *monitor, chat *chat, logger *slog.Logger) *sse.Router {
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
	r.SSE("/chat/events", chat.events)

	pages(r)
	r.Get("/hello", hello)

	// What changes something is for our own pages only, not for those of others
	// that happen to be open in the same browser.
	own := r.With(http.NewCrossOriginProtection().Handler)
	own.Post("/drop", drop(r.Plugin()))
	own.Post("/chat/messages", chat.say)
	own.Post("/chat/cut", chat.cut)
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
and   %[1]s/chat in two windows
or    curl -N %[1]s/vitals
and   curl -N %[1]s/log
and   curl -N %[1]s/chat/events

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
