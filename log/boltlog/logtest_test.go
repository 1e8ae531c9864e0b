package boltlog

import (
	"bytes"
	"context"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/hub/logtest"
)

// tested is a Log that the conformance suite can do something to.
type tested struct {
	*Log
	keep atomic.Int64 // how many records are kept, and 1; 0 for all
	most int          // Config.MaxEvents
	lose atomic.Bool  // the next Append is to have an unknown outcome
}

func openTested(t testing.TB, path string) *tested {
	t.Helper()
	l := &tested{}
	ready := make(chan struct{})
	log, err := openAt(path, quiet(Config{}), func() time.Time {
		select {
		case <-ready: // the writer asks
			l.cfg.MaxEvents = l.most
			if keep := l.keep.Load(); keep > 0 {
				l.cfg.MaxEvents = int(keep - 1)
			}
		default:
		}
		return time.Now()
	})
	require.NoError(t, err)
	l.Log, l.most = log, log.cfg.MaxEvents
	close(ready)
	t.Cleanup(func() { l.Close() })
	return l
}

// truncate has the writer drop the records before the offset.
func (l *tested) truncate(t testing.TB, first uint64) {
	t.Helper()
	kept := int64(0)
	for _, r := range all(t, l.Log, l.newest.Load().Dropped) {
		if r.Offset >= first {
			kept++
		}
	}
	l.keep.Store(kept + 1)
	l.nudge()
	require.Eventually(t, func() bool { return l.newest.Load().First >= first }, 20*time.Second, time.Millisecond)
	l.keep.Store(0)
}

// insert stores a record of topic whose form is data.
func (l *tested) insert(t testing.TB, topic string, data []byte) {
	t.Helper()
	it := item{head: head{topic: hashTopic(topic)}}
	it.value = append(append(make([]byte, sumSize+1+8), it.topic[:]...), data...)
	r := &request{items: []item{it}, size: len(it.value), done: make(chan struct{})}
	l.mu.Lock()
	l.queue = append(l.queue, r)
	l.mu.Unlock()
	l.nudge()
	<-r.done
	require.NoError(t, r.err)
}

// damage changes what is stored of the record at the offset.
func (l *tested) damage(t testing.TB, offset uint64) {
	t.Helper()
	require.NoError(t, l.db.Update(func(tx *bbolt.Tx) error {
		at := keyOf(offset)
		v := bytes.Clone(tx.Bucket(recordsBucket).Get(at[:]))
		v[len(v)-1] ^= 1
		return tx.Bucket(recordsBucket).Put(at[:], v)
	}))
}

// Append ends its context while the records are being committed, after loseAnswer.
func (l *tested) Append(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
	if !l.lose.Swap(false) {
		return l.Log.Append(ctx, records)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answered := make(chan struct{})
	defer close(answered)
	l.mu.Lock()
	commit := l.commit
	l.commit = func(tx *bbolt.Tx) error {
		cancel()
		<-answered
		l.commit = commit // the writer calls it
		return commit(tx)
	}
	l.mu.Unlock()
	return l.Log.Append(ctx, records)
}

// TestConformance runs the suite over the file log. The epoch changes only while the file is not
// open, so Renew is left out; TestEpochs tests that. SSE_LOG_MILLION=1 appends a million records.
func TestConformance(t *testing.T) {
	logtest.Run(t, logtest.Config{
		Open: func(t testing.TB) hub.Log {
			t.Helper()
			return openTested(t, newPath(t))
		},
		Reopen: func(t testing.TB, log hub.Log) hub.Log {
			t.Helper()
			l := log.(*tested)
			require.NoError(t, l.Close())
			return openTested(t, l.path)
		},
		Truncate: func(t testing.TB, log hub.Log, first uint64) {
			t.Helper()
			log.(*tested).truncate(t, first)
		},
		Insert: func(t testing.TB, log hub.Log, topic string, data []byte) {
			t.Helper()
			log.(*tested).insert(t, topic, data)
		},
		Damage: func(t testing.TB, log hub.Log, offset uint64) {
			t.Helper()
			log.(*tested).damage(t, offset)
		},
		LoseAnswer: func(_ testing.TB, log hub.Log) { log.(*tested).lose.Store(true) },
		Million:    os.Getenv("SSE_LOG_MILLION") != "",
	})
}
