package sse_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// A client that takes nothing must not hold the answer that turns it away, or an
// error's, any more than it could hold a stream.
func TestAnswerWithoutASessionIsBoundedInTime(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.name, func(t *testing.T) {
			t.Parallel()
			large := make([]byte, 8<<20)
			over := make(chan struct{})
			r := newRouter(sse.Config{
				WriteTimeout: 200 * time.Millisecond,
				RenderError: func(w http.ResponseWriter, _ *http.Request, _ error) {
					defer close(over)
					_, err := w.Write(large) // more than windows and buffers hold
					require.Error(t, err)
				},
			})
			r.SSE("/", func(*sse.ServerSession) error { return sse.Error(http.StatusForbidden, nil) })
			srv := serve(t, r, proto.setup)
			resp, err := srv.Client().Get(srv.URL)
			require.NoError(t, err)
			defer resp.Body.Close()
			select {
			case <-over:
			case <-time.After(10 * time.Second):
				require.Fail(t, "the answer is held")
			}
		})
	}
}
