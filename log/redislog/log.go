package redislog

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chi-sse/sse/hub"
)

// Log is a [hub.Log] in a stream of Redis. [Open] opens one.
type Log struct {
	cfg  Config
	keys []string // that the server has, as the scripts want them
	node node
	args []any // of each append: the bounds

	mu      sync.Mutex
	epoch   uint64 // as of the last look
	base    uint64 // of the epoch
	seen    uint64 // the highest offset that was seen or acknowledged in the epoch
	size    uint64 // about how many bytes a record has
	queue   []*appending
	senders int // how many goroutines send what is in the queue
}

// The keys of a log, in the order in which the scripts have them.
const (
	keyEvents = iota
	keyMeta
	keyKeys
	keyOldKeys
	keyMarks
	keyOrders
)

var keyNames = [...]string{keyEvents: "events", keyMeta: "meta", keyKeys: "keys", keyOldKeys: "oldkeys", keyMarks: "marks", keyOrders: "orders"}

// waitBetween is the wait between two attempts.
const waitBetween = 100 * time.Millisecond

// Open opens the Log in the server of client, which is a *redis.Client, also one of Sentinel, or a
// *redis.ClusterClient. Log has connections of its own, with the options of client. Open creates
// the log if there is none, unless Config.ReadOnly is set. While the server is out of reach, or
// loads its data, it waits until ctx ends; set a deadline.
//
// It returns a [*ServerError] if the server is older than Redis 7, or may evict the log from its
// memory; a [*NotFoundError]; an error about cfg; an error of the server; or the error of ctx with
// that of the server.
func Open(ctx context.Context, client redis.UniversalClient, cfg Config) (*Log, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("redislog: open: %w", err)
	}
	l := &Log{cfg: cfg, args: []any{cfg.MaxEvents, cfg.MaxBytes, milliseconds(cfg.MaxAge), milliseconds(cfg.KeyWindow), cfg.MaxKeys}}
	for _, name := range keyNames {
		l.keys = append(l.keys, "{"+cfg.Name+"}:"+name)
	}
	l.node.source, l.node.key = client, l.keys[keyEvents]
	if cfg.Replicas > 0 {
		l.node.wait = cfg.ReplicaTimeout
	}
	if err := l.patiently(ctx, unlimited, l.open); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("redislog: open: %w", err)
	}
	return l, nil
}

// milliseconds returns d in milliseconds, rounded up.
func milliseconds(d time.Duration) int64 {
	if d == unbounded {
		return unbounded
	}
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

func (l *Log) open(ctx context.Context) error {
	var info string
	if err := l.node.do(ctx, func(ctx context.Context, c *redis.Client) (err error) {
		info, err = c.Do(ctx, "INFO", "everything").Text()
		return err
	}); err != nil {
		return err
	}
	if err := checkServer(parseInfo(info)); err != nil {
		return err
	}
	_, err := l.look(ctx)
	return err
}

// parseInfo returns the fields of the server's INFO.
func parseInfo(text string) map[string]string {
	fields := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}

// checkServer returns a ServerError if the server cannot have a log.
func checkServer(info map[string]string) error {
	version, _, _ := strings.Cut(info["redis_version"], ".")
	if n, err := strconv.Atoi(version); err != nil || n < 7 {
		return &ServerError{fmt.Sprintf("it has the version %q; it must be Redis 7 or later, or Valkey", info["redis_version"])}
	}
	for _, field := range []string{"run_id", "master_replid", "master_replid2"} {
		if info[field] == "" {
			return &ServerError{"its INFO has no " + field + ", without which nobody can know whether it has lost events"}
		}
	}
	if policy := info["maxmemory_policy"]; strings.HasPrefix(policy, "allkeys-") && info["maxmemory"] != "0" {
		return &ServerError{fmt.Sprintf("its maxmemory-policy is %s, which drops the whole log when memory is short; it must be noeviction, or one that begins with volatile-", policy)}
	}
	return nil
}

// Close closes the connections. It does not wait for calls that are under way.
func (l *Log) Close() error { return l.node.close() }

const (
	boundsPatience = 15 * time.Second // how long Bounds waits for the server
	unlimited      = 1 << 62
)

// Bounds implements [hub.Log]. While the server is out of reach, it waits for up to 15 seconds, so
// that hub.Open does not fail because of a failover.
func (l *Log) Bounds(ctx context.Context) (hub.Bounds, error) {
	var v view
	if err := l.patiently(ctx, boundsPatience, func(ctx context.Context) (err error) {
		v, err = l.look(ctx)
		return err
	}); err != nil {
		return hub.Bounds{}, fmt.Errorf("redislog: bounds: %w", err)
	}
	return hub.Bounds{Epoch: v.epoch, First: v.from(), Last: v.last}, nil
}

// patiently calls f again and again while its error is one that may pass.
func (l *Log) patiently(ctx context.Context, patience time.Duration, f func(context.Context) error) error {
	var last error
	for began := time.Now(); ; {
		err := f(ctx)
		if ctx.Err() != nil && err != nil && last != nil {
			return fmt.Errorf("%w: %w", ctx.Err(), last)
		}
		if err == nil || ctx.Err() != nil || !temporary(err) || time.Since(began) > patience {
			return err
		}
		last = err
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(waitBetween):
		}
	}
}
