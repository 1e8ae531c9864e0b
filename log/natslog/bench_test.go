package natslog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
)

// BenchmarkAppend measures acknowledged publications by one publisher, and what the package
// jetstream needs for the same.
func BenchmarkAppend(b *testing.B) {
	l := newLog(b)
	b.Run("log", func(b *testing.B) {
		for b.Loop() {
			_, err := l.Append(b.Context(), []hub.Record{rec("a", "some text")})
			require.NoError(b, err)
		}
	})
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			_, err := l.js.Publish(b.Context(), l.subject("a"), []byte("some text, and what a record has around it"))
			require.NoError(b, err)
		}
	})
}
