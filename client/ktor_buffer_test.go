// Rows 55 to 57 of docs/KTOR.md: the buffer of what was read.

package client_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

// Ktor joins the lines with CRLF. This client keeps them as they arrived.
func TestKtor55BufferHoldsWhatThePolicySays(t *testing.T) {
	t.Parallel()
	srv := serve(t, streamOf(ktorBuffered))
	for _, tt := range []struct {
		policy client.BufferPolicy
		want   string
	}{
		{client.All, "event: a\ndata: 1\n\n: note\ndata: 2\n\ndata: 3\n\n"},
		{client.LastLines(3), "\ndata: 3\n\n"},
		{client.LastEvent, "data: 3\n\n"},
		{client.LastEvents(2), ": note\ndata: 2\n\ndata: 3\n\n"},
		{client.Off, ""},
	} {
		t.Run(tt.policy.String(), func(t *testing.T) {
			t.Parallel()
			e := ktorStopped(t, install(srv.Client(), client.Config{BufferPolicy: tt.policy}), srv.URL, 3)
			require.Equal(t, tt.want, ktorBody(t, e))
		})
	}
}

func TestKtor56BufferPolicyOfACallWins(t *testing.T) {
	t.Parallel()
	srv := serve(t, streamOf(ktorBuffered))
	c := install(srv.Client(), client.Config{BufferPolicy: client.All})
	e := ktorStopped(t, c, srv.URL, 3, client.WithConfig(func(cfg *client.Config) { cfg.BufferPolicy = client.Off }))
	require.Empty(t, ktorBody(t, e))
	require.NotEmpty(t, ktorBody(t, ktorStopped(t, c, srv.URL, 3)), "the option of one call changed the client's policy")
}

func TestKtor57BufferHoldsOnlyWhatWasHandedOut(t *testing.T) {
	t.Parallel()
	srv := serve(t, streamOf(ktorBuffered))
	c := install(srv.Client(), client.Config{BufferPolicy: client.All})
	require.Empty(t, ktorBody(t, ktorStopped(t, c, srv.URL, 0)))
	require.Equal(t, "event: a\ndata: 1\n\n", ktorBody(t, ktorStopped(t, c, srv.URL, 1)))
}
