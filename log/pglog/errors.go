package pglog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/chi-sse/sse/hub"
)

// MissingError reports something that a database lacks to be a log. Open reports all of them,
// joined.
type MissingError struct {
	Schema Schema
	Is     string // what is so
	Want   string // what to do
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("schema %s: %s; %s", e.Schema, e.Is, e.Want)
}

// LimitError reports that a publication exceeds a limit. Nothing was published.
type LimitError struct {
	Limit string // what is limited: "bytes of a topic", "bytes of a key", "bytes of a record" or "records of an append"
	Value int
	Max   int // the largest value allowed
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%d %s are too many; at most %d are allowed", e.Value, e.Limit, e.Max)
}

// TransactionError reports that a transaction cannot be used for a Snapshot.
type TransactionError struct {
	Want string // what it must be, in words that follow "it must"
}

func (e *TransactionError) Error() string { return "the transaction cannot be used: it must " + e.Want }

// RewoundError reports that the log no longer has the newest records that this Log has seen, and
// still has their epoch: a copy of the database's files was restored. The Log could not begin
// another epoch, because of Err. It follows the log again when somebody else has done that.
type RewoundError struct {
	Seen uint64 // the highest offset that was seen
	Last uint64 // that of the last record now
	Err  error
}

func (e *RewoundError) Error() string {
	return fmt.Sprintf("the log ends at %d and no longer has what this hub has seen up to %d; begin another epoch: %v", e.Last, e.Seen, e.Err)
}

// Unwrap returns what kept the Log from beginning another epoch.
func (e *RewoundError) Unwrap() error { return e.Err }

// epochError returns an error that matches hub.ErrEpoch.
func epochError(pos hub.Position, epoch uint64) error {
	return fmt.Errorf("%w: the position %v, the epoch %s", hub.ErrEpoch, pos, epochText(epoch))
}

// epochText returns the text of an epoch in a position.
func epochText(epoch uint64) string {
	text := hub.Position{Epoch: epoch}.String()
	return text[:len(text)-len("-0")]
}

// withContext returns err, which matches the error of ctx if that has ended.
func withContext(ctx context.Context, err error) error {
	if ctx.Err() == nil || errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w: %w", ctx.Err(), err)
}

// The codes of errors of Postgres.
const (
	codePrivilege     = "42501" // insufficient_privilege
	codeReadOnly      = "25006" // read_only_sql_transaction: the server is a standby
	codeStarting      = "57P03" // cannot_connect_now
	codeConnections   = "53300" // too_many_connections
	codeSerialization = "40001"
	codeDeadlock      = "40P01"
)

// isCode reports whether err is one of Postgres with one of the codes.
func isCode(err error, codes ...string) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains(codes, e.Code)
}

// isError reports whether err is the server's answer that it has not done something. After any other
// error, the connection is lost.
func isError(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.SeverityUnlocalized == "ERROR"
}
