package sse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
)

// How a session ends:
//
//	end                               anybody: the session takes no more sends, its context is done
//	closeStream                       the finisher: decideEnd, then the last bytes; nothing is written after it
//	wire.release                      the connection goes back to net/http, or is closed
//	afterwards                        the session leaves the plugin; OnSend, the log and OnClose learn of the end
//	breakResponse or answerUnopened   net/http's response, if there is one, gets its end
//
// The finisher is the handler's goroutine (finishServed), or one that end starts if the
// session has outlived its handler (finishUnattended). See finisher.

// end ends the session. Only the first cause counts.
func (s *ServerSession) end(cause error) {
	s.seal.Store(ended) // before anybody can see that ctx is done, and then send
	s.cancel(cause)
	s.finishIfUnattended()
}

// finishServed finishes a session whose handler has returned err, or has panicked. x is the
// session's first wire. The session may have taken the connection from it.
func (s *ServerSession) finishServed(x *httpWire, err error, panicked any) {
	end, sent, opened, broken := s.closeStream(err, false)
	s.cancel(ErrClosed)
	if !opened {
		s.mu.Lock()
		x.useOwnHeader()
		s.mu.Unlock()
	}
	s.releaseWire(broken)
	if broken {
		defer x.breakConnection()()
	}
	if opened && (broken || !x.packed) { // a compressor has still something to write
		x.guard.seal(broken) // if broken, the guard aborts the connection, outside all middleware
	}
	for _, step := range s.afterwards(end, sent) {
		step()
	}
	switch {
	case broken && x.guard == nil:
		panic(http.ErrAbortHandler)
	case opened, x.guard.isOver():
	case panicked != nil:
		panic(panicked) // the client has seen nothing: a middleware may answer
	default:
		s.answerUnopened(x, end)
	}
}

// outliveHandler leaves a detached session to itself after its handler has returned err.
// From then on the session holds nothing of the request but what Call returns.
func (s *ServerSession) outliveHandler(err error) {
	failed := err != nil && s.ctx.Err() == nil
	s.call.pack(false)
	if err != nil {
		s.seal.Store(ended)
		s.cancel(ErrClosed)
		s.finisher.Store(finishing)
		go s.finishUnattended(err, failed)
		return
	}
	s.finisher.Store(byEnd)
	if s.ctx.Err() != nil {
		s.finishIfUnattended()
	}
}

// finishIfUnattended starts to finish a session that has ended, if it has outlived its
// handler and nobody else has started to.
func (s *ServerSession) finishIfUnattended() {
	if s.finisher.CompareAndSwap(byEnd, finishing) {
		go s.finishUnattended(nil, false)
	}
}

// finishUnattended finishes a detached session. Its handler has returned err, and if failed,
// that is why the session ends.
func (s *ServerSession) finishUnattended(err error, failed bool) {
	end, sent, _, broken := s.closeStream(err, failed)
	s.releaseWire(broken)
	s.mu.Lock()
	owner := s.owner
	s.mu.Unlock()
	if owner != nil {
		s.logPanic(func() { owner.Ended(context.Cause(s.ctx)) })
	}
	for _, step := range s.afterwards(end, sent) {
		s.logPanic(step)
	}
}

// releaseWire releases the wire of a session that is closed.
func (s *ServerSession) releaseWire(broken bool) {
	if linger := s.wire().release(broken, s.route.writeTimeout); linger != nil {
		s.route.plugin.lingering.Go(linger)
	}
}

// logPanic calls step, and logs its panic, because net/http is not there to do so.
func (s *ServerSession) logPanic(step func()) {
	defer func() {
		if v := recover(); v != nil {
			s.logger().Error("sse: panic at the end of a session", "panic", v, "stack", string(debug.Stack()))
		}
	}()
	step()
}

// closeStream decides why the session ends, writes the last bytes, of which sent tells, and
// closes the session to all writes. opened reports whether the head has been written, and
// broken whether the client must see that the stream is not complete. err and failed are as
// for finishUnattended.
func (s *ServerSession) closeStream(err error, failed bool) (end End, sent []Sent, opened, broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awaitHijack()
	if s.timer != nil {
		s.timer.Stop()
	}
	end = s.decideEnd(err, failed)
	end.Opened = s.bytes.Load() > 0 // the first write has succeeded
	opened = s.state != pending
	broken = s.state == torn || opened && (end.Reason.breaks() || s.cutShort.Load())
	s.wire().allowWrite()
	if opened && !broken {
		sent, broken = s.writeFarewell(end)
	}
	if opened && !broken {
		sent = append(sent, s.writeEnd(end)...)
	}
	s.state = closed
	end.Duration, end.Events, end.Bytes = sinceEpoch()-s.began, s.events, s.bytes.Load()
	return end, sent, opened, broken
}

// writeFarewell tells the client when to reconnect, after a shutdown or if the session has expired.
func (s *ServerSession) writeFarewell(end End) (sent []Sent, failed bool) {
	retry := s.route.farewellRetry(end.Reason)
	if retry == 0 {
		return nil, false
	}
	frame, _ := Event{Retry: retry}.AppendText(nil) // a valid event
	s.lastWrite = sinceEpoch()
	err := s.wire().write(frame, s.lastWrite, min(shutdownGrace, s.route.writeTimeout))
	if err == nil {
		s.bytes.Add(int64(len(frame)))
	}
	return []Sent{s.sent(len(frame), ofHandler, err)}, err != nil
}

// writeEnd writes what the client has not taken yet, and the end of the response.
func (s *ServerSession) writeEnd(end End) (sent []Sent) {
	began := sinceEpoch()
	late := s.wire().finish(end.Reason == EndClientGone, min(shutdownGrace, s.route.writeTimeout))
	if late.bytes == 0 {
		return nil
	}
	s.bytes.Add(int64(late.bytes))
	s.events += int64(late.events)
	return []Sent{{Bytes: late.bytes, Duration: sinceEpoch() - began}}
}

// afterwards returns the steps that follow the end, in order. They call hooks, which may
// panic. It is small enough to be inlined. If it were not, the closures would be allocated, which
// makes an opening and its end take a tenth more time.
func (s *ServerSession) afterwards(end End, sent []Sent) []func() {
	cfg := &s.route.plugin.cfg
	return []func(){
		func() {
			s.route.plugin.dismiss(s)
			s.hooks.Wait()
		},
		func() {
			for _, one := range sent {
				if cfg.OnSend != nil {
					cfg.OnSend(s, one)
				}
			}
		},
		func() { s.logEnd(end) },
		s.callAtEnd,
		func() {
			if cfg.OnClose != nil {
				cfg.OnClose(s, end)
			}
		},
	}
}

// callAtEnd calls the functions of AtEnd. The session has left the plugin, so nobody changes extra.
func (s *ServerSession) callAtEnd() {
	if s.extra == nil {
		return
	}
	for _, f := range s.extra.atEnd {
		f(context.Cause(s.ctx))
	}
}

// decideEnd returns why the session ends. Its handler has returned err, and if failed, that
// came before any other cause.
func (s *ServerSession) decideEnd(err error, failed bool) End {
	if p, ok := errors.AsType[*PanicError](err); ok {
		return End{Reason: EndPanic, Err: p}
	}
	cause := context.Cause(s.ctx)
	follows := err == nil || cause != nil && (errors.Is(err, cause) || errors.Is(err, ErrClosed) || errors.Is(err, context.Canceled))
	if failed || cause == nil || cause == ErrClosed && !follows { //nolint:errorlint // the sentinel itself
		return s.endByHandler(err)
	}
	end := End{Reason: reasonOf(cause)}
	switch {
	case end.Reason == EndClientGone, end.Reason == EndFinished, cause == ErrClosed, cause == ErrShutdown, cause == ErrExpired, cause == ErrReplaced: //nolint:errorlint // the sentinels themselves, which say it all
	default:
		end.Err = cause
	}
	if !follows {
		end.Err = errors.Join(end.Err, err)
	}
	return end
}

// endByHandler is the end of a session whose handler has returned err before any other
// cause.
func (s *ServerSession) endByHandler(err error) End {
	if err == nil {
		return End{Reason: EndReturned}
	}
	if status, ok := errors.AsType[*StatusError](err); ok && s.state == pending {
		if !status.valid() {
			return End{Reason: EndHandlerError, Err: fmt.Errorf("sse: the handler has returned a StatusError that cannot be sent; Status must be 4xx, 5xx or 204: %v", err)} //nolint:errorlint // RenderError must not find it
		}
		return End{Reason: EndStatus, Err: err}
	}
	return End{Reason: EndHandlerError, Err: err}
}

func (s *ServerSession) logEnd(end End) {
	level := end.level()
	if logger := s.route.plugin.cfg.Logger; !logger.Enabled(s.ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.Any("end", end)}
	if p, ok := errors.AsType[*PanicError](end.Err); ok && level > slog.LevelDebug {
		attrs = append(attrs, slog.String("stack", string(p.Stack)))
	}
	s.logger().LogAttrs(s.ctx, level, "sse: session ended", attrs...)
}
