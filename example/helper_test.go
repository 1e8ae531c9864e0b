package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
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
	"github.com/chi-sse/sse/example/internal/chat"
	"github.com/chi-sse/sse/example/internal/guard"
)

// patience is how long a test waits for something that must happen.
const patience = 10 * time.Second

// TestMain lets a test run the test binary as the program; see TestInterrupt.
func TestMain(m *testing.M) {
	if os.Getenv("EXAMPLE_RUN_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// program is the program, running in the test's process.
type program struct {
	url  string
	stop func() error // stops it as Ctrl-C does, and returns the result of run
}

// runProgram runs the whole program at addr, and returns when it serves.
func runProgram(t *testing.T, addr, logPath string) *program {
	t.Helper()
	return runOptions(t, options{addr: addr, logPath: logPath, detached: true})
}

// runOptions is runProgram with options.
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

// awaitURL reads the program's output until it prints its URL, and returns the URL. The
// rest of the output is read in the background.
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

// newLog opens a new log file that contains text.
func newLog(t *testing.T, text string) *logFile {
	t.Helper()
	path := filepath.Join(t.TempDir(), "access.log")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return reopen(t, path)
}

// reopen opens the log file at path, which may exist.
func reopen(t *testing.T, path string) *logFile {
	t.Helper()
	l, err := openLogFile(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.close() })
	return l
}

// site serves the routes of the whole site, and returns its URL.
func site(t *testing.T, log *logFile, read func() reading) string {
	t.Helper()
	vitals := newMonitor(read)
	t.Cleanup(start(vitals.sampleWhileWatched))
	logger := slog.New(slog.DiscardHandler)
	room, err := chat.New(t.Context(), chat.Config{Detached: true, Logger: logger})
	require.NoError(t, err)
	return serve(t, routes(log, vitals, room, &guard.Hosts{}, logger))
}

// tailOf serves log at /log, without an access log, so that only the test writes to it.
func tailOf(t *testing.T, log *logFile) string {
	t.Helper()
	r := sse.Install(chi.NewRouter(), sse.Config{Logger: slog.New(slog.DiscardHandler)})
	r.SSE("/log", log.tail)
	return serve(t, r)
}

// serve serves r until the test ends, and returns its URL.
func serve(t *testing.T, r *sse.Router) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(r)
	r.Plugin().Attach(srv.Config)
	srv.Start()
	t.Cleanup(func() {
		_ = srv.Config.Shutdown(context.Background())
		srv.Close()
	})
	return srv.URL
}

// stream is a client that reads a stream.
type stream struct {
	t      *testing.T
	events chan event.Event
	close  func()
}

// dial opens the stream at url. It sends lastID as Last-Event-ID unless that is "".
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
		for range s.events { // until the goroutine above has ended
		}
	}
	t.Cleanup(s.close)
	return s
}

// next returns the next event, and fails the test if none comes.
func (s *stream) next() event.Event {
	s.t.Helper()
	select {
	case ev, ok := <-s.events:
		require.True(s.t, ok, "the stream ended")
		return ev
	case <-time.After(patience):
		require.Fail(s.t, "no event has come")
		panic("unreachable")
	}
}

// take returns the data of the next n events. Each must be a line of the log.
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

// quiet asserts that no event comes within 50 ms.
func (s *stream) quiet() {
	s.t.Helper()
	select {
	case ev, ok := <-s.events:
		require.True(s.t, ok, "the stream ended")
		require.Fail(s.t, "an unexpected event has come", "%+v", ev)
	case <-time.After(50 * time.Millisecond):
	}
}

// ended asserts that the stream ends. It drops the events before the end.
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
			require.Fail(s.t, "the stream has not ended")
		}
	}
}

// answer is a response and its body.
type answer struct {
	*http.Response
	text string
}

// get requests url.
func get(t *testing.T, url string) answer {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	return answer{resp, readAll(t, resp.Body)}
}

// readAll reads r to its end.
func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(b)
}

// rawGet sends a minimal request for path over a new connection, from which the test can
// read the response as it is.
func rawGet(t *testing.T, url, path string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept-Encoding: gzip\r\n\r\n", path, conn.RemoteAddr())
	require.NoError(t, err)
	return conn
}

// readUntil reads from conn until the text ends in end, and returns the text.
func readUntil(t *testing.T, conn net.Conn, end string) string {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	var text strings.Builder
	for b := make([]byte, 1); !strings.Contains(text.String(), end); {
		_, err := conn.Read(b)
		require.NoError(t, err, "after %q", text.String())
		text.Write(b)
	}
	return text.String()
}

func noReading() reading { return reading{time: time.Now()} }

func lines(text string) []string {
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// read returns the contents of a file.
func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}
