package natslog

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/chi-sse/sse/hub"
)

// Log is a [hub.Log] in a stream of JetStream. [Open] opens one. It has no goroutines between
// calls, and need not be closed: close the connection when the hubs are shut down. Some seconds
// after the last call of Read, it has no subscriptions either.
type Log struct {
	js      jetstream.JetStream
	nc      *nats.Conn
	cfg     Config
	api     string // what the subjects of the JetStream API begin with
	batches chan struct{}
	runs    runs

	mu      sync.Mutex
	epoch   uint64    // as of the last look at the stream
	asked   time.Time // when that look began
	missing time.Time // since when the stream has been missing
	size    int       // the largest message that the stream takes, in bytes
	seen    mark
	acked   uint64    // the highest sequence that was acknowledged in the epoch
	holes   []uint64  // the deleted sequences of the epoch
	holeOf  [2]uint64 // the first sequence and the number of deleted ones for which holes is right
}

// mark is a record that was seen in an epoch.
type mark struct {
	offset uint64
	time   time.Time
}

var _ hub.Log = (*Log)(nil)

// maxBatches is how many batches a Log publishes at once. A server takes 50 a stream, unless
// its limit is set to another number.
const maxBatches = 8

// openWait is the wait between two attempts to open a stream.
const openWait = 100 * time.Millisecond

// Open opens the Log in a stream of js. It waits until the server has answered, or ctx ends:
// a cluster that has just been started takes some seconds to elect its leaders, and has as many
// servers as the stream has replicas only when all have started. Set a deadline.
//
// It returns one or several [*SettingError] if the stream cannot be a Log, a [*NotFoundError]
// if there is none and Config.Create is nil, an error about cfg, or the error of ctx with that
// of the server.
func Open(ctx context.Context, js jetstream.JetStream, cfg Config) (*Log, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("natslog: open: %w", err)
	}
	l := &Log{js: js, nc: js.Conn(), cfg: cfg, api: apiPrefix(js.Options()), batches: make(chan struct{}, maxBatches)}
	l.runs.idle = runIdle
	for {
		_, err = l.look(ctx)
		if err == nil {
			return l, nil
		}
		if ctx.Err() != nil || !isTemporary(err) {
			return nil, fmt.Errorf("natslog: open: %w", withContext(ctx, err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(openWait):
		}
	}
}

// apiPrefix returns what the subjects of the JetStream API begin with.
func apiPrefix(opts jetstream.JetStreamOptions) string {
	switch {
	case opts.APIPrefix != "":
		return strings.TrimSuffix(opts.APIPrefix, ".") + "."
	case opts.Domain != "":
		return "$JS." + opts.Domain + ".API."
	}
	return jetstream.DefaultAPIPrefix
}

// withContext returns err, which matches the error of ctx if that has ended.
func withContext(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("%w: %w", ctx.Err(), err)
}

// boundsPatience is how long Bounds waits while the stream has no leader. An election takes up to
// ten seconds.
const boundsPatience = 15 * time.Second

// Bounds implements [hub.Log]. While the stream has no leader, or there is no connection, it
// waits for up to 15 seconds, so that hub.Open does not fail because of an election.
func (l *Log) Bounds(ctx context.Context) (hub.Bounds, error) {
	v, err := l.look(ctx)
	for began := time.Now(); err != nil && isTemporary(err) && !l.nc.IsClosed() && time.Since(began) < boundsPatience; v, err = l.look(ctx) {
		select {
		case <-ctx.Done():
		case <-time.After(openWait):
		}
		if ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return hub.Bounds{}, fmt.Errorf("natslog: bounds: %w", withContext(ctx, err))
	}
	return hub.Bounds{Epoch: v.epoch, First: v.first, Last: v.last}, nil
}
