package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

// The table of the guide: how often a request is sent in each mode.
func TestWhatIsSentAgain(t *testing.T) {
	t.Parallel()
	type mode struct {
		name      string
		resend    client.ResendMode
		onFailure func(client.Failure) client.Decision
	}
	modes := []mode{
		{"never", client.ResendNever, nil},
		{"refused", client.ResendUntilEvent, refused},
		{"until event", client.ResendUntilEvent, nil},
	}
	for _, api := range apis {
		first, rest, _ := strings.Cut(api.stream, "\n\n")
		first += "\n\n"
		for name, tt := range map[string]struct {
			step step
			sent [3]int64 // in each mode
		}{
			"429":                     {refuses(429, ""), [3]int64{1, 2, 2}},
			"503":                     {refuses(503, ""), [3]int64{1, 2, 2}},
			"500":                     {refuses(500, ""), [3]int64{1, 1, 2}},
			"529":                     {refuses(529, anthropicError), [3]int64{1, 1, 2}},
			"502":                     {refuses(502, ""), [3]int64{1, 1, 2}},
			"504":                     {refuses(504, ""), [3]int64{1, 1, 2}},
			"400":                     {refuses(400, openAIError), [3]int64{1, 1, 1}},
			"quota":                   {refuses(429, openAIError, "X-Should-Retry", "false"), [3]int64{1, 1, 1}},
			"401":                     {refuses(401, openAIError), [3]int64{1, 1, 1}},
			"broken before header":    {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, [3]int64{1, 1, 2}},
			"broken before event":     {breaks(": ping\n\n"), [3]int64{1, 1, 2}},
			"broken after first":      {breaks(first), [3]int64{1, 1, 1}},
			"broken in first":         {breaks(first[:len(first)-1]), [3]int64{1, 1, 2}},
			"ended after first":       {streams(first), [3]int64{1, 1, 1}},
			"error event comes first": {streams("event: error\ndata: " + anthropicError + "\n\n"), [3]int64{1, 1, 1}},
			"broken before the last":  {breaks(first + rest[:len(rest)/2]), [3]int64{1, 1, 1}},
		} {
			for i, mode := range modes {
				t.Run(fmt.Sprint(api.name, "/", name, "/", mode.name), func(t *testing.T) {
					t.Parallel()
					url, requests := serve(t, tt.step, streams(api.stream))
					var text string
					a, err := api.ask(t.Context(), quickly(mode.resend, mode.onFailure), url, "key", []byte("{}"), func(s string) { text += s })
					require.Equal(t, tt.sent[i], requests.Load(), "%v", err)
					if tt.sent[i] == 1 {
						require.Error(t, err)
						return
					}
					require.NoError(t, err)
					require.Equal(t, "Let me look.", a.Text)
					require.Equal(t, a.Text, text, "a piece came twice")
				})
			}
		}
	}
}

// noConnection is an http.RoundTripper that fails to connect at first.
type noConnection struct{ requests atomic.Int64 }

func (n *noConnection) RoundTrip(r *http.Request) (*http.Response, error) {
	if n.requests.Add(1) == 1 {
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	return http.DefaultTransport.RoundTrip(r)
}

func TestNoConnectionIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, api := range apis {
		for resend, sent := range map[client.ResendMode]int64{client.ResendNever: 1, client.ResendUntilEvent: 2} {
			url, _ := serve(t, streams(api.stream))
			n := &noConnection{}
			c := newClient(&http.Client{Transport: n}, resend, func(f client.Failure) client.Decision {
				if d := refused(f); d != client.Retry() {
					return d
				}
				return client.RetryIn(0)
			})
			_, err := api.ask(t.Context(), c, url, "key", []byte("{}"), func(string) {})
			require.Equal(t, sent == 1, err != nil, "%v", err)
			require.Equal(t, sent, n.requests.Load())
		}
	}
}
