package natslog

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What a server that lags has left out at the end of a page is known from the leader.
func TestPageOfALaggingServer(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	for range 5 {
		add(t, l, rec("a", "a"), rec("b", "b"))
	}
	remove(t, l, 5)
	for _, c := range []struct {
		subject string
		page    stretch
		upTo    uint64
	}{
		{everything, stretch{upTo: 3}, 3},
		{everything, stretch{upTo: 10}, 10},
		{everything, stretch{upTo: 4}, 5},
		{l.subject("a"), stretch{upTo: 3}, 6},
		{l.subject("a"), stretch{upTo: 9}, 10},
		{l.subject("b"), stretch{upTo: 5}, 5},
		{l.subject("c"), stretch{upTo: 0}, 10},
		{l.subject("a"), stretch{upTo: 9, full: true}, 9},
	} {
		require.NoError(t, l.complete(t.Context(), c.subject, &c.page, 10))
		require.Equal(t, c.upTo, c.page.upTo, "%+v", c)
	}
}
