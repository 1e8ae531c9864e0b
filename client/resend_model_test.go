// A thousand POSTs against a server that refuses, cuts and completes at random: how often
// they reach the server, and how they end, against a model that knows nothing of the client.

package client_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

// billKind is what the server does with a POST.
type billKind int

const (
	billDial   billKind = iota // no connection
	billRefuse                 // REFUSED_STREAM, eight times, until net/http gives up; 503 over HTTP/1.1
	billBusy                   // 429 or 503
	billFail                   // 500
	billForbid                 // 403, for good
	billReset                  // reset before the head
	billCut                    // events, and then a reset
	billEnd                    // events, and then the end of the stream
	billDone                   // events, the last of which is the terminal one
	billKinds
)

// billStep is one answer of the server.
type billStep struct {
	kind   billKind
	status string
	events []string // the id of each event, or ""
}

// acts reports whether the answer means that the model has run, and costs money.
func (s billStep) acts() bool {
	return slices.Contains([]billKind{billFail, billReset, billCut, billEnd, billDone}, s.kind)
}

// refuses reports whether the answer shows that the model has not run.
func (s billStep) refuses() bool {
	return s.kind == billDial || s.kind == billRefuse || s.kind == billBusy
}

// billCase is one session, and the script of the server that it meets.
type billCase struct {
	mode     client.ResendMode
	attempts int
	terminal bool
	hook     string // "default", "refused" (stops unless Refused is true) or "always"
	steps    []billStep
}

// billRandom returns a random case.
func billRandom(rnd *rand.Rand, mode client.ResendMode) billCase {
	c := billCase{
		mode: mode, attempts: []int{0, 1, 2, 5, client.Unlimited}[rnd.IntN(5)], terminal: rnd.IntN(2) == 0,
		hook: []string{"default", "default", "refused", "always"}[rnd.IntN(4)],
	}
	id := 0
	for range rnd.IntN(12) {
		s := billStep{kind: billKind(rnd.IntN(int(billDone))), status: []string{"429", "503"}[rnd.IntN(2)]}
		if s.kind >= billCut {
			withIDs, startsOver := rnd.IntN(3) > 0, rnd.IntN(2) == 0
			if startsOver {
				id = 0
			}
			for range rnd.IntN(4) {
				if id++; withIDs {
					s.events = append(s.events, fmt.Sprint(id))
				} else {
					s.events = append(s.events, "")
				}
			}
		}
		c.steps = append(c.steps, s)
	}
	c.steps = append(c.steps, billStep{kind: billDone, events: []string{"", "z"}})
	return c
}

// billEnding is what a session comes to.
type billEnding struct {
	Acted      int // POSTs that have reached the model
	AfterEvent int // those of them that came after an event
	Requests   int // attempts, as OnRequest counts them
	Events     int
	End        string
}

// model returns what must happen.
func (c billCase) model() (end billEnding) {
	used, lastID := 0, ""
	for _, s := range c.steps {
		end.Requests++
		if s.acts() {
			end.Acted++
			if end.Events > 0 {
				end.AfterEvent++
			}
		}
		began := lastID
		for _, id := range s.events {
			end.Events++
			if id != "" {
				lastID = id
			}
		}
		if len(s.events) > 0 && lastID != began {
			used = 0 // the server can resume after them
		}
		cause := map[billKind]string{
			billDial: "dial", billRefuse: "refused", billBusy: "status", billFail: "status", billForbid: "status", billReset: "broken", billCut: "broken", billEnd: "end", billDone: "end",
		}[s.kind]
		if c.terminal && s.kind == billDone {
			end.End = "complete"
			return end
		}
		if c.terminal && cause == "end" {
			cause = "truncated"
		}
		again := s.kind != billForbid
		switch c.hook {
		case "refused":
			again = s.refuses()
		case "always":
			again = true
		}
		may := c.mode == client.ResendAlways || c.mode == client.ResendUntilEvent && end.Events == 0
		switch {
		case !again, !may, c.attempts == 0:
			end.End = cause
			return end
		case c.attempts == used:
			end.End = "used up: " + cause
			return end
		}
		used++
	}
	end.Requests++ // after the script, the server answers with 204
	end.End = "end"
	return end
}

// billServer answers by a script, over HTTP/1.1 or HTTP/2.
type billServer struct {
	t      *testing.T
	frames bool

	mu      sync.Mutex
	steps   []billStep
	at      int
	refused int
	events  int
	end     billEnding
}

// next returns the answer to a POST that has arrived in full.
func (b *billServer) next(body string) billStep {
	b.mu.Lock()
	defer b.mu.Unlock()
	if body != "order" {
		b.t.Errorf("the body of a POST is %q", body)
	}
	if b.at == len(b.steps) {
		return billStep{kind: billKinds} // 204
	}
	s := b.steps[b.at]
	if s.kind == billRefuse && b.frames {
		if b.refused++; b.refused < 8 {
			return s
		}
	}
	b.refused = 0
	b.at++
	if s.acts() {
		b.end.Acted++
		if b.events > 0 {
			b.end.AfterEvent++
		}
	}
	b.events += len(s.events)
	return s
}

// dials reports whether the server accepts a connection for the next POST.
func (b *billServer) dials() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at < len(b.steps) && b.steps[b.at].kind == billDial {
		b.at++
		return false
	}
	return true
}

func (s billStep) text() string {
	var text strings.Builder
	for i, id := range s.events {
		if id != "" {
			fmt.Fprintf(&text, "id: %s\n", id)
		}
		data := "token"
		if s.kind == billDone && i == len(s.events)-1 {
			data = "[DONE]"
		}
		fmt.Fprintf(&text, "data: %s\n\n", data)
	}
	return text.String()
}

// serve1 answers a request over HTTP/1.1.
func (b *billServer) serve1(conn net.Conn, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s := b.next(string(body))
	status := map[billKind]string{billKinds: "204", billRefuse: "503", billBusy: s.status, billFail: "500", billForbid: "403"}[s.kind]
	switch {
	case s.kind == billReset:
	case status != "":
		fmt.Fprintf(conn, "HTTP/1.1 %s X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status)
	case s.kind == billCut:
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\nConnection: close\r\n\r\n%s", s.text())
	default:
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(s.text()), s.text())
	}
}

// serve2 answers a request over HTTP/2.
func (b *billServer) serve2(c *frameConn, stream uint32, body string) {
	s := b.next(body)
	status := map[billKind]string{billKinds: "204", billBusy: s.status, billFail: "500", billForbid: "403"}[s.kind]
	switch {
	case s.kind == billRefuse:
		c.reset(stream, resetRefusedStream)
	case s.kind == billReset:
		c.reset(stream, []uint32{resetInternalError, resetProtocolError}[b.at%2])
	case status != "":
		c.head(stream, status, "text/plain", "")
		c.data(stream, "", true)
	default:
		c.head(stream, "200", "text/event-stream", "")
		if text := s.text(); text != "" {
			c.data(stream, text, false)
		}
		if s.kind == billCut {
			c.reset(stream, resetInternalError)
		} else {
			c.data(stream, "", true)
		}
	}
}

// run makes the POST of c.
func (c billCase) run(t *testing.T, frames bool) billEnding {
	t.Helper()
	b := &billServer{t: t, frames: frames, steps: c.steps}
	var inner *http.Client
	if frames {
		inner = frameClient(t, b.serve2)
	} else {
		inner = requestRawPipes(t, b.serve1)
	}
	hc := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		if !b.dials() {
			r.Body.Close()
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
		return inner.Transport.RoundTrip(r)
	})}
	cfg := client.Config{
		MaxReconnectionAttempts: c.attempts, Resend: c.mode, ReconnectionTime: time.Second,
		OnRequest: func(*http.Request) error { b.end.Requests++; return nil },
	}
	if c.terminal {
		cfg.Terminal = func(ev client.Event) bool { return ev.Data == "[DONE]" }
	}
	switch c.hook {
	case "refused":
		cfg.OnFailure = func(f client.Failure) client.Decision {
			if client.Refused(f.Err) {
				return client.Retry()
			}
			return client.Stop(nil)
		}
	case "always":
		cfg.OnFailure = func(client.Failure) client.Decision { return client.RetryIn(0) }
	}
	s, err := install(hc, cfg).Session(t.Context(), "http://lab/", client.WithBody("text/plain", strings.NewReader("order")))
	done := false
	if err == nil {
		for ev, next := range s.Incoming() {
			if err = next; err == nil {
				b.end.Events++
				done = ev.Data == "[DONE]"
			}
		}
	}
	b.end.End = billNameOf(t, err)
	if c.terminal && done && err == nil {
		b.end.End = "complete"
	}
	return b.end
}

// billNameOf returns the name of the end that err reports.
func billNameOf(t *testing.T, err error) (name string) {
	t.Helper()
	if err == nil {
		return "end"
	}
	var e *client.Error
	require.ErrorAs(t, err, &e)
	if used, ok := e.Err.(*client.AttemptsError); ok { //nolint:errorlint // the outermost one
		if used.Err == io.EOF {
			return "used up: end"
		}
		defer func() { name = "used up: " + name }()
	}
	switch {
	case errors.Is(err, client.ErrTruncated):
		return "truncated"
	case errors.As(err, new(*client.StatusError)):
		return "status"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "dial"
	case client.Refused(err):
		return "refused"
	}
	return "broken"
}

func TestThousandPostsReachTheModelAsOftenAsTheModeAllows(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	n := 1000
	if testing.Short() {
		n = 100
	}
	for name, mode := range map[string]client.ResendMode{"never": client.ResendNever, "until event": client.ResendUntilEvent, "always": client.ResendAlways} {
		for protocol, frames := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
			t.Run(name+" over "+protocol, func(t *testing.T) {
				t.Parallel()
				rnd := rand.New(rand.NewPCG(seed, uint64(mode)))
				ends := make(map[string]int)
				var posts, acted, afterEvent int
				for i := range n {
					c := billRandom(rnd, mode)
					want := c.model()
					if !frames { // a 503 takes the place of REFUSED_STREAM
						want.End = strings.Replace(want.End, "refused", "status", 1)
					}
					var got billEnding
					synctest.Test(t, func(t *testing.T) { got = c.run(t, frames) })
					require.Equal(t, want, got, "seed %d, case %d: %+v", seed, i, c)
					if mode == client.ResendNever {
						require.LessOrEqual(t, got.Requests, 1)
					}
					if mode != client.ResendAlways {
						require.Zero(t, got.AfterEvent, "seed %d, case %d: billed again after an event", seed, i)
					}
					ends[got.End]++
					posts, acted, afterEvent = posts+got.Requests, acted+got.Acted, afterEvent+got.AfterEvent
				}
				t.Logf("%d sessions: %d POSTs, %d reached the model, %d of them after an event; ends %v", n, posts, acted, afterEvent, ends)
			})
		}
	}
}
