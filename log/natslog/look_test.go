package natslog

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/internal/testkit"
	"github.com/chi-sse/sse/log/natslog/embedded"
)

// lateStream calls functions before the server is asked how the stream is, and after it has
// answered.
type lateStream struct {
	jetstream.JetStream
	before, after func()
}

func (l *lateStream) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	l.before()
	s, err := l.JetStream.Stream(ctx, name)
	l.after()
	return s, err
}

// An answer that comes so late that more was seen meanwhile is no sign of a loss.
func TestLateAnswerIsNoLoss(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	js := l.js
	other := openLog(t, js, Config{Stream: l.cfg.Stream})
	pos := add(t, other, rec("a", "x"))[0]
	// more appends records, and lets l see them.
	more := func() {
		pos = add(t, other, recs("a", 1, 10)...)[9]
		l.saw(pos.Epoch, mark{offset: pos.Offset})
	}
	asked := 0
	for name, late := range map[string]*lateStream{
		"asked early": {before: func() {}, after: func() {
			if asked++; asked == 2 {
				more()
				time.Sleep(rewindPatience)
			}
		}},
		"asked late": {before: func() {
			if asked++; asked == 5 {
				add(t, other, rec("a", "seen"))
			}
		}, after: func() {
			if asked == 5 {
				more()
			}
		}},
	} {
		asked = 0
		// A follower has seen what the leader does not have yet.
		l.saw(pos.Epoch, mark{offset: pos.Offset + 1})
		late.JetStream, l.js = js, late
		v, err := l.look(t.Context())
		require.NoError(t, err, name)
		require.Equal(t, pos.Epoch, v.epoch, name)
		require.GreaterOrEqual(t, asked, 3, name)
		l.js = js
		require.Equal(t, pos.Epoch, bounds(t, other).Epoch, name)
	}
}

// cutOff is a leader that answers with an old state of the stream.
type cutOff struct {
	jetstream.JetStream
	t       *testing.T
	silence time.Duration // since it has heard from the other servers
	info    *jetstream.StreamInfo
}

type oldStream struct {
	jetstream.Stream
	info *jetstream.StreamInfo
}

func (s oldStream) CachedInfo() *jetstream.StreamInfo { return s.info }

func (c *cutOff) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	s, err := c.JetStream.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	if c.info == nil {
		c.info = s.CachedInfo()
		c.info.Cluster = &jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{{Name: "b", Active: c.silence}, {Name: "c", Active: time.Hour}}}
	}
	return oldStream{s, c.info}, nil
}

func (c *cutOff) UpdateStream(context.Context, jetstream.StreamConfig) (jetstream.Stream, error) {
	require.Fail(c.t, "a leader that is cut off must not be believed")
	return nil, context.Canceled
}

// A leader that is cut off from the other servers does not know what they have.
func TestLeaderThatIsCutOffIsNotBelieved(t *testing.T) {
	t.Parallel()
	s := startServer(t, embedded.Config{SlowSync: true})
	l := openLog(t, connect(t, s), Config{Stream: "s", Create: &jetstream.StreamConfig{}})
	js := l.js
	before := bounds(t, l)
	for _, silence := range []time.Duration{0, time.Minute} {
		l.js = &cutOff{JetStream: js, t: t, silence: silence}
		bounds(t, l) // what it knows
		pos := add(t, l, rec("a", "x"))[0]
		_, err := l.look(t.Context())
		require.ErrorIs(t, err, errCutOff)
		l.js = js
		b := bounds(t, l)
		require.Equal(t, before.Epoch, b.Epoch)
		require.Equal(t, pos.Offset, b.Last)
	}
	testkit.Eventually(t, func() bool { _, err := l.look(t.Context()); return err == nil }, "a leader that knows")
}

func TestLedAt(t *testing.T) {
	t.Parallel()
	asked := time.Unix(1000, 0)
	peers := func(silences ...time.Duration) *jetstream.ClusterInfo {
		c := &jetstream.ClusterInfo{}
		for _, d := range silences {
			c.Replicas = append(c.Replicas, &jetstream.PeerInfo{Active: d})
		}
		return c
	}
	const never = 0
	for _, c := range []struct {
		cluster *jetstream.ClusterInfo
		ago     time.Duration
	}{
		{nil, 0},
		{peers(), 0},
		{peers(3), 3},
		{peers(9, 4), 4},
		{peers(never, 4), 4},
		{peers(9, 4, 1), 4},
		{peers(9, 4, 1, 7), 4},
		{peers(9, never, never, 7), 9},
	} {
		require.Equal(t, asked.Add(-c.ago), ledAt(c.cluster, asked), "%+v", c)
	}
	require.True(t, ledAt(peers(never, never), asked).Before(asked.Add(-time.Hour)))
}

// hiddenStream is a server that returns an error when it is asked for the stream for the first
// times.
type hiddenStream struct {
	jetstream.JetStream
	err           error
	asked, hidden int
}

func (h *hiddenStream) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	if h.asked++; h.asked <= h.hidden {
		return nil, h.err
	}
	return h.JetStream.Stream(ctx, name)
}

// A stream that has just been created is not known to all servers yet. A Log that may create it
// waits for it.
func TestStreamThatAppearsLate(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	before, js := bounds(t, l), l.js
	l.js = &hiddenStream{JetStream: js, err: jetstream.ErrStreamNotFound, hidden: 2}
	require.Equal(t, before, bounds(t, l))

	other := openLog(t, js, Config{Stream: l.cfg.Stream})
	hidden := &hiddenStream{JetStream: js, err: jetstream.ErrStreamNotFound, hidden: 2}
	other.js = hidden
	_, err := other.Bounds(t.Context())
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
	require.Equal(t, 1, hidden.asked, "nobody creates it for a Log that may not")
}

// Bounds waits for a leader, but not for what somebody must do.
func TestBoundsWaitsForALeader(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	before, js := bounds(t, l), l.js
	for _, err := range []error{&jetstream.APIError{Code: 503}, &jetstream.APIError{Code: 400, ErrorCode: codeNoPeers}} {
		l.js = &hiddenStream{JetStream: js, err: err, hidden: 2}
		require.Equal(t, before, bounds(t, l))
	}

	refused := &hiddenStream{JetStream: js, err: jetstream.ErrJetStreamNotEnabledForAccount, hidden: 2}
	l.js = refused
	_, err := l.Bounds(t.Context())
	require.ErrorIs(t, err, jetstream.ErrJetStreamNotEnabledForAccount)
	require.Equal(t, 1, refused.asked)

	ctx, cancel := context.WithCancel(t.Context())
	away := &hiddenStream{JetStream: js, err: nats.ErrTimeout, hidden: 1000}
	l.js = away
	time.AfterFunc(3*openWait, cancel)
	_, err = l.Bounds(ctx)
	require.ErrorIs(t, err, context.Canceled)
}
