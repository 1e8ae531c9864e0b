package redislog

import (
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/chi-sse/sse/hub"
)

// NotFoundError reports that the server has no log with the name. Open creates it unless
// Config.ReadOnly is set.
type NotFoundError struct {
	Name string
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("there is no log %s; open it once without Config.ReadOnly", e.Name)
}

// ServerError reports a server that cannot have a log.
type ServerError struct {
	Reason string
}

func (e *ServerError) Error() string { return "the server cannot have a log: " + e.Reason }

// LimitError reports that an Append exceeds a limit. Nothing was appended.
type LimitError struct {
	Limit string // what is limited: "records of an append", or "bytes of an append"
	Value int
	Max   int // the largest value allowed
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%d %s are too many; at most %d are allowed", e.Value, e.Limit, e.Max)
}

// MemoryError reports that the server has reached its maxmemory. Nothing was appended. Give it more
// memory, or the log lower bounds.
type MemoryError struct {
	Err error // of the server
}

func (e *MemoryError) Error() string { return "the server has no memory left: " + e.Err.Error() }

// Unwrap returns the error of the server.
func (e *MemoryError) Unwrap() error { return e.Err }

// ReplicasError reports that the records were appended, but that fewer replicas than
// Config.Replicas have said so in time. Clients get them, unless the server fails before a replica
// has them, so the error matches [hub.ErrUnknown]. Publish again with the same keys: the records
// are not appended twice, and Append waits for the replicas again.
type ReplicasError struct {
	Got, Want int
}

func (e *ReplicasError) Error() string {
	return fmt.Sprintf("the records were appended, but only %d of %d replicas have them so far", e.Got, e.Want)
}

// Unwrap returns [hub.ErrUnknown].
func (e *ReplicasError) Unwrap() error { return hub.ErrUnknown }

// UnsettledError reports that another epoch must begin, because the server was restarted, another one
// has taken its place, or the log is missing, but that the user of this Log may not write that down.
// The Log can be used when a hub that may has found it out too.
type UnsettledError struct {
	Name string
	Err  error // of the server
}

func (e *UnsettledError) Error() string {
	return fmt.Sprintf("the log %s is missing, or must begin another epoch because its server is not the one that it was; this user may not write to {%s}:meta, and no hub that may has done it yet: %v", e.Name, e.Name, e.Err)
}

// Unwrap returns the error of the server.
func (e *UnsettledError) Unwrap() error { return e.Err }

// errClosed reports that the Log is closed.
var errClosed = errors.New("the log is closed")

// errTryAgain is matched by errors after which nothing was appended, and another attempt may
// succeed.
var errTryAgain = errors.New("the server cannot take it now")

// epochError returns an error that matches hub.ErrEpoch.
func epochError(pos hub.Position, epoch uint64) error {
	return fmt.Errorf("the position %v is not of the epoch %s: %w", pos, hub.Position{Epoch: epoch}, hub.ErrEpoch)
}

// denied reports whether err says that the user may not do it. Redis 7.0 has no code for it in scripts.
func denied(err error) bool {
	return hasCode(err, "NOPERM") || err != nil && (strings.Contains(err.Error(), "The user executing the script can't") || strings.Contains(err.Error(), "ACL failure in script"))
}

// hasCode reports whether err is an error of the server that begins with one of the codes.
func hasCode(err error, codes ...string) bool {
	for _, code := range codes {
		if redis.HasErrorPrefix(err, code+" ") {
			return true
		}
	}
	return false
}
