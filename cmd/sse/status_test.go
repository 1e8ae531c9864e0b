package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
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
