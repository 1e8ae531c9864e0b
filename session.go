package sse

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/alarm"
	"github.com/chi-sse/sse/internal/engine"
	"github.com/chi-sse/sse/internal/scratch"
	"github.com/chi-sse/sse/internal/wheel"
)

// ServerSession is one client's open stream, as the server sees it. Its methods are safe
// for concurrent use. Each send is written whole and flushed at once.
type ServerSession struct {
	// The write path. These fields come first and together: at a low rate, the time of a
	// write outside the system is the time to fetch memory.

	mu          sync.Mutex           // held by the goroutine that writes; guards the fields of this group
	seal        atomic.Pointer[seal] // nil: every write may begin
	state       sessionState
	headerTaken bool          // the handler has the header: the OpenDelay must not open the session
	beating     bool          // a heartbeat is under way
	beatAgain   bool          // another heartbeat follows it at once
	sharesTimer bool          // heartbeats that are comments use a wheel
	lastWrite   time.Duration // since epoch: when the last write began
	events      int64         // written whole
	bytes       atomic.Int64  // written whole; changed with mu held
	wireAt      atomic.Pointer[wire]
	route       *route
	began       time.Duration // since epoch

	// The timer: it opens the session after its OpenDelay, and then sends heartbeats. mu
	// guards these fields.

	heartbeat *Heartbeat
	timer     *time.Timer
	wheel     *wheel.Wheel[*ServerSession] // where the session waits in place of timer
	owner     engine.Owner                 // the hub that serves the session; changed with mu and Plugin.mu held, read with either

	// The request and the context.

	call   call
	ctx    context.Context // a child of call
	cancel context.CancelCauseFunc

	// The end.

	alarm    alarm.Place    // when the session expires; Plugin.mu guards it
	extra    *extra         // what only some sessions have; nil for the others; Plugin.mu guards the pointer
	finisher atomic.Uint32  // a finisher
	cutShort atomic.Bool    // the client must see that the stream is not complete
	hooks    sync.WaitGroup // calls of OnOpen and OnSend that are under way
}

// extra is what a session has that most sessions do not need.
type extra struct {
	maxAge  time.Duration       // since epoch: when the route's WithMaxAge ends the session; 0: it does not
	cause   error               // of EndAt
	atEnd   []func(cause error) // see engineSession.AtEnd
	recheck *recheck            // nil unless the route has WithRecheck
	keys    []string            // of the route's keyLimits
}

// sessionState is what has become of the response. ServerSession.mu guards it.
//
//	state    | what may happen                                  | it becomes
//	---------|--------------------------------------------------|------------------------------
//	pending  | the handler sets the header, or chooses a status | opening, by the first write
//	         |                                                  | closed, when the handler returns
//	opening  | the head and the first frame are being written   | open, or torn
//	open     | sends, heartbeats, Detach                        | torn, when a write fails
//	         |                                                  | closed, at the end
//	torn     | nothing: the client may have got half a frame    | closed, at the end
//	closed   | nothing: the wire is not the session's any longer|
//
// ServerSession.seal comes on top. The goroutine that ends the session sets it to ended,
// without the lock and in any state. From then on no write begins. A write that is under way
// may go on, and the farewell may follow it. The state becomes closed when the session is
// finished. A hub may set another seal before that: then only the hub's writes begin.
type sessionState uint8

const (
	pending sessionState = iota
	opening
	open
	torn
	closed
)

// finisher says who finishes the session: who calls hooks, and gives the connection back.
//
//	finisher        | who finishes the session             | it becomes
//	----------------|--------------------------------------|-----------------------------
//	byHandler       | ServeHTTP, when the handler returns  | byReturn, by Detach
//	byReturn        | nobody yet: the session is detached, | byEnd, when the handler returns
//	                | and its handler is running           | finishing, when it returns an error
//	byEnd           | a goroutine that is started when the | finishing, at the end
//	                | session ends                         |
//	finishing       | that goroutine                       |
type finisher = uint32

const (
	byHandler finisher = iota
	byReturn
	byEnd
	finishing
)

// Send sends e. It opens the session if it is not open. An event that has only an ID moves
// the client's last event id without being shown. That gives a client a position to resume
// from before its first event.
//
// If e cannot be encoded, Send sends nothing and returns an error that wraps
// [*event.FieldError]. An error of the connection ends the session. It matches
// [ErrWriteTimeout] if the client is too slow. After the end every send fails with an error
// that matches [ErrClosed] and the cause of the end.
func (s *ServerSession) Send(e Event) error {
	buf := scratch.Get()
	frame, err := e.AppendText(buf.B)
	if err != nil {
		err = fmt.Errorf("sse: send: %w", err)
	} else {
		buf.B = frame
		err = s.write(frame, 1, ofHandler)
	}
	buf.Put() // not deferred: after a panic the garbage collector takes buf
	return err
}

// SendAll sends several events, in their order and without others between them, in one write and
// one flush. If one of them cannot be encoded, it sends none, and the error wraps an
// [*IndexError]. Its other errors are those of [ServerSession.Send]. Without events it does
// nothing.
func (s *ServerSession) SendAll(events ...Event) error {
	if len(events) == 0 {
		return nil
	}
	buf := scratch.Get()
	defer buf.Put()
	for i := range events {
		frame, err := events[i].AppendText(buf.B)
		if err != nil {
			return fmt.Errorf("sse: send: %w", &IndexError{i, err})
		}
		buf.B = frame
	}
	return s.write(buf.B, len(events), ofHandler)
}

// SendFunc sends e with what write writes to w as its data: the output of a template or of an
// encoder, without a string in between. e.Data must be empty. It is sent as [ServerSession.Send]
// would send the same bytes as Data, however they are divided into Writes, in one frame and when
// write has returned. It is sent with a data line even if write has written nothing.
//
// If write returns an error or panics, nothing is sent, and the session goes on; SendFunc returns
// that error, wrapped. Its other errors are those of Send. write is called without a lock, and may
// use the session: what it sends comes before e. Writes to w fail once write has returned.
func (s *ServerSession) SendFunc(e Event, write func(w io.Writer) error) error {
	if e.Data != "" {
		return fmt.Errorf("sse: send: %w", errDataWithFunc)
	}
	buf := scratch.Get()
	frame, err := event.AppendWith(buf.B, e, func(frame []byte) ([]byte, error) {
		buf.B = frame
		err := buf.Fill(0, write)
		return buf.B, err
	})
	if err != nil {
		err = fmt.Errorf("sse: send: %w", err)
	} else {
		buf.B = frame
		err = s.write(frame, 1, ofHandler)
	}
	buf.Put() // not deferred: after a panic the garbage collector takes buf
	return err
}

var errDataWithFunc = &event.FieldError{Field: "Data", Offset: -1, Reason: "must be empty in SendFunc, whose function writes the data"}

// Comment sends a comment, which clients do not show. Its errors are those of
// [ServerSession.Send].
func (s *ServerSession) Comment(text string) error {
	return s.send(func(dst []byte) ([]byte, error) { return event.AppendComment(dst, text) })
}

func (s *ServerSession) send(encode func(dst []byte) ([]byte, error)) error {
	buf := scratch.Get()
	defer buf.Put()
	frame, err := encode(buf.B)
	if err != nil {
		return fmt.Errorf("sse: send: %w", err)
	}
	buf.B = frame
	return s.write(frame, 1, ofHandler)
}

// Open opens the session, if it is not open. The client gets the head of the response and
// a comment, because some proxies hold a head back until more follows. Open returns the
// errors of [ServerSession.Send].
func (s *ServerSession) Open() error {
	return s.write(nil, 0, ofOpening)
}

// Call returns the request. It stays valid after the handler has returned, with chi's URL
// parameters. Its context is the session's.
//
// Read a request body before the session opens. Over HTTP/1.1 net/http discards the unread
// part of a body when the response begins, and the handler can no longer answer with a
// status. So if the route has an OpenDelay, it must be longer than a body takes to arrive. By
// default it has none, except for GET.
//
// If a hub serves the session, Call returns a new copy each time, without a body. If the
// session is detached, the context of the copy, and that of the session, has chi's route
// context but no other value of the middleware.
func (s *ServerSession) Call() *http.Request { return s.call.request(s.ctx) }

// Header returns the response header. Until the session opens, the handler's goroutine can
// change it. The session then waits for the handler to open it, even after the OpenDelay.
// After the opening, Header returns a copy.
//
// The opening sets the headers of the stream itself, and replaces the values that they had. But
// "Connection: close" over HTTP/1.1 stays, and closes the connection after the stream.
// If a hub has detached the session, the copy is empty.
func (s *ServerSession) Header() http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == pending {
		s.headerTaken = true
		return s.wire().header()
	}
	return s.wire().header().Clone()
}

// LastEventID returns the id of the last event that the client had before it reconnected,
// as the Last-Event-ID header gives it, or "".
func (s *ServerSession) LastEventID() string { return s.Call().Header.Get("Last-Event-ID") }

// Context returns the session's context, which is done when the session ends. Its cause is
// then [ErrClosed] (after Close, or when the handler has returned), [ErrClientGone],
// [ErrCanceled], [ErrShutdown], the error of the write that failed, or a [*PanicError]; or it
// matches [ErrExpired], [ErrRevoked] or [ErrReplaced].
//
// The context has the values of the request's context (see [ServerSession.Call] for
// exceptions), and no deadline.
func (s *ServerSession) Context() context.Context { return s.ctx }

// Done returns a channel that is closed when the session ends: Context().Done().
func (s *ServerSession) Done() <-chan struct{} { return s.ctx.Done() }

// Close ends the session, without sending anything. The session also ends when the handler
// returns, so Close is for other goroutines, and for functions that the handler calls. The
// response ends when the handler returns. Close always returns nil.
func (s *ServerSession) Close() error {
	s.end(ErrClosed)
	return nil
}
