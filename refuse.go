package sse

import (
	"cmp"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Answers to requests that get no stream: the plugin refuses the session, or it ends before
// it opens. A refused session is finished without hooks.

// refuseUnsupported answers a request whose response cannot be streamed.
func (s *ServerSession) refuseUnsupported(x *httpWire, err error) {
	s.logger().Error("sse: request cannot be answered by a stream", "error", err)
	s.closeRefused(x)
	s.renderError(x, &StatusError{http.StatusInternalServerError, err})
}

// refuseForNow answers a request for which the plugin has no session to give.
func (s *ServerSession) refuseForNow(x *httpWire, why error) {
	level := slog.LevelWarn
	if errors.Is(why, ErrShutdown) {
		level = slog.LevelDebug
	}
	s.logger().Log(s.ctx, level, "sse: session refused", "error", why)
	s.closeRefused(x)
	s.sendAway(x, why)
}

func (s *ServerSession) closeRefused(x *httpWire) {
	s.state = closed
	s.cancel(ErrClosed)
	x.release(false, s.route.writeTimeout)
}

// answerUnopened answers a request whose session has ended before it opened.
func (s *ServerSession) answerUnopened(x *httpWire, end End) {
	switch end.Reason {
	case EndReturned, EndClosed: // an empty stream
		x.writeHead(s.Call())
		_ = x.flush.FlushError() // net/http logs what is wrong with the connection
		x.guard.seal()
	case EndStatus, EndHandlerError, EndPanic:
		s.renderError(x, end.Err)
	case EndShutdown:
		s.sendAway(x, ErrShutdown)
	case EndClientGone:
	default:
		s.renderError(x, &StatusError{http.StatusServiceUnavailable, end.Err})
	}
}

// renderError answers with err. RenderError gets a copy of the request, because chi/render
// changes it.
func (s *ServerSession) renderError(x *httpWire, err error) {
	s.route.plugin.cfg.RenderError(x.w, s.Call().WithContext(x.inner), err)
}

// sendAway tells the client to try again later. EventSource gives up for good on any status
// but 200 (WHATWG HTML §9.2.3), so it gets a stream that holds only a reconnection time.
// Other clients get 503 with Retry-After.
func (s *ServerSession) sendAway(x *httpWire, why error) {
	retry := s.route.plugin.comeback(s.route.retry)
	if retry == 0 {
		retry = cmp.Or(max(0, s.route.retry), time.Second)
	}
	if !isEventSource(s.Call()) {
		seconds := int64((retry + time.Second - 1) / time.Second)
		x.w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
		s.renderError(x, &StatusError{http.StatusServiceUnavailable, why})
		return
	}
	x.writeHead(s.Call())
	frame, _ := Event{Retry: retry, Comment: strings.TrimPrefix(why.Error(), "sse: ")}.AppendText(nil) // a valid event
	if _, err := x.w.Write(frame); err == nil {
		_ = x.flush.FlushError() // the client comes back without it, too
	}
	x.guard.seal()
}

// isEventSource reports whether a browser's EventSource has sent the request.
func isEventSource(r *http.Request) bool {
	return r.Method == http.MethodGet && r.Header.Get("Accept") == "text/event-stream" &&
		(r.Header.Get("Sec-Fetch-Mode") != "" || strings.HasPrefix(r.UserAgent(), "Mozilla/"))
}
