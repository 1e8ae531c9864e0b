package sse

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// EndReason says why a session ended.
type EndReason uint8

// The reasons for which a session ends.
const (
	EndReturned     EndReason = iota + 1 // the handler returned nil
	EndClosed                            // Close was called
	EndClientGone                        // the client left
	EndCanceled                          // a middleware canceled the request
	EndShutdown                          // Plugin.Shutdown was called
	EndStatus                            // the handler returned Error before the session was open
	EndWriteTimeout                      // the client was too slow
	EndWriteError                        // a write failed
	EndHandlerError                      // the handler returned another error
	EndPanic                             // the handler panicked
	EndSlow                              // the client fell behind what was kept for it
)

var endReasons = [...]string{
	EndReturned:     "handler returned",
	EndClosed:       "closed",
	EndClientGone:   "client gone",
	EndCanceled:     "request canceled",
	EndShutdown:     "shutdown",
	EndStatus:       "status",
	EndWriteTimeout: "write timeout",
	EndWriteError:   "write error",
	EndHandlerError: "handler error",
	EndPanic:        "panic",
	EndSlow:         "slow client",
}

// String returns the reason in words, such as "client gone".
func (r EndReason) String() string {
	if int(r) >= len(endReasons) || r == 0 {
		return fmt.Sprintf("EndReason(%d)", uint8(r))
	}
	return endReasons[r]
}

// End is the end of a session: why, and what came before. It is a
// [slog.LogValuer].
type End struct {
	Reason   EndReason
	Err      error         // what stands behind Reason, nil if nothing does; a *PanicError after a panic
	Opened   bool          // whether the session was open
	Duration time.Duration // how long the handler ran
	Events   int64         // sends that were written whole
	Bytes    int64         // bytes of the stream that were written, heartbeats included
}

// LogValue groups the fields of e.
func (e End) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("reason", e.Reason.String()),
		slog.Bool("opened", e.Opened),
		slog.Duration("duration", e.Duration),
		slog.Int64("events", e.Events),
		slog.Int64("bytes", e.Bytes),
	}
	if e.Err != nil {
		attrs = append(attrs, slog.Any("error", e.Err))
	}
	return slog.GroupValue(attrs...)
}

// level is the one at which e is logged. An error that the handler returned when
// the session had ended anyway is worth a line, but may well follow from the end.
func (e End) level() slog.Level {
	switch e.Reason {
	case EndPanic:
		if p, ok := errors.AsType[*PanicError](e.Err); ok && p.Value == http.ErrAbortHandler { //nolint:errorlint // as net/http does
			return slog.LevelDebug // the handler's way to abort quietly
		}
		return slog.LevelError
	case EndHandlerError:
		return slog.LevelError
	case EndWriteTimeout, EndSlow:
		return slog.LevelWarn
	case EndWriteError:
		if errors.Is(e.Err, ErrUnsupported) { // for the operator to mend
			return slog.LevelError
		}
		return slog.LevelInfo
	case EndClosed, EndClientGone, EndShutdown:
		if e.Err != nil {
			return slog.LevelInfo
		}
	}
	return slog.LevelDebug
}

// PanicError is the Err of an [End] by [EndPanic].
type PanicError struct {
	Value any    // what the handler panicked with, nil for runtime.Goexit
	Stack []byte // where, as by debug.Stack
}

func (e *PanicError) Error() string { return fmt.Sprintf("sse: handler panicked: %v", e.Value) }

// Sent tells Config.OnSend of a write.
type Sent struct {
	Bytes     int           // of the frame
	Duration  time.Duration // until it was flushed
	Heartbeat bool          // not asked for by the handler
	Err       error         // nil if all of it was written
}
