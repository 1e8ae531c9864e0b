package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
)

func TestRefusal(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer answer
		want   string
	}{
		{
			"status", page(404, "text/html; charset=utf-8", "\n<h1>no such\x1b[2J page</h1>\r\n\r\n<p>\n"),
			"* refused: expected status 200 but was 404\n" +
				"  HTTP/1.1 404 Not Found, text/html; charset=utf-8\n" +
				`  <h1>no such\x1b[2J page</h1>` + "\n  \n  <p>\n",
		},
		{
			"no body", page(401, "text/plain", ""),
			"* refused: expected status 200 but was 401\n  HTTP/1.1 401 Unauthorized, text/plain\n",
		},
		{
			"type", page(200, "text/plain", "data: a\n\n"),
			"* refused: expected Content-Type text/event-stream but was text/plain\n  HTTP/1.1 200 OK, text/plain\n  data: a\n",
		},
		{
			"no type",
			func(w http.ResponseWriter, _ *http.Request) { w.Header()["Content-Type"] = nil },
			"* refused: expected Content-Type text/event-stream but was missing\n  HTTP/1.1 200 OK, no Content-Type\n",
		},
		{
			"long body", page(500, "text/plain", strings.Repeat(strings.Repeat("é", 201)+"\n", 12)),
			"* refused: expected status 200 but was 500\n  HTTP/1.1 500 Internal Server Error, text/plain\n" +
				strings.Repeat("  "+strings.Repeat("é", 200)+"…\n", 10) + "  (and 2 more)\n",
		},
		{
			"wait that is too long",
			func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Retry-After", "90000")
				page(429, "text/plain", "later")(w, r)
			},
			"* refused: the server asks the client to wait 25h0m0s before the next attempt; it waits at most 24h0m0s\n" +
				"  HTTP/1.1 429 Too Many Requests, text/plain\n  later\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, tt.answer)
			exit, stdout, stderr := complete(t, "-s", s.URL)
			assert.Equal(t, 3, exit)
			assert.Empty(t, stdout)
			assert.Equal(t, tt.want, stderr, "errors must be printed even with -s")
			assert.Len(t, s.asked(), 1)
		})
	}
}

func TestReason(t *testing.T) {
	t.Parallel()
	f := &follower{opts: &options{}}
	for want, err := range map[string]error{
		"no answer within 30s":       fmt.Errorf("x: %w", &client.TimeoutError{Option: "OpenTimeout", Limit: 30 * time.Second}),
		"nothing came for 1m0s (-t)": &client.Error{Err: &client.TimeoutError{Option: "IdleTimeout", Limit: time.Minute}},
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
		assert.Equal(t, tt.want, tt.f.hint(tt.err) == " (use -resend to send the request again)", "%s", tt.name)
	}
}

func TestSizesAndDurations(t *testing.T) {
	for n, want := range map[int]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 1234567: "1.2 MB", 2e9: "2.0 GB"} {
		assert.Equal(t, want, size(n))
	}
	for d, want := range map[time.Duration]string{
		0:                       "0s",
		1234 * time.Microsecond: "1ms",
		1540 * time.Millisecond: "1.5s",
		3723400 * 1e6:           "1h2m3s",
	} {
		assert.Equal(t, want, duration(d))
	}
	for n, want := range map[int]string{0: "0 events", 1: "1 event", 2: "2 events"} {
		assert.Equal(t, want, plural(n, "event"))
	}
	assert.Contains(t, (&tally{seen: 3, shown: 1}).String(), "1 of 3 events, ")
	assert.Equal(t, "3 events, 1.5 kB of data, 0.0 ms, 1 reconnection", fmt.Sprint(&tally{seen: 3, shown: 3, bytes: 1500, connections: 2}))
}
