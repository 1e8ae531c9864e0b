package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMain lets a test run the test binary as the program.
func TestMain(m *testing.M) {
	if os.Getenv("CLIENT_RUN_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestFollowsAStream(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		switch r.Header.Get("Last-Event-ID") {
		case "":
			_, _ = io.WriteString(w, "retry: 1\nid: 1\nevent: price\ndata: 42\n\n")
		case "1":
			_, _ = io.WriteString(w, "id: 2\ndata: {}\n\n")
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	defer srv.Close()
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(program, srv.URL)
	cmd.Env = append(os.Environ(), "CLIENT_RUN_MAIN=1")
	out, err := cmd.Output()
	require.NoError(t, err)
	assert.Equal(t, "1 price 42\n2  {}\n", string(out))
}
