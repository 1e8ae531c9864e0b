package natslog

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
)

// SettingError reports a setting with which a stream cannot be a Log. Open reports all of
// them, joined.
type SettingError struct {
	Stream  string
	Setting string // its name in the stream's configuration, such as "retention"
	Value   string
	Want    string // what it must be, in words that follow "it must"
}

func (e *SettingError) Error() string {
	return fmt.Sprintf("the stream %s has the setting %s = %s; it must %s", e.Stream, e.Setting, e.Value, e.Want)
}

// NotFoundError reports that there is no stream with the name. It matches
// jetstream.ErrStreamNotFound.
type NotFoundError struct {
	Stream string
	Err    error // of the server
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("there is no stream %s; create it, or set Config.Create", e.Stream)
}

// Unwrap returns the error of the server.
func (e *NotFoundError) Unwrap() error { return e.Err }

// LimitError reports that an Append exceeds a limit. Nothing was appended.
type LimitError struct {
	Limit string // what is limited: "records of an append", "bytes of a record" or "bytes of a subject"
	Value int
	Max   int // the largest value allowed
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%d %s are too many; at most %d are allowed", e.Value, e.Limit, e.Max)
}

// RewoundError reports that a stream no longer has the newest records that this Log has seen,
// though it is the same stream: it was restored from a backup, or its servers have lost data.
// The Log could not begin another epoch, because Err kept it from changing the stream's
// metadata. It follows the stream again when that is possible, or when somebody else has
// changed the metadata's entry [EpochKey].
type RewoundError struct {
	Stream string
	Seen   uint64 // the highest sequence that was seen
	Last   uint64 // the stream's last sequence now
	Err    error
}

func (e *RewoundError) Error() string {
	return fmt.Sprintf("the stream %s ends at %d and no longer has what this hub has seen up to %d; allow the hub to update the stream, or set another %s in the stream's metadata: %v",
		e.Stream, e.Last, e.Seen, EpochKey, e.Err)
}

// Unwrap returns what kept the Log from changing the metadata.
func (e *RewoundError) Unwrap() error { return e.Err }

// errNoLeader reports that the servers of a stream are electing a leader.
var errNoLeader = errors.New("the stream has no leader")

// errStalled reports that a consumer does not deliver what is in the stream.
var errStalled = errors.New("the consumer does not deliver what the stream has")

// notConnected returns an error that says why there is no connection.
func notConnected(nc *nats.Conn) error {
	if nc.IsClosed() {
		return nats.ErrConnectionClosed
	}
	if err := nc.LastError(); err != nil {
		return fmt.Errorf("%w (%v): %w", nats.ErrDisconnected, nc.Status(), err)
	}
	return fmt.Errorf("%w (%v)", nats.ErrDisconnected, nc.Status())
}
