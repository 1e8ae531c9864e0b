package sse

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// A key without a session takes no memory.
func TestKeyLimitForgetsKeys(t *testing.T) {
	for _, endsOldest := range []bool{false, true} {
		l := &keyLimit{most: 2, endsOldest: endsOldest, sessions: make(map[string][]*ServerSession)}
		sessions := make([]ServerSession, 10_000)
		for i := range sessions {
			key := fmt.Sprint(i / 2)
			require.NoError(t, l.admits(key))
			require.Nil(t, l.add(key, &sessions[i]))
			require.Equal(t, !endsOldest && i%2 == 1, l.admits(key) != nil)
		}
		require.Len(t, l.sessions, 5000)
		for i := range sessions {
			l.remove(fmt.Sprint(i/2), &sessions[i])
			l.remove(fmt.Sprint(i/2), &sessions[i])
		}
		require.Empty(t, l.sessions)
		require.Less(t, l.peak, 100, "the map was made anew")
		require.Nil(t, l.add("", &sessions[0]))
		require.Empty(t, l.sessions)
	}
}

// A session that was replaced takes no place, and gives none back when it ends.
func TestKeyLimitReplaces(t *testing.T) {
	l := &keyLimit{most: 2, endsOldest: true, key: func(*http.Request) string { return "" }, sessions: make(map[string][]*ServerSession)}
	s := make([]ServerSession, 5)
	require.Nil(t, l.add("a", &s[0]))
	require.Nil(t, l.add("a", &s[1]))
	require.Same(t, &s[0], l.add("a", &s[2]))
	l.remove("a", &s[0])
	require.Equal(t, []*ServerSession{&s[1], &s[2]}, l.sessions["a"])
	require.Same(t, &s[1], l.add("a", &s[3]))
	l.remove("a", &s[2])
	require.Nil(t, l.add("a", &s[4]))
	require.Equal(t, []*ServerSession{&s[3], &s[4]}, l.sessions["a"])
}
