package sse

import (
	"cmp"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/chi-sse/sse/internal/engine"
)

// Answers to requests that get no stream: the plugin refuses the session, or it ends before
// it opens. Of a refused session, only OnRefuse and the log are told.

// refuse answers a request that gets no session.
func (s *ServerSession) refuse(x *httpWire, why error) {
	level, unsupported := slog.LevelWarn, errors.Is(why, ErrUnsupported)
	switch {
	case errors.Is(why, ErrShutdown):
		level = slog.LevelDebug
	case unsupported: // the operator has to change something
		level = slog.LevelError
	}
	logger := s.logger()
	if limit := limitOf(why); limit != nil && limit.Key != "" {
		logger = logger.With("key", limit.Key)
	}
	logger.Log(s.ctx, level, "sse: session refused", "error", why)
	s.state = closed
	s.cancel(ErrClosed)
	x.release(false, s.route.writeTimeout)
	if onRefuse := s.route.plugin.cfg.OnRefuse; onRefuse != nil {
		onRefuse(s.Call(), why)
	}
	switch {
	case unsupported:
		s.renderError(x, &StatusError{http.StatusInternalServerError, why})
	case errors.Is(why, ErrAbandoned): // nothing reaches the client any longer
	default:
		s.sendAway(x, why)
	}
}

func init() { engine.Refuse = refuseRequest }

// refuseRequest answers a request that a middleware has refused with err, so that no session was
// made. Where the plugin is not installed, RenderError answers it.
func refuseRequest(w http.ResponseWriter, r *http.Request, err error) {
	g := guardFrom(r.Context())
	if g == nil {
		RenderError(w, r, err)
		return
	}
	cfg := &g.plugin.cfg
	if IsStream(r) {
		cfg.Logger.Warn("sse: session refused", "path", r.URL.Path, "remote", r.RemoteAddr, "error", err)
		if cfg.OnRefuse != nil {
			cfg.OnRefuse(r, err)
		}
	}
	cfg.RenderError(w, r.WithContext(r.Context()), err) // a copy, because chi/render changes it
}

// answerUnopened answers a request whose session has ended before it opened.
func (s *ServerSession) answerUnopened(x *httpWire, end End) {
	switch end.Reason {
	case EndReturned, EndClosed, EndKicked, EndFinished, EndExpired, EndRevoked, EndReplaced: // a stream without events
		if x.writeHead(s.Call()) == nil {
			if retry := s.route.farewellRetry(end.Reason); retry != 0 {
				frame, _ := Event{Retry: retry}.AppendText(nil) // a valid event
				_, _ = x.w.Write(frame)
			}
			_ = x.flush.FlushError() // net/http logs what is wrong with the connection
		}
		x.guard.seal(false)
	case EndStatus, EndHandlerError, EndPanic:
		if status, ok := errors.AsType[*StatusError](end.Err); ok && status.Status == http.StatusNoContent {
			RenderError(x.w, s.Call(), status) // there is nothing to render
			return
		}
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
// Other clients get 503 or 429 with Retry-After.
func (s *ServerSession) sendAway(x *httpWire, why error) {
	retry := s.route.plugin.comeback(s.route.retry)
	if retry == 0 {
		retry = cmp.Or(max(0, s.route.retry), time.Second)
	}
	status, text := http.StatusServiceUnavailable, why.Error()
	if limit := limitOf(why); limit != nil {
		status, retry, text = limit.status(), max(retry, limit.wait), ErrTooManySessions.Error()
	}
	if !isEventSource(s.Call()) {
		seconds := int64((retry + time.Second - 1) / time.Second)
		x.w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
		s.renderError(x, &StatusError{status, why})
		return
	}
	frame, _ := Event{Retry: retry, Comment: strings.TrimPrefix(text, "sse: ")}.AppendText(nil) // a valid event
	if err := x.writeHead(s.Call()); err == nil {
		if _, err = x.w.Write(frame); err == nil {
			_ = x.flush.FlushError() // the client comes back without it, too
		}
	}
	x.guard.seal(false)
}

// isEventSource reports whether a browser's EventSource has sent the request.
func isEventSource(r *http.Request) bool {
	return r.Method == http.MethodGet && r.Header.Get("Accept") == "text/event-stream" &&
		(r.Header.Get("Sec-Fetch-Mode") != "" || strings.HasPrefix(r.UserAgent(), "Mozilla/"))
}
