package sse_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// A handler that has read its body may think for longer than ReadTimeout before it
// opens the session, as one that waits for a language model does.
func TestSessionOutlivesReadTimeoutBeforeItOpens(t *testing.T) {
	t.Parallel()
	const timeout = 100 * time.Millisecond
	r := sse.Install(chi.NewRouter(), sse.Config{OpenDelay: -1})
	r.Method(http.MethodPost, "/", r.SSEHandler(func(s *sse.ServerSession) error {
		question, err := io.ReadAll(s.Call().Body)
		if err != nil {
			return err
		}
		select {
		case <-s.Done():
			return sse.Error(http.StatusTeapot, s.Context().Err())
		case <-time.After(3 * timeout):
		}
		return s.SendData(question)
	}))
	srv := httptest.NewUnstartedServer(r)
	srv.Config.ReadTimeout = timeout
	srv.Start()
	defer srv.Close()

	resp, err := http.Post(srv.URL, "text/plain", strings.NewReader("why?"))
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "data: why?\n\n", string(body))
}

// A client that is slow to send its body is still cut off.
func TestSessionKeepsReadTimeoutForTheBody(t *testing.T) {
	t.Parallel()
	read := make(chan error, 1)
	r := sse.Install(chi.NewRouter(), sse.Config{OpenDelay: -1})
	r.Method(http.MethodPost, "/", r.SSEHandler(func(s *sse.ServerSession) error {
		_, err := io.ReadAll(s.Call().Body)
		read <- err
		return sse.Error(http.StatusRequestTimeout, nil)
	}))
	srv := httptest.NewUnstartedServer(r)
	srv.Config.ReadTimeout = 100 * time.Millisecond
	srv.Start()
	defer srv.Close()

	body, slow := io.Pipe()
	defer slow.Close()
	go func() {
		resp, err := http.Post(srv.URL, "text/plain", body)
		if err == nil {
			resp.Body.Close()
		}
	}()
	_, err := io.WriteString(slow, "wh")
	require.NoError(t, err)
	select {
	case err := <-read:
		require.Error(t, err)
	case <-time.After(10 * time.Second):
		require.Fail(t, "the body is waited for without end")
	}
}
