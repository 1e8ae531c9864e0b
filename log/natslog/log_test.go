package natslog

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/hub/logtest"
	"github.com/chi-sse/sse/internal/testkit"
	"github.com/chi-sse/sse/log/natslog/embedded"
)

// runSuite runs the suite, with a stream of its own for each case. connected returns a
// connection to one of the servers, whose folders are dirs.
func runSuite(t *testing.T, replicas int, connected func(t testing.TB) jetstream.JetStream, dirs ...string) {
	t.Helper()
	open := func(t testing.TB, stream string) *Log {
		t.Helper()
		return openLog(t, connected(t), Config{Stream: stream, Create: &jetstream.StreamConfig{Replicas: replicas, MaxBytes: -1}})
	}
	wait := func(t testing.TB) context.Context {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		t.Cleanup(cancel)
		return ctx
	}
	logtest.Run(t, logtest.Config{
		Open: func(t testing.TB) hub.Log {
			t.Helper()
			l := open(t, newStream())
			t.Cleanup(func() { _ = connected(t).DeleteStream(wait(t), l.cfg.Stream) })
			return l
		},
		Reopen: func(t testing.TB, log hub.Log) hub.Log {
			t.Helper()
			return open(t, log.(*Log).cfg.Stream)
		},
		Shared: true,
		Renew: func(t testing.TB, log hub.Log) {
			t.Helper()
			l := log.(*Log)
			deleteStream(t, l, dirs)
			_, err := l.js.CreateStream(wait(t), *l.cfg.Create)
			require.NoError(t, err)
		},
		Truncate: func(t testing.TB, log hub.Log, first uint64) {
			t.Helper()
			l := log.(*Log)
			s, err := l.js.Stream(wait(t), l.cfg.Stream)
			require.NoError(t, err)
			require.NoError(t, s.Purge(wait(t), jetstream.WithPurgeSequence(first)))
		},
		LoseAnswer: func(t testing.TB, log hub.Log) {
			t.Helper()
			loseAnswer(t, log.(*Log))
		},
		Insert: func(t testing.TB, log hub.Log, topic string, data []byte) {
			t.Helper()
			l := log.(*Log)
			_, err := l.js.PublishMsg(wait(t), &nats.Msg{Subject: l.subject(topic), Data: data})
			require.NoError(t, err)
		},
		Million:  os.Getenv("SSE_LOG_MILLION") != "",
		Patience: time.Minute,
	})
}

// deleteStream deletes the stream of l, and waits until its files are deleted: the server goes
// on with that after its answer, and another stream with the name could get some of them.
func deleteStream(t testing.TB, l *Log, dirs []string) {
	t.Helper()
	require.NoError(t, l.js.DeleteStream(t.Context(), l.cfg.Stream))
	for _, dir := range dirs {
		streams := filepath.Join(dir, "jetstream", "$G", "streams")
		testkit.Eventually(t, func() bool {
			for _, name := range []string{l.cfg.Stream, "." + l.cfg.Stream} {
				if _, err := os.Stat(filepath.Join(streams, name)); err == nil {
					return false
				}
			}
			return true
		}, "the files of a deleted stream to be deleted")
	}
}

// With the race detector, the suite runs over a cluster only, unless SSE_LOG_MILLION=1 is set, which
// also appends a million records.
func TestConformanceWithOneServer(t *testing.T) {
	t.Parallel()
	if raceEnabled && os.Getenv("SSE_LOG_MILLION") == "" {
		return
	}
	dir := t.TempDir()
	s := startServer(t, embedded.Config{Dir: dir, SlowSync: true, Listen: "127.0.0.1:0"})
	runSuite(t, 1, func(t testing.TB) jetstream.JetStream {
		t.Helper()
		return connectByProxy(t, s.URL())
	}, dir)
}

func TestConformanceWithACluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	i := 0
	runSuite(t, 3, func(t testing.TB) jetstream.JetStream {
		t.Helper()
		i++
		return connectByProxy(t, c.servers[i%3].URL())
	}, c.configs[0].Dir, c.configs[1].Dir, c.configs[2].Dir)
}
