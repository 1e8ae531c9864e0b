// Servers that ask for too many or too late reconnections, or send ids that no header can
// carry.

package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

// hostileStorm counts the connections that a client makes in ten minutes to a server that
// answers each with the same stream.
func hostileStorm(t *testing.T, cfg client.Config, stream string) (connections int, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		c := install(&http.Client{Transport: hostileTripper(func(*http.Request) (int, http.Header, io.Reader) {
			connections++
			return http.StatusOK, nil, strings.NewReader(stream)
		})}, cfg)
		var s *client.Session
		if s, err = c.Session(ctx, "http://hostile.test/"); err == nil {
			_, err = collect(s)
		}
	})
	return connections, err
}

func TestRetryStormsAreBounded(t *testing.T) {
	forever := client.Config{MaxReconnectionAttempts: client.Unlimited, MaxBackoff: client.DefaultMaxBackoff}
	for name, tt := range map[string]struct {
		stream   string
		from, to int // connections in ten minutes
	}{
		"retry of zero with an event":       {"retry: 0\ndata: x\n\n", 3500, 6001},
		"retry of zero many times":          {strings.Repeat("retry: 0\n", 20) + "data: x\n\n", 3500, 6001},
		"different retries, zero last":      {"retry: 1\nretry: 50\nretry: 7\nretry: 0\ndata: x\n\n", 3500, 6001},
		"different retries, a minute last":  {"retry: 0\nretry: 60000\ndata: x\n\n", 6, 11},
		"retry after the last event":        {"data: x\n\nretry: 60000\n", 6, 11},
		"retry of zero without an event":    {"retry: 0\n\n", 3500, 6001}, // the server asks for it, and answers
		"retry of zero and a comment":       {"retry: 0\n: x\n\n", 3500, 6001},
		"nothing":                           {"", 15, 35},
		"retry that is none":                {"retry: 60000\nretry: -1\nretry: 1e9\nretry: \nretry\ndata: x\n\n", 6, 11},
		"retry of zero with an unended one": {"retry: 0\ndata: x\n", 3500, 6001},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := hostileStorm(t, forever, tt.stream)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.GreaterOrEqual(t, n, tt.from)
			require.LessOrEqual(t, n, tt.to)
		})
	}
}

func TestRetryOfAYearEndsTheSession(t *testing.T) {
	for name, stream := range map[string]string{
		"a year":            "retry: 31536000000\ndata: x\n\n",
		"beyond any number": "retry: 99999999999999999999999999\ndata: x\n\n",
		"without an event":  "retry: 31536000000\n",
	} {
		t.Run(name, func(t *testing.T) {
			n, err := hostileStorm(t, client.Config{MaxReconnectionAttempts: client.Unlimited}, stream)
			var tooLong *client.RetryError
			require.ErrorAs(t, err, &tooLong)
			require.Equal(t, client.DefaultMaxRetry, tooLong.Limit)
			require.GreaterOrEqual(t, tooLong.Asked, 365*24*time.Hour)
			require.Equal(t, 1, n)
			var e *client.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, http.StatusOK, e.Response.StatusCode)
		})
	}
}

// A Retry-After that overflows is a very long wait, not a missing one.
func TestRetryAfterOfAgesEndsTheSession(t *testing.T) {
	for _, value := range []string{"31536000", "4294967295", "4294967296", "99999999999", "99999999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"} {
		t.Run(value, func(t *testing.T) {
			requests := 0
			c := install(&http.Client{Transport: hostileTripper(func(*http.Request) (int, http.Header, io.Reader) {
				requests++
				return http.StatusServiceUnavailable, http.Header{"Retry-After": {value}}, strings.NewReader("later")
			})}, client.Config{MaxReconnectionAttempts: 3})
			_, err := c.Session(t.Context(), "http://hostile.test/")
			var tooLong *client.RetryError
			require.ErrorAs(t, err, &tooLong)
			require.Equal(t, 1, requests)
			var status *client.StatusError
			require.ErrorAs(t, err, &status)
			require.Equal(t, http.StatusServiceUnavailable, status.Status)
		})
	}
}

// No id that a server sends keeps the client from reconnecting, if OnFailure decides so. If
// a header cannot carry the id, OnFailure learns it, the client leaves the id out, and the
// session goes on.
func TestIDsThatNoHeaderCanHoldDoNotWedgeTheClient(t *testing.T) {
	for name, tt := range map[string]struct {
		id   string
		sent []string
	}{
		"control byte":       {"a\x01b", nil},
		"escape":             {"\x1B[2J", nil},
		"delete":             {"a\x7F", nil},
		"vertical tab":       {"\v", nil},
		"10 MB":              {strings.Repeat("x", 10<<20), nil},
		"spaces only":        {"    ", nil},
		"tabs only":          {"\t\t", nil},
		"spaces at the ends": {"  a b\t", []string{"a b"}},
		"NUL, so no id":      {"a\x00", []string{"good"}},
		"ill-formed UTF-8":   {"a\xFF", []string{"a\uFFFD"}},
		"next line":          {"a\u0085", []string{"a\u0085"}},
		"text":               {"é世🌍", []string{"é世🌍"}},
		"tab within":         {"a\tb", []string{"a\tb"}},
		"empty":              {"", nil},
		"a list":             {"1, 2", []string{"1, 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			type seen struct{ ids []string }
			for _, p := range []testkit.Protocol{testkit.HTTP1, testkit.H2C} {
				requests := make(chan seen, 10)
				h := func(w http.ResponseWriter, r *http.Request) {
					requests <- seen{r.Header["Last-Event-Id"]}
					switch len(requests) {
					case 1:
						send(w, "id: good\ndata: a\n\nid: %s\ndata: b\n\n", tt.id)
					case 2:
						send(w, "id: 9\ndata: c\n\n")
					default:
						w.WriteHeader(http.StatusNoContent)
					}
				}
				srv := serve(t, h, p.Setup)
				hc := noKeepAlive(t)
				hc.Transport.(*http.Transport).Protocols = p.Protocols()
				unsendable := 0
				events, err := collect(session(t, install(hc, client.Config{
					MaxReconnectionAttempts: 2,
					OnFailure: func(f client.Failure) client.Decision {
						if idErr, ok := errors.AsType[*client.LastEventIDError](f.Err); ok {
							require.Equal(t, client.LastEventIDError{ID: tt.id, Limit: client.DefaultMaxLastEventID}, *idErr)
							unsendable++
							return client.Retry()
						}
						return client.DefaultDecision(f)
					},
				}), srv.URL))
				require.NoError(t, err)
				require.Equal(t, []string{"a", "b", "c"}, dataOf(events))
				if strings.ContainsAny(tt.id, "\x01\x1B\x7F\v") || len(tt.id) > client.DefaultMaxLastEventID {
					require.Equal(t, 1, unsendable)
				} else {
					require.Zero(t, unsendable)
				}
				require.Nil(t, (<-requests).ids)
				require.Equal(t, tt.sent, (<-requests).ids, p.Name)
				require.Equal(t, []string{"9"}, (<-requests).ids, "the later id is not sent")
			}
		})
	}
}
