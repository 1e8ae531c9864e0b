package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
)

// Each kind of end has its exit code and its text, and what the server sent instead of an
// event is shown.
func TestEnds(t *testing.T) {
	t.Parallel()
	const (
		connected = "* connected: 200 OK, HTTP/1.1\n"
		quota     = `{"error":"quota"}`
		total     = "* total: 0 events, 0 B of data, LONG, 0 reconnections\n"
		total1    = "* total: 1 event, 1 B of data, LONG, 0 reconnections\n"
	)
	bare := func(text string) string {
		return connected + "* refused: the response is not an event stream, in spite of its Content-Type\n" +
			"  HTTP/1.1 200 OK, text/event-stream\n" + text + total
	}
	tests := []struct {
		name    string
		flags   []string
		answers []answer
		exit    int
		stderr  string
	}{
		{"JSON as a stream", nil, []answer{events(quota)}, 3, bare("  {\"error\": \"quota\"}\n")},
		{"JSON and blank lines as a stream", nil, []answer{events("\ufeff" + quota + "\n\n")}, 3, bare("  {\"error\": \"quota\"}\n")},
		{"text as a stream", []string{"-d", "{}", "-done", "[DONE]"}, []answer{events("too many\nrequests: 7\n")}, 3, bare("  too many\n  requests: 7\n")},
		{"text as a stream, no retries", []string{"-retries", "0"}, []answer{events("no\x1b[2J")}, 3, bare("  no\\x1b[2J\n")},
		{
			"text after an event",
			[]string{"-retries", "0"},
			[]answer{events("data: a\n\n" + quota)},
			4,
			connected + "* truncated: the server ended the stream within an event\n" +
				"  The end of the stream is no event:\n  " + quota + "\n" + total1,
		},
		{
			"within an event",
			[]string{"-retries", "0"},
			[]answer{events("data: a\n\nid: 7\ndata: {\"b")},
			4,
			connected + "* truncated: the server ended the stream within an event\n" +
				"  The event that was cut off:\n  id: 7\n  data: {\"b\n" + total1,
		},
		{
			"cut within an event",
			[]string{"-retries", "0"},
			[]answer{cut("data: a\n\ndata: b\n")},
			4,
			connected + "* lost: unexpected EOF\n  The event that was cut off:\n  data: b\n" + total1,
		},
		{
			"within a block without data",
			[]string{"-retries", "0"},
			[]answer{events("data: a\n\n: bye\nretry: 5\n")},
			0,
			connected + "* ended by the server: 1 event, 1 B of data, LONG, 0 reconnections\n",
		},
		{
			"empty",
			[]string{"-retries", "0"},
			[]answer{events("")},
			0,
			connected + "* ended by the server: 0 events, 0 B of data, LONG, 0 reconnections\n",
		},
		{
			"before the event of a name",
			[]string{"-d", "{}", "-done-event", "message_stop"},
			[]answer{events("data: a\n\n")},
			4,
			connected + "* truncated: the stream ended before message_stop (-resend repeats the request)\n" + total1,
		},
		{
			"after the event of a name",
			[]string{"-d", "{}", "-done", "x", "-done-event", "message_stop"},
			[]answer{events("event: message_stop\ndata: a\n\n")},
			0,
			connected + "* ended with message_stop: 1 event, 1 B of data, LONG, 0 reconnections\n",
		},
		{
			"used up",
			[]string{"-retries", "1"},
			[]answer{cut("retry: 1\ndata: a\n\n"), page(502, "text/plain", "down")},
			5,
			connected + "* lost: unexpected EOF; retry in 100ms (attempt 1)\n" +
				"* gave up: expected status 200 but was 502, after 1 more attempt\n  HTTP/1.1 502 Bad Gateway, text/plain\n  down\n" + total1,
		},
		{
			"used up, truncated",
			[]string{"-retries", "1", "-done", "x"},
			[]answer{events("retry: 1\ndata: a\n\n"), events("")},
			5,
			connected + "* ended by the server; retry in 100ms (attempt 1)\n" + connected +
				"* gave up: the server ended the stream, 2 times in a row without an event\n* total: 1 event, 1 B of data, LONG, 1 reconnection\n",
		},
		{
			"no event in time",
			[]string{"-retries", "0", "-event-timeout", "200ms"},
			[]answer{held("data: a\n\n")},
			4,
			connected + "* lost: no event came for 200ms (-event-timeout)\n" + total1,
		},
		{
			"no answer in time",
			[]string{"-open-timeout", "200ms"},
			[]answer{func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
			1,
			"* failed: no answer within 200ms (-open-timeout)\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			exit, _, stderr := complete(t, append(tt.flags, serve(t, tt.answers...).URL)...)
			assert.Equal(t, tt.exit, exit)
			assert.Equal(t, tt.stderr, stderr)
		})
	}
}

// With -retry-refused, the program goes on over whatever the server answers. It prints the
// same body only once.
func TestGoesOnOverRefusals(t *testing.T) {
	t.Parallel()
	gone := page(404, "text/plain", "gone")
	s := serve(
		t, page(404, "text/plain", "not yet"), events("retry: 1\ndata: a\n\n"),
		gone, page(404, "text/plain", "gone"), page(200, "text/html", "<p>"), events("{}"), events("data: b\n\n"),
	)
	exit, stdout, stderr := complete(t, "-retry-refused", "-data", "-n", "2", s.URL)
	assert.Equal(t, 0, exit)
	assert.Equal(t, "a\nb\n", stdout)
	assert.Regexp(t, `^\* no connection: expected status 200 but was 404; retry in 3s \(attempt 1\)
  HTTP/1.1 404 Not Found, text/plain
  not yet
\* connected: 200 OK, HTTP/1.1
\* ended by the server; retry in 100ms \(attempt 1\)
\* no connection: expected status 200 but was 404; retry in [0-9a-z]+ \(attempt 2\)
  HTTP/1.1 404 Not Found, text/plain
  gone
\* no connection: expected status 200 but was 404; retry in [0-9a-z]+ \(attempt 3\)
\* no connection: expected Content-Type text/event-stream but was text/html; retry in [0-9a-z]+ \(attempt 4\)
  HTTP/1.1 200 OK, text/html
  <p>
\* connected: 200 OK, HTTP/1.1
\* ended by the server; retry in [0-9a-z]+ \(attempt 5\)
  HTTP/1.1 200 OK, text/event-stream
  \{\}
\* connected: 200 OK, HTTP/1.1
\* stopped by -n: `, stderr)

	exit, _, stderr = complete(t, "-retry-refused", "-retries", "1", "-s", serve(t, page(404, "text/plain", "x"), page(404, "text/plain", "y")).URL)
	assert.Equal(t, 5, exit)
	assert.Equal(t, "* gave up: expected status 200 but was 404, after 1 more attempt\n  HTTP/1.1 404 Not Found, text/plain\n  y\n", stderr)
}

func TestOtherContentTypes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		flag, contentType string
		exit              int
	}{
		{"text/plain", "text/plain; charset=utf-8", 0},
		{"TEXT/plain", "text/Plain", 0},
		{"text/plain", "text/html", 3},
		{"text/plain", "", 3},
		{"any", "text/html", 0},
		{"any", "", 0},
	} {
		answer := func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{tt.contentType}
			_, _ = io.WriteString(w, "data: a\n\n")
		}
		exit, stdout, _ := complete(t, "-type", tt.flag, "-retries", "0", "-data", serve(t, answer).URL)
		assert.Equal(t, tt.exit, exit, "%v", tt)
		assert.Equal(t, tt.exit == 0, stdout == "a\n", "%v", tt)
	}
}

func TestReason(t *testing.T) {
	t.Parallel()
	f := &follower{opts: &options{}}
	for want, err := range map[string]error{
		"no answer within 30s (-open-timeout)":                                                         fmt.Errorf("x: %w", &client.TimeoutError{Option: "OpenTimeout", Limit: 30 * time.Second}),
		"nothing came for 1m0s (-idle-timeout)":                                                        &client.Error{Err: &client.TimeoutError{Option: "IdleTimeout", Limit: time.Minute}},
		"no event came for 2s (-event-timeout)":                                                        &client.TimeoutError{Option: "EventTimeout", Limit: 2 * time.Second},
		"the server asks the client to wait 48h0m0s before the next attempt; it waits at most 24h0m0s": &client.RetryError{Asked: 48 * time.Hour, Limit: 24 * time.Hour, Err: io.EOF},
		"plain": errors.New("client: plain"),
	} {
		assert.Equal(t, want, f.reason(err))
	}
}

func TestHintToResend(t *testing.T) {
	t.Parallel()
	body := new("{}")
	lost := io.ErrUnexpectedEOF
	for _, tt := range []struct {
		name string
		f    follower
		err  error
		want bool
	}{
		{"lost", follower{open: true, opts: &options{data: body, retries: -1}}, lost, true},
		{"no body", follower{open: true, opts: &options{retries: -1}}, lost, false},
		{"not open", follower{opts: &options{data: body, retries: -1}}, lost, false},
		{"given already", follower{open: true, opts: &options{data: body, retries: -1, resend: true}}, lost, false},
		{"no retries", follower{open: true, opts: &options{data: body}}, lost, false},
		{"would be again", follower{open: true, opts: &options{data: body, retries: -1}}, &event.TooLargeError{What: "event", Limit: 1}, false},
	} {
		assert.Equal(t, tt.want, tt.f.hint(tt.err) == " (-resend repeats the request)", "%s", tt.name)
	}
}
