package pglog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/chi-sse/sse/hub"
)

// Log is a [hub.Log] in a database of Postgres. [Open] opens one. Each Follow has a connection for
// notifications; everything else uses a pool of at most eight connections.
type Log struct {
	cfg     Config
	pool    *pgxpool.Pool
	listen  *pgx.ConnConfig // nil if notifications would not come
	queries queries
	appends appends
	closed  atomic.Bool

	mu      sync.Mutex
	newest  mark // the newest record that was followed
	follows map[*follow]bool
}

var (
	_ hub.Log    = (*Log)(nil)
	_ hub.Finder = (*Log)(nil)
)

// maxConns is how many connections the pool of a Log has at most. A hub reads up to four pages at
// once.
const maxConns = 8

// pingAfter is how long a connection may be idle before it is checked.
const pingAfter = 100 * time.Millisecond

// requestTimeout is how long the server may need for what needs no other's lock. A connection on
// which nothing comes any longer is noticed by it.
const requestTimeout = 10 * time.Second

// Open opens the log in the database of pool. The Log makes connections of its own, in the same
// way as pool; it does not use those of pool any longer when Open has returned. Close it when the
// hubs are shut down.
//
// It returns one or several [*MissingError] if the database has no such log, or the user lacks a
// right; an error about cfg; or the error of ctx or of the server.
func Open(ctx context.Context, pool *pgxpool.Pool, cfg Config) (*Log, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("pglog: open: %w", err)
	}
	l := &Log{cfg: cfg, queries: newQueries(cfg.Schema), follows: make(map[*follow]bool)}
	l.appends.l = l
	if err := l.open(ctx, pool); err != nil {
		return nil, fmt.Errorf("pglog: open: %w", withContext(ctx, err))
	}
	return l, nil
}

func (l *Log) open(ctx context.Context, pool *pgxpool.Pool) error {
	own := pool.Config()
	own.MaxConns, own.MinConns, own.MinIdleConns = maxConns, 0, 0
	own.ShouldPing = func(_ context.Context, params pgxpool.ShouldPingParams) bool {
		return params.IdleDuration > pingAfter // a publication on a connection that is lost is unknown
	}
	pooled, err := l.examine(ctx, pool)
	if err != nil {
		return err
	}
	l.listen = own.ConnConfig.Copy()
	if pooled { // it may give each transaction another connection
		own.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
		own.ConnConfig.StatementCacheCapacity, own.ConnConfig.DescriptionCacheCapacity = 0, 0
		l.listen = nil
	}
	if l.cfg.Listen != nil {
		l.listen = l.cfg.Listen.Copy()
	}
	if l.listen == nil {
		l.cfg.Logger.Warn("pglog: the connections go through a pooler, so notifications may not come; the log is looked at every 20 ms; set Config.Listen to a direct connection")
	}
	l.pool, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), own)
	return err
}

// Close closes the connections of l, and waits until they are not used any longer. Call it after
// the hubs' Shutdown.
func (l *Log) Close() {
	l.closed.Store(true)
	l.pool.Close()
}

// queries are the statements of a Log.
type queries struct {
	bounds, page, topics, mark, find, number, append, retain, renew, hold, seen, snapshot string
}

func newQueries(s Schema) queries {
	state := "(SELECT epoch, first, last FROM " + s.table("state") + " ORDER BY n DESC LIMIT 1) s"
	// page returns the state and the records from, in their order, without those beyond maxPage bytes,
	// and how many there are with those.
	page := func(from string) string {
		return "SELECT s.epoch, s.first, s.last, r.number, r.at, r.topic, r.record, r.many FROM " + state + " LEFT JOIN (" +
			"SELECT *, sum(octet_length(record)) OVER (ORDER BY number ROWS UNBOUNDED PRECEDING) - octet_length(record) AS before, count(*) OVER () AS many FROM (" +
			from + " ORDER BY number LIMIT $3) l) r ON r.before < $4 ORDER BY r.number"
	}
	log := s.table("log")
	return queries{
		bounds: "SELECT epoch, first, last FROM " + state,
		page:   page("SELECT number, at, topic, record FROM " + log + " WHERE number > $1 AND number <= $2"),
		topics: page("SELECT t.* FROM unnest($5::bytea[]) x(topic), LATERAL (SELECT number, at, topic, record FROM " + log + " l WHERE l.topic = x.topic AND number > $1 AND number <= $2 ORDER BY number LIMIT $3) t"),
		mark:   "SELECT s.epoch, s.first, s.last, l.at FROM " + state + " LEFT JOIN " + log + " l ON l.number = $1",
		find:   "SELECT s.epoch, l.number, l.record FROM " + state + " LEFT JOIN " + log + " l ON l.topic = $1 AND l.key = $2",
		number: "SELECT free, count, more FROM " + s.table("number") + "($1)",
		append: "SELECT epoch, numbers FROM " + s.table("append") + "($1, $2, $3, $4)",
		retain: "SELECT " + s.table("retain") + "(make_interval(secs => $1), $2, $3)",
		renew:  "SELECT " + s.table("renew") + "($1)",
		hold:   "SELECT n FROM " + s.table("hold") + "()",
		seen:   "SELECT epoch, last FROM " + s.table("number_seen") + "($1, $2)",
		snapshot: "SELECT current_setting('transaction_isolation'), pg_current_xact_id_if_assigned() IS NULL, pg_current_snapshot()::text, " +
			"(SELECT n FROM " + s.table("state") + " ORDER BY n DESC LIMIT 1)",
	}
}

// bounds are hub.Bounds as the database has them.
type bounds struct {
	epoch, first, last int64
}

func (b bounds) of() hub.Bounds {
	return hub.Bounds{Epoch: uint64(b.epoch), First: uint64(b.first), Last: uint64(b.last)}
}

// Bounds implements [hub.Log].
func (l *Log) Bounds(ctx context.Context) (hub.Bounds, error) {
	var b bounds
	err := l.ask(ctx, func(ctx context.Context) error {
		return l.pool.QueryRow(ctx, l.queries.bounds).Scan(&b.epoch, &b.first, &b.last)
	})
	if err != nil {
		return hub.Bounds{}, fmt.Errorf("pglog: bounds: %w", withContext(ctx, err))
	}
	return b.of(), nil
}

// ask calls f, within requestTimeout. If the connection is lost, it does that once more with a
// new one: all others are lost too then, or will soon be found to be.
func (l *Log) ask(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := f(ctx)
	if err == nil || ctx.Err() != nil || isError(err) {
		return err
	}
	l.pool.Reset()
	return f(ctx)
}

// Find implements [hub.Finder]. It finds events whose key is their id, as it is of those that a
// hub with hub.Config.OwnIDs has published, and of those of [Schema.Publish].
func (l *Log) Find(ctx context.Context, topic, id string) (hub.Position, bool, error) {
	var epoch int64
	var number *int64
	var record []byte
	err := l.ask(ctx, func(ctx context.Context) error {
		return l.pool.QueryRow(ctx, l.queries.find, []byte(topic), []byte(id)).Scan(&epoch, &number, &record)
	})
	if err != nil {
		return hub.Position{}, false, fmt.Errorf("pglog: find: %w", withContext(ctx, err))
	}
	var r hub.Record
	if number != nil && r.UnmarshalBinary(record) == nil && r.Event.ID == id {
		return hub.Position{Epoch: uint64(epoch), Offset: uint64(*number)}, true, nil
	}
	return hub.Position{}, false, nil
}

// errReadOnly is the error of what a Log with Config.ReadOnly cannot do.
var errReadOnly = fmt.Errorf("%w: Config.ReadOnly is set", hub.ErrReadOnly)

// refused returns err, which matches hub.ErrReadOnly if the server has refused to change the log.
func refused(err error) error {
	if isCode(err, codePrivilege) && !errors.Is(err, hub.ErrReadOnly) {
		return fmt.Errorf("%w: %w", hub.ErrReadOnly, err)
	}
	return err
}
