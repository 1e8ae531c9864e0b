package sse

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/chi-sse/sse/internal/engine"
)

// EndReason says why a session ended.
type EndReason uint8

// The reasons for the end of a session.
const (
	EndReturned     EndReason = iota + 1 // the handler returned nil
	EndClosed                            // ServerSession.Close was called
	EndClientGone                        // the client left
	EndCanceled                          // a middleware canceled the request
	EndShutdown                          // Plugin.Shutdown was called
	EndStatus                            // the handler returned an Error before the session was open
	EndWriteTimeout                      // the client was too slow to take a write in time
	EndWriteError                        // a write failed for another reason
	EndHandlerError                      // the handler returned another error
	EndPanic                             // the handler panicked
	EndSlow                              // the client fell behind the events that a hub keeps
	EndAbandoned                         // a middleware returned while the handler was running
	EndKicked                            // a hub's Kick was called
	EndFinished                          // all topics that a hub sends the session are finished
	EndExpired                           // the time of ServerSession.EndAt or WithMaxAge has come
	EndRevoked                           // the check of WithRecheck has failed
	EndReplaced                          // a newer session has taken the place in WithNewestSessionsBy
)

// endReasons says what follows from each reason.
var endReasons = [...]struct {
	text   string
	cause  error      // the cause of the session's context that means this reason
	breaks bool       // the client must see that the stream is not complete
	level  slog.Level // at which an end without an unexpected error is logged
}{
	EndReturned:     {text: "handler returned", level: slog.LevelDebug},
	EndClosed:       {text: "closed", cause: ErrClosed, level: slog.LevelDebug},
	EndClientGone:   {text: "client gone", cause: ErrClientGone, level: slog.LevelDebug},
	EndCanceled:     {text: "request canceled", cause: ErrCanceled, level: slog.LevelDebug, breaks: true},
	EndShutdown:     {text: "shutdown", cause: ErrShutdown, level: slog.LevelDebug},
	EndStatus:       {text: "status", level: slog.LevelDebug},
	EndWriteTimeout: {text: "write timeout", cause: ErrWriteTimeout, level: slog.LevelWarn, breaks: true},
	EndWriteError:   {text: "write error", level: slog.LevelInfo, breaks: true},
	EndHandlerError: {text: "handler error", level: slog.LevelError, breaks: true},
	EndPanic:        {text: "panic", level: slog.LevelError, breaks: true},
	EndSlow:         {text: "slow client", cause: ErrSlow, level: slog.LevelWarn},
	EndKicked:       {text: "kicked", cause: engine.ErrKicked, level: slog.LevelDebug},
	EndFinished:     {text: "finished", cause: engine.ErrFinished, level: slog.LevelDebug},
	EndExpired:      {text: "expired", cause: ErrExpired, level: slog.LevelDebug},
	EndRevoked:      {text: "revoked", cause: ErrRevoked, level: slog.LevelDebug},
	EndReplaced:     {text: "replaced", cause: ErrReplaced, level: slog.LevelDebug},
	EndAbandoned:    {text: "abandoned", cause: ErrAbandoned, level: slog.LevelWarn, breaks: true},
}

// String returns the reason in words, such as "client gone".
func (r EndReason) String() string {
	if int(r) >= len(endReasons) || r == 0 {
		return fmt.Sprintf("EndReason(%d)", uint8(r))
	}
	return endReasons[r].text
}

func (r EndReason) breaks() bool { return endReasons[r].breaks }

// reasonOf returns the reason for an end by cause, the cause of the session's context. A
// cause of no known kind is the error of a write.
func reasonOf(cause error) EndReason {
	if l, ok := cause.(*lifeError); ok { //nolint:errorlint // what it wraps is the application's, and may match anything
		return l.reason
	}
	for _, r := range [...]EndReason{EndKicked, EndFinished, EndExpired, EndReplaced, EndClosed, EndClientGone, EndShutdown, EndCanceled, EndSlow, EndAbandoned, EndWriteTimeout} {
		if errors.Is(cause, endReasons[r].cause) {
			return r
		}
	}
	if _, ok := errors.AsType[*PanicError](cause); ok {
		return EndPanic
	}
	return EndWriteError
}

// End says why a session ended, and what it had done. It is a [slog.LogValuer].
type End struct {
	Reason   EndReason
	Err      error         // the error behind Reason, or nil; a *PanicError after a panic
	Opened   bool          // whether the session was open
	Duration time.Duration // from the request until the end
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

// level returns the level at which e is logged.
func (e End) level() slog.Level {
	switch e.Reason {
	case EndPanic:
		if p, ok := errors.AsType[*PanicError](e.Err); ok && p.Value == http.ErrAbortHandler { //nolint:errorlint // as net/http does
			return slog.LevelDebug // the handler has aborted quietly
		}
	case EndWriteError:
		if errors.Is(e.Err, ErrUnsupported) { // the operator has to change something
			return slog.LevelError
		}
	case EndClosed, EndClientGone, EndShutdown:
		if e.Err != nil { // the handler has returned it after the end, perhaps because of the end
			return slog.LevelInfo
		}
	}
	return endReasons[e.Reason].level
}

// PanicError is the Err of an [End] with the reason [EndPanic].
type PanicError struct {
	Value any    // the argument of panic; nil after runtime.Goexit
	Stack []byte // the stack of the panic, as debug.Stack returns it
}

func (e *PanicError) Error() string { return fmt.Sprintf("sse: handler panicked: %v", e.Value) }

// Sent describes a write. It is the argument of Config.OnSend.
type Sent struct {
	Bytes     int           // size of the frame
	Duration  time.Duration // until the frame was flushed
	Heartbeat bool          // the frame is a heartbeat
	Err       error         // nil if the whole frame was written
}
