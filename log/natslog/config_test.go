package natslog

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
	"github.com/chi-sse/sse/log/natslog/embedded"
)

func TestInvalidConfig(t *testing.T) {
	t.Parallel()
	js := connect(t, startServer(t, embedded.Config{}))
	for text, cfg := range map[string]Config{
		"Config.Stream":             {},
		`Config.Stream is "a.b"`:    {Stream: "a.b"},
		`Config.Stream is "a b"`:    {Stream: "a b"},
		`Config.Subject is "a.*"`:   {Stream: "a", Subject: "a.*"},
		`Config.Subject is "a..b"`:  {Stream: "a", Subject: "a..b"},
		`Config.Subject is "$JS.a"`: {Stream: "a", Subject: "$JS.a"},
		"Config.Create.Name":        {Stream: "a", Create: &jetstream.StreamConfig{Name: "b"}},
		"Config.Create.Subjects":    {Stream: "a", Create: &jetstream.StreamConfig{Subjects: []string{"b"}}},
		"Config.Create: the stream a has the setting storage = Memory; it must be File": {Stream: "a", Create: &jetstream.StreamConfig{Storage: jetstream.MemoryStorage}},
	} {
		_, err := Open(t.Context(), js, cfg)
		require.ErrorContains(t, err, text)
	}
	_, err := Open(t.Context(), js, Config{Stream: "missing"})
	var missing *NotFoundError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, "missing", missing.Stream)
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
	_, err = Open(t.Context(), js, Config{Stream: "missing", ReadOnly: true, Create: &jetstream.StreamConfig{}})
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound, "nothing is created that is only read")
}

// fitting is a stream that can be a Log.
func fitting() jetstream.StreamConfig {
	return jetstream.StreamConfig{Name: "s", Subjects: []string{"s.*"}, AllowDirect: true, AllowAtomicPublish: true, Duplicates: time.Minute}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	js := connect(t, startServer(t, embedded.Config{}))
	for setting, change := range map[string]func(*jetstream.StreamConfig){
		"subjects":  func(s *jetstream.StreamConfig) { s.Subjects = []string{"s.>"} },
		"storage":   func(s *jetstream.StreamConfig) { s.Storage = jetstream.MemoryStorage },
		"retention": func(s *jetstream.StreamConfig) { s.Retention = jetstream.InterestPolicy },
		"discard":   func(s *jetstream.StreamConfig) { s.Discard = jetstream.DiscardNew },
		"no_ack":    func(s *jetstream.StreamConfig) { s.NoAck = true },
		"sources":   func(s *jetstream.StreamConfig) { s.Sources = []*jetstream.StreamSource{{Name: "other"}} },
		"subject_transform": func(s *jetstream.StreamConfig) {
			s.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "s.*", Destination: "s.x"}
		},
		"max_msgs_per_subject": func(s *jetstream.StreamConfig) { s.MaxMsgsPerSubject = 1 },
		"allow_rollup_hdrs":    func(s *jetstream.StreamConfig) { s.AllowRollup = true },
		"allow_msg_ttl":        func(s *jetstream.StreamConfig) { s.AllowMsgTTL = true },
		"allow_msg_schedules":  func(s *jetstream.StreamConfig) { s.AllowMsgSchedules, s.AllowRollup = true, true },
		"allow_direct":         func(s *jetstream.StreamConfig) { s.AllowDirect = false },
		"allow_atomic":         func(s *jetstream.StreamConfig) { s.AllowAtomicPublish = false },
		"duplicate_window":     func(s *jetstream.StreamConfig) { s.Duplicates = time.Second },
		"persist_mode": func(s *jetstream.StreamConfig) {
			s.PersistMode, s.AllowAtomicPublish = jetstream.AsyncPersistMode, false
		},
		"subject_delete_marker_ttl": func(s *jetstream.StreamConfig) { s.SubjectDeleteMarkerTTL, s.AllowMsgTTL = time.Minute, true },
		"allow_msg_counter":         func(s *jetstream.StreamConfig) { s.AllowMsgCounter = true },
		"num_replicas":              func(*jetstream.StreamConfig) {},
		"mirror": func(s *jetstream.StreamConfig) {
			s.Mirror, s.Subjects, s.AllowAtomicPublish, s.Duplicates = &jetstream.StreamSource{Name: "other"}, nil, false, 0
		},
	} {
		s := fitting()
		change(&s)
		_, err := js.CreateStream(t.Context(), s)
		require.NoError(t, err, setting)
		cfg := Config{Stream: "s", Logger: quiet}
		if setting == "num_replicas" {
			cfg.Create = &jetstream.StreamConfig{Replicas: 3}
		}
		_, err = Open(t.Context(), js, cfg)
		found := make(map[string]bool)
		for _, err := range settingErrors(err) {
			require.Equal(t, "s", err.Stream)
			require.NotEmpty(t, err.Value)
			require.ErrorContains(t, err, "it must ")
			found[err.Setting] = true
		}
		require.True(t, found[setting], "%s: %v", setting, err)
		deleteStream(t, &Log{js: js, cfg: Config{Stream: "s"}}, nil)
		time.Sleep(20 * time.Millisecond) // the server deletes the files
	}
	_, err := js.CreateStream(t.Context(), fitting())
	require.NoError(t, err)
	l := openLog(t, js, Config{Stream: "s"})
	add(t, l, rec("a", "1"))

	// A stream that is sealed can be read.
	sealed := fitting()
	sealed.Sealed = true
	_, err = js.UpdateStream(t.Context(), sealed)
	require.NoError(t, err)
	_, err = l.Append(t.Context(), recs("a", 2, 1))
	require.ErrorIs(t, err, hub.ErrReadOnly)
	_, err = Open(t.Context(), js, Config{Stream: "s"})
	require.Len(t, settingErrors(err), 1)
	l = openLog(t, js, Config{Stream: "s", ReadOnly: true})
	_, err = l.Append(t.Context(), recs("a", 2, 1))
	require.ErrorIs(t, err, hub.ErrReadOnly)
	b := bounds(t, l)
	page, err := l.Read(t.Context(), nil, hub.Position{Epoch: b.Epoch}, hub.Position{Epoch: b.Epoch, Offset: b.Last}, 10)
	require.NoError(t, err)
	require.Equal(t, []string{"1"}, texts(page.Records))
}

// settingErrors returns the SettingErrors in err.
func settingErrors(err error) (all []*SettingError) {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return nil
	}
	for _, err := range joined.Unwrap() {
		if setting, ok := errors.AsType[*SettingError](err); ok {
			all = append(all, setting)
		}
	}
	return all
}

// A stream whose settings are changed while it is followed is noticed.
func TestSettingsAreChanged(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	start := hub.Position{Epoch: bounds(t, l).Epoch}
	ended := make(chan error, 1)
	go func() { ended <- l.Follow(t.Context(), start, func(hub.Batch) error { return nil }) }()
	changed := *l.cfg.Create
	changed.MaxMsgsPerSubject = 3
	_, err := l.js.UpdateStream(t.Context(), changed)
	require.NoError(t, err)
	require.Equal(t, "max_msgs_per_subject", settingErrors(<-ended)[0].Setting)
}

func TestCreate(t *testing.T) {
	t.Parallel()
	js := connect(t, startServer(t, embedded.Config{}))
	l := openLog(t, js, Config{Stream: "s", Subject: "chat.events", Create: &jetstream.StreamConfig{MaxMsgs: 5}})
	s, err := js.Stream(t.Context(), "s")
	require.NoError(t, err)
	made := s.CachedInfo().Config
	require.Equal(t, []string{"chat.events.*"}, made.Subjects)
	require.Equal(t, int64(DefaultMaxBytes), made.MaxBytes)
	require.Equal(t, DefaultMaxAge, made.MaxAge)
	require.Equal(t, int64(5), made.MaxMsgs)
	require.Equal(t, jetstream.FileStorage, made.Storage)
	add(t, l, recs("a", 1, 20)...)
	require.Equal(t, uint64(16), bounds(t, l).First)

	// The next one finds it, and leaves it as it is.
	l = openLog(t, js, Config{Stream: "s", Subject: "chat.events", Create: &jetstream.StreamConfig{MaxMsgs: 50, MaxBytes: -1, MaxAge: -1}})
	require.Equal(t, uint64(20), bounds(t, l).Last)
	s, err = js.Stream(t.Context(), "s")
	require.NoError(t, err)
	require.Equal(t, int64(5), s.CachedInfo().Config.MaxMsgs)

	l = openLog(t, js, Config{Stream: "t", Create: &jetstream.StreamConfig{MaxBytes: -1, MaxAge: -1}})
	s, err = js.Stream(t.Context(), "t")
	require.NoError(t, err)
	require.Equal(t, int64(-1), s.CachedInfo().Config.MaxBytes)
	require.Zero(t, s.CachedInfo().Config.MaxAge)
	require.Equal(t, "t.a", l.subject("a"))
}

func TestOpenWaitsForTheServer(t *testing.T) {
	t.Parallel()
	s := startServer(t, embedded.Config{Listen: "127.0.0.1:0"})
	js := connectByProxy(t, s.URL())
	p := proxyOf(&Log{nc: js.Conn()})
	p.Refuse(true)
	p.Cut()
	testkit.Eventually(t, func() bool { return !js.Conn().IsConnected() }, "the connection to be lost")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := Open(ctx, js, Config{Stream: "s", Create: &jetstream.StreamConfig{}})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "disconnected")
	time.AfterFunc(3*time.Second, func() { p.Refuse(false) })
	openLog(t, js, Config{Stream: "s", Create: &jetstream.StreamConfig{}})
}
