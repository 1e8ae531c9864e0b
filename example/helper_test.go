package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
)

// patience is what a test waits for something that must come.
const patience = 10 * time.Second

// TestMain lets a test run this very binary as the program; see TestInterrupt.
func TestMain(m *testing.M) {
	if os.Getenv("EXAMPLE_RUN_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// program is run, running.
type program struct {
	url  string
	stop func() error // as Ctrl-C does
}

// runProgram runs the whole program on an address and waits until it serves.
func runProgram(t *testing.T, addr, logPath string) *program {
	t.Helper()
	return runOptions(t, options{addr: addr, logPath: logPath, detached: true})
}

func runOptions(t *testing.T, o options) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, o, write)
		ended <- err
		write.CloseWithError(errors.Join(errors.New("the program ended"), err))
	}()

	p := &program{}
	var err error
	p.stop = func() error {
		if cancel != nil {
			cancel()
			cancel = nil
			err = <-ended
		}
		return err
	}
	t.Cleanup(func() { _ = p.stop() })
	p.url = awaitURL(t, read)
	return p
}

// awaitURL reads what the program prints until it says where it is, and what
// follows in the background.
func awaitURL(t *testing.T, out io.Reader) string {
	t.Helper()
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		if site, ok := strings.CutPrefix(strings.TrimSpace(line), "Open  "); ok {
			go func() { _, _ = io.Copy(io.Discard, lines) }()
			return strings.TrimSuffix(site, "/")
		}
	}
}

// newLog opens a log file of its own for a test, which holds the given text.
func newLog(t *testing.T, text string) *logFile {
	t.Helper()
	path := filepath.Join(t.TempDir(), "access.log")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return reopen(t, path)
}

func reopen(t *testing.T, path string) *logFile {
	t.Helper()
	l, err := openLogFile(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.close() })
	return l
}

// site serves the whole site, without the program around it.
func site(t *testing.T, log *logFile, read func() reading) string {
	t.Helper()
	vitals := newMonitor(read)
	t.Cleanup(start(vitals.run))
	logger := slog.New(slog.DiscardHandler)
	chat, err := newChat(true, logger)
	require.NoError(t, err)
	return serve(t, routes(log, vitals, chat, logger))
}

// tailOf serves a log at /log that nobody writes to but the test.
func tailOf(t *testing.T, log *logFile) string {
	t.Helper()
	r := sse.Install(chi.NewRouter(), sse.Config{Logger: slog.New(slog.DiscardHandler)})
	r.SSE("/log", log.tail)
	return serve(t, r)
}

func serve(t *testing.T, r *sse.Router) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(r)
	r.Plugin().ShutdownWith(srv.Config)
	srv.Start()
	t.Cleanup(func() {
		_ = srv.Config.Shutdown(context.Background())
		srv.Close()
	})
	return srv.URL
}

// stream is a client of a stream.
type stream struct {
	t      *testing.T
	events chan event.Event
	close  func()
}

// dial opens a stream as a client that has the event lastID, or none.
func dial(t *testing.T, url, lastID string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))

	s := &stream{t: t, events: make(chan event.Event)}
	go func() {
		defer close(s.events)
		defer resp.Body.Close()
		for ev, err := range event.NewDecoder(resp.Body).All() {
			if err != nil {
				return
			}
			select {
			case s.events <- ev:
			case <-ctx.Done():
				return
			}
		}
	}()
	s.close = func() {
		cancel()
		for range s.events { // wait for the goroutine
		}
	}
	t.Cleanup(s.close)
	return s
}

// next returns the next event, which must come.
func (s *stream) next() event.Event {
	s.t.Helper()
	select {
	case ev, ok := <-s.events:
		require.True(s.t, ok, "the stream ended")
		return ev
	case <-time.After(patience):
		require.Fail(s.t, "no event came")
		panic("not reached")
	}
}

// take returns the data of the next n events, each of which must be a line.
func (s *stream) take(n int) []string {
	s.t.Helper()
	lines := make([]string, 0, n)
	for range n {
		ev := s.next()
		require.Empty(s.t, ev.Name, ev.Data)
		lines = append(lines, ev.Data)
	}
	return lines
}

// quiet asserts that no event comes for a little while.
func (s *stream) quiet() {
	s.t.Helper()
	select {
	case ev, ok := <-s.events:
		require.True(s.t, ok, "the stream ended")
		require.Fail(s.t, "an event too many", "%+v", ev)
	case <-time.After(50 * time.Millisecond):
	}
}

// ended asserts that the stream ends.
func (s *stream) ended() {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case _, ok := <-s.events:
			if !ok {
				return
			}
		case <-deadline:
			require.Fail(s.t, "the stream stays open")
		}
	}
}

// answer is a response that has been read.
type answer struct {
	*http.Response
	text string
}

func get(t *testing.T, url string) answer {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp, string(body)}
}
