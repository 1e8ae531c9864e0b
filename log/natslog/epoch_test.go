package natslog

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
	"github.com/chi-sse/sse/internal/testkit"
	"github.com/chi-sse/sse/log/natslog/embedded"
)

// restored is a server whose folder was replaced by an older copy of it, and a Log that has
// seen what is no longer there: the records 51 to 100.
type restored struct {
	l     *Log // is connected to the server of the copy
	other *Log // the same, but it has seen nothing
	epoch uint64
}

func restore(t *testing.T) *restored {
	t.Helper()
	dir, backup := t.TempDir(), t.TempDir()
	cfg := embedded.Config{Dir: dir, Listen: "127.0.0.1:0"}
	s := startServer(t, cfg)
	js := connectByProxy(t, s.URL())
	l := openLog(t, js, Config{Stream: "s", Create: &jetstream.StreamConfig{}})
	add(t, l, recs("a", 1, 50)...)
	stop(t, s)
	require.NoError(t, os.CopyFS(backup, os.DirFS(dir)))
	again := func() {
		testkit.Eventually(t, func() bool { return !l.nc.IsConnected() }, "the connection to be lost")
		s = startServer(t, cfg)
		p := proxyOf(l)
		p.Redirect(s.URL()[len("nats://"):])
		testkit.Eventually(t, l.nc.IsConnected, "another connection")
	}
	again()
	add(t, l, recs("a", 51, 50)...)
	b := bounds(t, l)
	require.Equal(t, uint64(100), b.Last)
	follower := logkit.Follow(t, l, hub.Position{Epoch: b.Epoch})
	follower.Await(100)
	stop(t, s)
	require.Error(t, follower.End())
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.CopyFS(dir, os.DirFS(backup)))
	again()
	other := openLog(t, newJetStream(t, l.nc), Config{Stream: "s"})
	require.Equal(t, b.Epoch, bounds(t, other).Epoch, "nothing in the stream tells that it is a backup")
	return &restored{l, other, b.Epoch}
}

// A stream that has lost what was seen begins another epoch, whether or not there are other
// records in their place.
func TestEpochOfABackup(t *testing.T) {
	t.Parallel()
	for _, more := range []int{0, 10, 80} {
		t.Run(strconv.Itoa(more), func(t *testing.T) {
			t.Parallel()
			r := restore(t)
			if more > 0 {
				add(t, r.other, recs("b", 1, more)...)
			}
			err := r.l.Follow(t.Context(), hub.Position{Epoch: r.epoch, Offset: 100}, func(b hub.Batch) error {
				require.Fail(t, "it has applied a batch", b)
				return nil
			})
			require.ErrorIs(t, err, hub.ErrEpoch)
			b := bounds(t, r.l)
			require.NotEqual(t, r.epoch, b.Epoch)
			require.Equal(t, uint64(50+more), b.Last)
			require.Equal(t, b, bounds(t, r.other), "the other node learns of it")
			err = r.other.Follow(t.Context(), hub.Position{Epoch: r.epoch, Offset: 40}, func(hub.Batch) error { return nil })
			require.ErrorIs(t, err, hub.ErrEpoch)
			f := logkit.Follow(t, r.l, hub.Position{Epoch: b.Epoch})
			require.Len(t, f.Await(50+more), 50+more)
		})
	}
}

// A node that may not change the stream says what to do.
func TestEpochOfABackupWithoutPermission(t *testing.T) {
	t.Parallel()
	r := restore(t)
	r.l.api = "unused."
	js, err := jetstream.NewWithAPIPrefix(r.l.nc, "$JS.API")
	require.NoError(t, err)
	r.l.js = readOnlyStreams{js}
	err = r.l.Follow(t.Context(), hub.Position{Epoch: r.epoch, Offset: 100}, func(hub.Batch) error { return nil })
	var rewound *RewoundError
	require.ErrorAs(t, err, &rewound)
	require.Equal(t, RewoundError{"s", 100, 50, rewound.Err}, *rewound)
	require.ErrorContains(t, err, EpochKey)

	s, err := js.Stream(t.Context(), "s")
	require.NoError(t, err)
	changed := s.CachedInfo().Config
	changed.Metadata = map[string]string{EpochKey: "restored"}
	_, err = js.UpdateStream(t.Context(), changed)
	require.NoError(t, err)
	require.NotEqual(t, r.epoch, bounds(t, r.l).Epoch)
}

// readOnlyStreams does not let streams be changed.
type readOnlyStreams struct{ jetstream.JetStream }

func (readOnlyStreams) UpdateStream(context.Context, jetstream.StreamConfig) (jetstream.Stream, error) {
	return nil, nats.ErrPermissionViolation
}

// A follower learns that somebody else has begun another epoch.
func TestEpochIsChangedElsewhere(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	b := bounds(t, l)
	f := logkit.Follow(t, l, hub.Position{Epoch: b.Epoch})
	f.Await(0)
	changed := *l.cfg.Create
	changed.Metadata = map[string]string{EpochKey: "1"}
	_, err := l.js.UpdateStream(t.Context(), changed)
	require.NoError(t, err)
	require.ErrorIs(t, f.End(), hub.ErrEpoch)
}

// A stream that is deleted is made anew by the Log, after a while.
func TestDeletedStream(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	js := connect(t, startServer(t, embedded.Config{Dir: dir}))
	l := openLog(t, js, Config{Stream: "s", Create: &jetstream.StreamConfig{}})
	add(t, l, recs("a", 1, 10)...)
	b := bounds(t, l)
	h, err := hub.Open(t.Context(), hub.Config{Log: l, Logger: quiet})
	require.NoError(t, err)
	defer func() { require.NoError(t, h.Shutdown(context.Background())) }()
	reader := openLog(t, js, Config{Stream: "s"})
	f := logkit.Follow(t, reader, hub.Position{Epoch: b.Epoch, Offset: 10})
	f.Await(0)
	deleteStream(t, l, []string{dir})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	positions, err := l.Append(ctx, recs("a", 1, 1))
	require.NoError(t, err, "Append waits for the stream that the follower makes")
	require.Equal(t, uint64(1), positions[0].Offset)
	require.ErrorIs(t, f.End(), hub.ErrEpoch)
	testkit.Eventually(t, func() bool { return h.Position() == hub.Position{Epoch: bounds(t, l).Epoch, Offset: 1} }, "the hub to follow the new stream")

	// Nobody makes it for a Log that may not.
	require.NoError(t, h.Shutdown(context.Background()))
	f = logkit.Follow(t, reader, h.Position())
	f.Await(0)
	deleteStream(t, l, []string{dir})
	require.ErrorIs(t, f.End(), jetstream.ErrStreamNotFound)
	_, err = reader.Bounds(t.Context())
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
	_, err = os.Stat(filepath.Join(dir, "jetstream", "$G", "streams", "s"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
