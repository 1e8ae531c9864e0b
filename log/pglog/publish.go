package pglog

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
)

// Tx is a transaction of pgx: a pgx.Tx. For a transaction of database/sql, see [SQL]. A
// *pgxpool.Pool and a *pgx.Conn can be used too: then each call is a transaction of its own.
type Tx interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// SQL returns a Tx for a transaction of database/sql: a *sql.Tx. The driver may be any for
// Postgres, such as that of package github.com/jackc/pgx/v5/stdlib.
func SQL(tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
},
) Tx {
	return sqlTx{tx}
}

type sqlTx struct {
	tx interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	}
}

// Exec implements Tx. The tag is empty.
func (s sqlTx) Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error) {
	_, err := s.tx.ExecContext(ctx, query, args...)
	return pgconn.CommandTag{}, err
}

// QueryRow implements Tx.
func (s sqlTx) QueryRow(ctx context.Context, query string, args ...any) pgx.Row {
	return s.tx.QueryRowContext(ctx, query, args...)
}

// Publish publishes e in the transaction tx, with the log in [DefaultSchema]. See
// [Schema.Publish].
func Publish(ctx context.Context, tx Tx, topic string, e event.Event) error {
	return DefaultSchema.Publish(ctx, tx, topic, e)
}

// Publish publishes e in the transaction tx. If tx is committed, all hubs of the log deliver e
// soon afterwards; if it is rolled back, nobody ever sees e. The events of a transaction stay in
// their order, with none of others between them. Transactions have the order in which they have
// begun to write if they commit at about the same time, and that in which they commit otherwise.
//
// e must not have an ID, unless the hubs have hub.Config.OwnIDs: then it must have one.
//
// Publish returns an *event.FieldError if e cannot be encoded, a [*LimitError] if the topic or the
// event is too large, an error for an empty topic, or the error of tx. Nothing is published then.
// An error of tx also means that the transaction can only be rolled back.
func (s Schema) Publish(ctx context.Context, tx Tx, topic string, e event.Event) error {
	return s.PublishAll(ctx, tx, []hub.Publication{{Topic: topic, Event: e}})
}

// PublishAll publishes several events in the transaction tx, as [Schema.Publish] does for one. A
// publication with a Key that an earlier event of its topic has is left out, as long as the log
// has that event. The default of Key is the event's ID.
func (s Schema) PublishAll(ctx context.Context, tx Tx, ps []hub.Publication) error {
	return s.insert(ps, func(query string, args []any) error {
		_, err := tx.Exec(ctx, query, args...)
		return err
	})
}

// Queue adds to b a statement that publishes e, with the log in [DefaultSchema]. See
// [Schema.Queue].
func Queue(b *pgx.Batch, topic string, e event.Event) error {
	return DefaultSchema.Queue(b, topic, e)
}

// Queue adds to b a statement that publishes e, so that the change and the event take one round
// trip. Queue the change first. If b is sent by a pool or a connection, it is a transaction of its
// own; if it is sent by a transaction, it is a part of it. Nothing of it is published if one of its
// statements fails. The rules are those of [Schema.Publish].
//
// Queue returns the errors of Publish but for those of a transaction. Nothing is queued then.
func (s Schema) Queue(b *pgx.Batch, topic string, e event.Event) error {
	return s.QueueAll(b, []hub.Publication{{Topic: topic, Event: e}})
}

// QueueAll adds to b statements that publish several events, as [Schema.PublishAll] does.
func (s Schema) QueueAll(b *pgx.Batch, ps []hub.Publication) error {
	return s.insert(ps, func(query string, args []any) error {
		b.Queue(query, args...)
		return nil
	})
}

// insert calls f with the statements that publish ps, unless one of them cannot be published.
func (s Schema) insert(ps []hub.Publication, f func(query string, args []any) error) error {
	items := make([]item, len(ps))
	for i, p := range ps {
		err := checkEvent(p.Topic, p.Event)
		if err == nil {
			items[i], err = newItem(&hub.Record{Topic: p.Topic, Key: cmp.Or(p.Key, p.Event.ID), Event: p.Event})
		}
		if err != nil {
			return fmt.Errorf("pglog: publish: %w", err)
		}
	}
	const most = 1000 // a statement has at most 65,535 parameters
	for len(items) > 0 {
		n := min(most, len(items))
		if err := f(s.insertion(items[:n])); err != nil {
			return fmt.Errorf("pglog: publish: %w", err)
		}
		items = items[n:]
	}
	return nil
}

// checkEvent returns an error if the event cannot be published.
func checkEvent(topic string, e event.Event) error {
	if topic == "" {
		return errTopic
	}
	if e.ResetID {
		return errResetID
	}
	_, err := e.AppendText(nil)
	return err
}

var (
	errTopic   = errors.New("the topic must not be empty")
	errResetID = &event.FieldError{Field: "ResetID", Offset: -1, Reason: "must be false in a published event: clients would lose their place"}
)

// insertion returns the statement that inserts items into the inbox, and its arguments.
func (s Schema) insertion(items []item) (query string, args []any) {
	var b strings.Builder
	b.WriteString("INSERT INTO " + s.table("inbox") + " (topic, key, record) VALUES ")
	for i, it := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		for k := range 3 {
			b.WriteByte("(,,"[k])
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(len(args) + k + 1))
		}
		b.WriteByte(')')
		args = append(args, it.topic, it.key, it.record)
	}
	return b.String(), args
}

// The largest sizes, in bytes. An entry of an index must fit into a third of a page.
const (
	maxTopic  = 1024
	maxKey    = 1024
	maxRecord = 64 << 20
)

// item is a record as the tables have it.
type item struct {
	topic  []byte
	key    []byte // nil for none
	record []byte
}

// newItem encodes a record.
func newItem(rec *hub.Record) (item, error) {
	r := *rec
	r.Time = time.Unix(0, 0) // the database sets it
	it := item{topic: []byte(r.Topic)}
	if r.Key != "" {
		it.key = []byte(r.Key)
	}
	it.record, _ = r.AppendBinary(make([]byte, 0, 64+len(r.Topic)+len(r.Key)+len(r.Event.ID)+len(r.Event.Name)+len(r.Event.Comment)+len(r.Event.Data))) // its error is always nil
	for _, limit := range []LimitError{
		{"bytes of a topic", len(it.topic), maxTopic},
		{"bytes of a key", len(it.key), maxKey},
		{"bytes of a record", len(it.record), maxRecord},
	} {
		if limit.Value > limit.Max {
			return item{}, &limit
		}
	}
	return it, nil
}
