// Compressed streams: off by default, and bounded if Config.AcceptGzip is set.

package client_test

import (
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
)

// gzipEncodings returns the values of Accept-Encoding in each request, and serves h.
func gzipEncodings(log *requestLog, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		log.add(r)
		h(w, r)
	}
}

// gzipIfAsked sends one event, compressed if the request accepts gzip.
func gzipIfAsked(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		io.WriteString(w, "data: plain\n\n")
		return
	}
	w.Header().Set("Content-Encoding", "gzip")
	_, _ = w.Write(fuzzGzip([]byte("data: packed\n\n")))
}

func TestWhatIsAcceptedOfCompression(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg     client.Config
		header  string // the caller's own Accept-Encoding
		disable bool   // Transport.DisableCompression
		sent    []string
		events  []string
		refused bool
	}{
		"by default":                          {client.Config{}, "", false, []string{"identity"}, []string{"plain"}, false},
		"by default, disabled":                {client.Config{}, "", true, []string{"identity"}, []string{"plain"}, false},
		"AcceptGzip":                          {client.Config{AcceptGzip: true}, "", false, []string{"gzip"}, []string{"packed"}, false},
		"AcceptGzip, disabled":                {client.Config{AcceptGzip: true}, "", true, nil, []string{"plain"}, false},
		"AcceptGzip, own identity":            {client.Config{AcceptGzip: true}, "identity", false, []string{"identity"}, []string{"plain"}, false},
		"own gzip is for the caller to unzip": {client.Config{}, "gzip", false, []string{"gzip"}, nil, true},
		"AcceptGzip, own gzip":                {client.Config{AcceptGzip: true}, "gzip", false, []string{"gzip"}, nil, true},
		"own br":                              {client.Config{}, "br", false, []string{"br"}, []string{"plain"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var log requestLog
			overEach(t, gzipEncodings(&log, gzipIfAsked), func(t *testing.T, srv *httptest.Server) {
				t.Helper()
				srv.Client().Transport.(*http.Transport).DisableCompression = tt.disable
				var options []client.Option
				if tt.header != "" {
					options = append(options, client.WithHeader("Accept-Encoding", tt.header))
				}
				s, err := install(srv.Client(), tt.cfg).Session(t.Context(), srv.URL, options...)
				require.Equal(t, tt.sent, log.last(t).Header.Values("Accept-Encoding"))
				if tt.refused {
					var content *client.ContentError
					require.ErrorAs(t, err, &content)
					require.Equal(t, client.ContentError{Header: "Content-Encoding", Value: "gzip"}, *content)
					return
				}
				require.NoError(t, err)
				events, err := collect(s)
				require.NoError(t, err)
				require.Equal(t, tt.events, dataOf(events))
			})
		})
	}
}

// countWrites counts the bytes that are written.
type countWrites struct {
	io.Writer
	n *atomic.Int64
}

func (c countWrites) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// A few compressed megabytes can be gigabytes of comments. The session ends before it has
// read many of them, and does not try again.
func TestGzipBombOfCommentsIsBounded(t *testing.T) {
	for name, piece := range map[string]string{
		"comments":       ": " + strings.Repeat("x", 1000) + "\n",
		"comment blocks": ":\n\n",
		"blank lines":    "\n",
		"ids":            "id: 1\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			many := []byte(strings.Repeat(piece, 1+(32<<10)/len(piece)))
			var requests, unpacked atomic.Int64
			overEach(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				requests.Add(1)
				w.Header().Set("Content-Type", "text/event-stream")
				w.Header().Set("Content-Encoding", "gzip")
				packer, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
				out := countWrites{packer, &unpacked}
				_, err := io.WriteString(out, "data: first\n\n")
				for err == nil && unpacked.Load() < 1<<30 {
					_, err = out.Write(many)
				}
			}), func(t *testing.T, srv *httptest.Server) {
				t.Helper()
				requests.Store(0)
				unpacked.Store(0)
				c := install(srv.Client(), client.Config{AcceptGzip: true, MaxEventSize: 256 << 10, MaxReconnectionAttempts: client.Unlimited})
				events, err := collect(session(t, c, srv.URL))
				var tooLarge *event.TooLargeError
				require.ErrorAs(t, err, &tooLarge)
				require.Equal(t, event.TooLargeError{What: "stretch without an event", Limit: 6 * 256 << 10}, *tooLarge)
				require.Equal(t, []string{"first"}, dataOf(events))
				require.EqualValues(t, 1, requests.Load())
			})
		})
	}
}

// The bound is one on a minute, so heartbeats never add up to it, however long they go on.
// Nor does an event that MaxEventSize allows, in whatever lines it comes.
func TestHeartbeatsOfACompressedStreamDoNotAddUp(t *testing.T) {
	const long = 6 * time.Hour
	heartbeat := ": " + strings.Repeat("x", 10<<10) + "\n\n"
	synctest.Test(t, func(t *testing.T) {
		l := newReconnectLab(t, reconnectSteps{func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("Content-Encoding", "gzip")
			packer := gzip.NewWriter(w)
			for range long / (15 * time.Second) { // 14 MiB in all
				io.WriteString(packer, heartbeat)
				_ = packer.Flush()
				_ = http.NewResponseController(w).Flush()
				time.Sleep(15 * time.Second)
			}
			io.WriteString(packer, strings.Repeat("data\n", 1<<20)+"\ndata: x\n\n")
			packer.Close()
		}})
		events, err := l.run(context.Background(), client.Config{AcceptGzip: true, MaxEventSize: 1 << 20})
		require.NoError(t, err)
		require.Len(t, events, 2)
		require.GreaterOrEqual(t, time.Since(l.start), long)
	})
}
