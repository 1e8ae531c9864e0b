// Error.Body of a stream: what the BufferPolicy keeps, and what came after the last event.

package client_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
)

// quotaError is what some LLM APIs send in place of a stream.
const quotaError = `{"error":"quota"}`

// bodyModel returns what Error.Body should hold after stream, under each policy.
func bodyModel(t testing.TB, policy client.BufferPolicy, stream string) (body string, events int) {
	t.Helper()
	d := event.NewDecoder(strings.NewReader(stream))
	d.KeepRest = true
	kept, last := "", 0
	for {
		if _, err := d.DecodeRaw(); err != nil {
			require.Equal(t, io.EOF, err)
			break
		}
		end := int(d.InputOffset())
		switch policy {
		case client.All:
			kept = stream[:end]
		case client.LastEvent:
			kept = stream[last:end]
		}
		last = end
		events++
	}
	return kept + string(d.Rest()), events
}

// A stream that is cut off at any byte has all of its last event in Body.
func TestErrorBodyOfAStreamThatIsCutAtAnyByte(t *testing.T) {
	streams := []string{
		"id: 1\ndata: a\n\n: c\n\ndata: b\n\nevent: x\ndata: {\"a\":\ndata: 1}\n\n",
		"{\"error\":\n {\"message\":\"quota\"}}",
	}
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := streams[len(r.URL.Query().Get("stream"))]
		cut, _ := strconv.Atoi(r.URL.Query().Get("cut"))
		send(w, "%s", text[:cut/2])
		send(w, "%s", text[cut/2:cut])
		if r.URL.Path == "/broken" {
			panic(http.ErrAbortHandler)
		}
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		for n, text := range streams {
			for cut := range len(text) + 1 {
				for _, policy := range []client.BufferPolicy{client.Off, client.LastEvent, client.All} {
					for _, path := range []string{"/broken", "/ended"} {
						var told client.Failure
						c := install(srv.Client(), client.Config{BufferPolicy: policy, Terminal: func(client.Event) bool { return false }, OnFailure: func(f client.Failure) client.Decision {
							told = f
							return client.Decision{}
						}})
						events, err := collect(session(t, c, srv.URL+path+"?cut="+strconv.Itoa(cut)+"&stream="+strings.Repeat("x", n)))
						want, count := bodyModel(t, policy, text[:cut])
						require.Len(t, events, count)
						var e *client.Error
						require.ErrorAs(t, err, &e)
						require.Equal(t, path == "/ended", errors.Is(err, client.ErrTruncated), "%v", err)
						require.Equal(t, want, string(e.Body), "%v after %q", policy, text[:cut])
						require.Equal(t, want, string(told.Body))
						require.Equal(t, count, told.Events)
						again, err := io.ReadAll(e.Response.Body)
						require.NoError(t, err)
						require.Equal(t, want, string(again))
						require.False(t, e.Partial)
					}
				}
			}
		}
	})
}

// A stream that has no event is an orderly end by default. OnFailure can tell it from one
// that has.
func TestStreamWithoutAnEventIsFindable(t *testing.T) {
	overEach(t, streamOf(quotaError), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		_, err := collect(session(t, install(srv.Client(), client.Config{}), srv.URL))
		require.NoError(t, err)
		noEvent := errors.New("no event stream")
		c := install(srv.Client(), client.Config{OnFailure: func(f client.Failure) client.Decision {
			if f.Err == io.EOF && f.Events == 0 && len(f.Body) > 0 {
				return client.Stop(noEvent)
			}
			return client.DefaultDecision(f)
		}})
		_, err = collect(session(t, c, srv.URL))
		require.ErrorIs(t, err, noEvent)
		var e *client.Error
		require.ErrorAs(t, err, &e)
		require.JSONEq(t, quotaError, string(e.Body))
	})
}

// The attempts that follow bring no response. Body still has what the last connection
// brought.
func TestErrorBodyAfterAttemptsThatFailed(t *testing.T) {
	c := install(&http.Client{Transport: &bufferPipe{[]io.Reader{strings.NewReader("data: a\n\n{\"error\":1}")}}}, client.Config{MaxReconnectionAttempts: 2})
	_, err := collect(session(t, c, "http://buffer.test/"))
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.ErrorContains(t, err, "no further body")
	require.Equal(t, `{"error":1}`, string(e.Body))
}

func TestErrorBodyOfRead(t *testing.T) {
	_, err := collect(client.Read(t.Context(), strings.NewReader("data: a\n\n{\"error\":1}"), client.WithConfig(func(cfg *client.Config) {
		cfg.Terminal = func(client.Event) bool { return false }
	})))
	require.ErrorIs(t, err, client.ErrTruncated)
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, `{"error":1}`, string(e.Body))
}

// The terminal event counts without the blank line after it. If the line is cut off too,
// it counts only if the protocol shows that the response is whole.
func TestTerminalEventWithoutABlankLine(t *testing.T) {
	done := func(ev client.Event) bool { return strings.HasPrefix(ev.Data, "[DONE") }
	terminal := client.WithConfig(func(cfg *client.Config) { cfg.Terminal = done })
	for text, whole := range map[string]bool{
		"id: 1\ndata: a\n\nid: 2\ndata: [DONE]\n": true, "id: 1\ndata: a\n\nid: 2\ndata: [DONE]\r": true,
		"id: 1\ndata: a\n\nid: 2\ndata: [DONE": false,
	} {
		s := client.Read(t.Context(), strings.NewReader(text), terminal)
		events, err := collect(s)
		if !whole {
			require.ErrorIs(t, err, client.ErrTruncated)
			require.Len(t, events, 1)
		} else {
			require.NoError(t, err)
			require.Equal(t, "[DONE]", events[1].Data)
			require.Equal(t, "2", s.LastEventID())
		}
		overEach(t, streamOf(text), func(t *testing.T, srv *httptest.Server) {
			t.Helper()
			events, err := collect(session(t, install(srv.Client(), client.Config{}), srv.URL, terminal))
			require.NoError(t, err, "the length or the last chunk shows the end")
			require.Len(t, events, 2)
		})
	}
}
