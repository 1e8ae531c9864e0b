package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

// patience is how long a test waits for something that must happen.
const patience = 20 * time.Second

// answer is how a server responds to a request.
type answer func(http.ResponseWriter, *http.Request)

// events returns a stream that ends in order.
func events(text string) answer {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, text)
		_ = http.NewResponseController(w).Flush()
	}
}

// held returns a stream that stays open until the client leaves.
func held(text string) answer {
	return func(w http.ResponseWriter, r *http.Request) {
		events(text)(w, r)
		<-r.Context().Done()
	}
}

// cut returns a stream that breaks.
func cut(text string) answer {
	return func(w http.ResponseWriter, r *http.Request) {
		events(text)(w, r)
		panic(http.ErrAbortHandler)
	}
}

// page returns a response that is not a stream.
func page(status int, contentType, text string) answer {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

func noContent(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

// asked is a request that a site has received.
type asked struct {
	method, body string
	header       http.Header
}

// site is a server that records its requests.
type site struct {
	*httptest.Server
	mu       sync.Mutex
	requests []asked
}

// asked returns the requests so far.
func (s *site) asked() []asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// newSite returns a server that gives one of the answers to each request, in order, and 204
// after the last. The server is not started.
func newSite(t *testing.T, answers ...answer) *site {
	t.Helper()
	s := &site{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		n := len(s.requests)
		s.requests = append(s.requests, asked{r.Method, string(body), r.Header})
		s.mu.Unlock()
		if n < len(answers) {
			answers[n](w, r)
			return
		}
		noContent(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// serve is newSite, and starts the server.
func serve(t *testing.T, answers ...answer) *site {
	t.Helper()
	s := newSite(t, answers...)
	s.Start()
	return s
}

// screen records what a program writes, and lets a test wait for it.
type screen struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{} // closed, and replaced, by each Write
}

func newScreen() *screen { return &screen{more: make(chan struct{})} }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf.Write(p)
	close(s.more)
	s.more = make(chan struct{})
	return len(p), nil
}

// look returns the text so far, and a channel that is closed when there is more.
func (s *screen) look() (text string, more <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String(), s.more
}

// await waits until the program has written text.
func (s *screen) await(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		now, more := s.look()
		if strings.Contains(now, text) {
			return
		}
		select {
		case <-more:
		case <-deadline:
			require.Fail(t, "the text was not written", "%q in %q", text, now)
		}
	}
}

var (
	clock  = regexp.MustCompile(`\d\d:\d\d:\d\d\.\d{3}|\d{4}-\d\d-\d\dT[^"]*`)
	lasted = regexp.MustCompile(`(of data, )[0-9.]+ (ms|s|min|h),`)
	local  = regexp.MustCompile(`127\.0\.0\.1:\d+(->127\.0\.0\.1:\d+)?`)
)

// String returns the text so far, with placeholders for times, durations, and addresses,
// which differ in each run.
func (s *screen) String() string {
	text, _ := s.look()
	return local.ReplaceAllString(lasted.ReplaceAllString(clock.ReplaceAllString(text, "TIME"), "${1}LONG,"), "ADDR")
}

// program is the program, running in the test's process.
type program struct {
	out, err  *screen
	interrupt func()
	exit      chan int
}

// begin starts the program.
func begin(t *testing.T, stdin io.Reader, args ...string) *program {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	p := &program{newScreen(), newScreen(), interrupt, make(chan int, 1)}
	go func() { p.exit <- run(ctx, append([]string{"follow"}, args...), stdin, p.out, p.err) }()
	t.Cleanup(interrupt)
	return p
}

// end waits for the exit code.
func (p *program) end(t *testing.T) int {
	t.Helper()
	select {
	case exit := <-p.exit:
		return exit
	case <-time.After(patience):
		require.Fail(t, "the program has not ended", "%s", p.err)
		panic("unreachable")
	}
}

// complete runs the program until it ends by itself.
func complete(t *testing.T, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	p := begin(t, strings.NewReader(""), args...)
	exit = p.end(t)
	return exit, p.out.String(), p.err.String()
}

// printed returns what p prints for ev, at noon.
func printed(t *testing.T, p printer, ev client.Event) string {
	t.Helper()
	var out strings.Builder
	p.w = &out
	p.now = func() time.Time { return time.Date(2024, time.May, 6, 12, 0, 0, 5e6, time.UTC) }
	require.NoError(t, p.print(ev))
	return out.String()
}

var sgr = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// unpaint returns text without its colors. It fails the test if a color is still on at the
// end of a line.
func unpaint(t *testing.T, text string) string {
	t.Helper()
	for line := range strings.SplitSeq(text, "\n") {
		style := ""
		for _, code := range sgr.FindAllString(line, -1) {
			if code == "\x1b[27m" {
				assert.NotEqual(t, "\x1b[m", style, "%q", line)
				continue
			}
			style = code
		}
		assert.Contains(t, []string{"", "\x1b[m", "\x1b[7m"}, style, "%q", line)
	}
	return sgr.ReplaceAllString(text, "")
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// bin is the folder that build puts the program in.
var bin string

func TestMain(m *testing.M) {
	var err error
	if bin, err = os.MkdirTemp("", "sse-test-"); err != nil {
		panic(err)
	}
	exit := m.Run()
	_ = os.RemoveAll(bin)
	os.Exit(exit)
}

// build builds the program, once.
var build = sync.OnceValue(func() error {
	out, err := exec.Command("go", "build", "-o", bin+string(filepath.Separator), ".").CombinedOutput()
	if err != nil {
		return errors.New(string(out))
	}
	return nil
})

// command returns a command that runs the program. It is killed after patience.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	require.NoError(t, build())
	name := "sse"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, filepath.Join(bin, name), args...)
	cmd.Env = append(os.Environ(), "NO_COLOR=", "TERM=xterm")
	return cmd
}
