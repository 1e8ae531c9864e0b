package natslog

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestSubjects(t *testing.T) {
	t.Parallel()
	l := &Log{cfg: Config{Subject: "events"}}
	for topic, subject := range map[string]string{
		"": "events.%", "a": "events.a", "orders/42": "events.orders/42", "a.b": "events.a%2Eb", "*": "events.%2A", ">": "events.%3E",
		"a b": "events.a%20b", "a\r\nPUB x": "events.a%0D%0APUB%20x", "%": "events.%25", "%41": "events.%2541", "é": "events.%C3%A9", "\x00\x7f\xff": "events.%00%7F%FF", "$JS.API": "events.%24JS%2EAPI",
	} {
		require.Equal(t, subject, l.subject(topic))
		got, ok := l.topic(subject)
		require.True(t, ok, topic)
		require.Equal(t, topic, got)
	}
	for _, subject := range []string{
		"events.%41", "events.a%2eb", "events.%4", "events.a%", "events.é", "events.a.b", "events.", "other.a", "events.%ZZ",
	} {
		_, ok := l.topic(subject)
		require.False(t, ok, subject)
	}
}

func FuzzSubjects(f *testing.F) {
	for _, s := range []string{"", "a", "a.b", "%", "%25", "é", "\x00", "*>", strings.Repeat(".", 100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		token := encodeTopic(s)
		require.NotEmpty(t, token)
		require.False(t, strings.ContainsAny(token, " .*>\r\n\t\x00\x7f"), "%q", token)
		require.True(t, utf8.ValidString(token))
		topic, ok := decodeTopic(token)
		require.True(t, ok)
		require.Equal(t, s, topic)
		if topic, ok := decodeTopic(s); ok {
			require.Equal(t, s, encodeTopic(topic), "a topic has one token")
		}
	})
}
