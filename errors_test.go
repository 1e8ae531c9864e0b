package sse_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// A StatusError works when it is filled in the obvious way, and a status that cannot be sent is
// a 500, not a panic.
func TestStatusErrorsOfEveryKind(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err    error
		status int
		body   string
		reason sse.EndReason
		text   string
	}{
		"no Err":           {&sse.StatusError{Status: 404}, 404, `{"status":404,"error":"Not Found"}` + "\n", sse.EndStatus, "sse: status 404: Not Found"},
		"an unknown one":   {&sse.StatusError{Status: 499}, 499, `{"status":499,"error":""}` + "\n", sse.EndStatus, "sse: status 499"},
		"a text":           {sse.Error(404, errors.New("no room")), 404, `{"status":404,"error":"no room"}` + "\n", sse.EndStatus, "sse: status 404: no room"},
		"Stop":             {sse.Stop(), 204, "", sse.EndStatus, "sse: status 204: No Content"},
		"204 with a cause": {sse.Error(204, errOwn), 204, "", sse.EndStatus, "sse: status 204: an error of the handler"},
		"200":              {sse.Error(200, errOwn), 500, `{"status":500,"error":"Internal Server Error"}` + "\n", sse.EndHandlerError, ""},
		"zero":             {&sse.StatusError{}, 500, `{"status":500,"error":"Internal Server Error"}` + "\n", sse.EndHandlerError, ""},
		"negative":         {sse.Error(-1, nil), 500, `{"status":500,"error":"Internal Server Error"}` + "\n", sse.EndHandlerError, ""},
		"1000":             {sse.Error(1000, nil), 500, `{"status":500,"error":"Internal Server Error"}` + "\n", sse.EndHandlerError, ""},
	} {
		for _, proto := range protocols {
			for _, own := range []bool{false, true} {
				t.Run(name+" over "+proto.Name, func(t *testing.T) {
					t.Parallel()
					var cfg sse.Config
					ends := endsOf(&cfg)
					if own {
						cfg.RenderError = func(w http.ResponseWriter, r *http.Request, err error) {
							if status, ok := errors.AsType[*sse.StatusError](err); ok {
								w.WriteHeader(status.Status) // panics for a status that is none
							}
							sse.RenderError(w, r, err)
						}
					}
					r := newRouter(cfg)
					r.SSE("/", func(*sse.ServerSession) error { return tt.err })
					a := get(t, serve(t, r, proto.Setup), "/")
					require.NoError(t, a.Err)
					require.Equal(t, tt.status, a.Status)
					if tt.status == http.StatusNoContent {
						require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
						require.Empty(t, a.Header.Get("Content-Type"))
					}
					require.Equal(t, tt.body, a.Body)
					e := testkit.Receive(t, ends)
					require.Equal(t, tt.reason, e.Reason)
					if tt.text != "" {
						require.EqualError(t, e.Err, tt.text)
					} else {
						require.ErrorContains(t, e.Err, "must be 4xx, 5xx or 204")
					}
				})
			}
		}
	}
}

// Client takes a 204 as the end, and does not come back.
func TestStopEndsAClient(t *testing.T) {
	t.Parallel()
	calls := 0
	r := newRouter(sse.Config{})
	r.SSE("/", func(s *sse.ServerSession) error {
		if calls++; calls == 1 {
			return s.Send(sse.Event{Data: "x", Retry: sse.RetryImmediately})
		}
		return sse.Stop()
	})
	srv := serve(t, r)
	c := client.Install(srv.Client(), client.Config{MaxReconnectionAttempts: 5})
	err := c.SSE(t.Context(), srv.URL, func(s *client.Session) error {
		for _, err := range s.Incoming() {
			if err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 2, calls)
}

// Errors and other values work when only some of their fields are set, or none.
func TestZeroValuesDoNotPanic(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		&sse.StatusError{}, &sse.PanicError{},
		&hub.TooManyTopicsError{}, &hub.DuplicateIDError{}, &hub.SlowError{}, &hub.SnapshotError{}, &hub.GapError{},
		&event.TooLargeError{}, &event.FieldError{},
	} {
		require.NotPanics(t, func() { _ = err.Error() }, "%T", err)
		require.NotPanics(t, func() { _ = errors.Is(err, context.Canceled) }, "%T", err)
	}
	for _, e := range []sse.End{{}, {Reason: 200}, {Reason: sse.EndPanic}, {Reason: sse.EndHandlerError}} {
		require.NotPanics(t, func() { slog.New(slog.DiscardHandler).Info("", "end", e); _ = e.LogValue(); _ = e.Reason.String() })
	}
}
