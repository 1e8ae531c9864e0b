// How long a connection may take to open: OpenTimeout, the Timeout of the http.Client, and
// the timeouts of the Transport.

package client_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

func TestTimeoutOfTheHTTPClientDoesNotCutAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hc := requestPipes(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for i := range 3 {
				send(w, "data: %d\n\n", i)
				time.Sleep(time.Hour)
			}
		}))
		hc.Timeout = time.Second
		c := install(hc, client.Config{})
		for _, options := range [][]client.Option{
			nil,
			{client.WithConfig(func(cfg *client.Config) { cfg.OpenTimeout = time.Minute })},
		} {
			start := time.Now()
			s, err := c.Session(t.Context(), "http://api.test/", options...)
			require.NoError(t, err)
			events, err := collect(s)
			require.NoError(t, err)
			require.Equal(t, []string{"0", "1", "2"}, dataOf(events))
			require.Equal(t, 3*time.Hour, time.Since(start))
		}
		require.Equal(t, time.Second, hc.Timeout)
	})
}

func TestOpenTimeoutBoundsTheOpening(t *testing.T) {
	for name, tt := range map[string]struct {
		ofClient time.Duration // http.Client.Timeout
		cfg      client.Config
		call     time.Duration // OpenTimeout set by WithConfig; 0 if none is
		want     time.Duration
	}{
		"by default":               {0, client.Config{}, 0, 30 * time.Second},
		"by Timeout":               {2 * time.Second, client.Config{}, 0, 2 * time.Second},
		"by OpenTimeout":           {0, client.Config{OpenTimeout: 5 * time.Second}, 0, 5 * time.Second},
		"shorter than Timeout":     {time.Minute, client.Config{OpenTimeout: 5 * time.Second}, 0, 5 * time.Second},
		"longer than Timeout":      {time.Second, client.Config{OpenTimeout: time.Minute}, 0, time.Minute},
		"of the call":              {time.Second, client.Config{OpenTimeout: time.Minute}, time.Hour, time.Hour},
		"each attempt of several":  {0, client.Config{OpenTimeout: 5 * time.Second, MaxReconnectionAttempts: 2}, 0, 3 * 5 * time.Second},
		"negative Timeout is none": {-1, client.Config{OpenTimeout: 5 * time.Second}, 0, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hc := requestPipes(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
				hc.Timeout = tt.ofClient
				tt.cfg.ReconnectionTime, tt.cfg.MaxBackoff, tt.cfg.Jitter = 1, 1, -1
				start := time.Now()
				_, err := install(hc, tt.cfg).Session(t.Context(), "http://api.test/", client.WithConfig(func(cfg *client.Config) {
					if tt.call != 0 {
						cfg.OpenTimeout = tt.call
					}
				}))
				require.Equal(t, tt.want, time.Since(start).Truncate(time.Millisecond))

				var timeout *client.TimeoutError
				require.ErrorAs(t, err, &timeout)
				require.Equal(t, "OpenTimeout", timeout.Option)
				require.Equal(t, tt.want/time.Duration(1+tt.cfg.MaxReconnectionAttempts), timeout.Limit)
				var netErr net.Error
				require.ErrorAs(t, err, &netErr)
				require.True(t, netErr.Timeout())
				var ours *client.Error
				require.ErrorAs(t, err, &ours)
				require.Nil(t, ours.Response)
				require.ErrorContains(t, err, fmt.Sprintf("no response within %v (OpenTimeout)", timeout.Limit))
				require.NotErrorIs(t, err, context.Canceled, "the session was not canceled")
			})
		})
	}
}

func TestNegativeOpenTimeoutIsNone(t *testing.T) {
	for name, set := range map[string]func(*http.Client, *client.Config){
		"of the config":      func(_ *http.Client, cfg *client.Config) { cfg.OpenTimeout = -1 },
		"beside a Timeout":   func(hc *http.Client, cfg *client.Config) { hc.Timeout, cfg.OpenTimeout = time.Second, -1 },
		"as Timeout, unused": func(hc *http.Client, _ *client.Config) { hc.Timeout = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hc := requestPipes(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					time.Sleep(24 * time.Hour)
					send(w, "data: x\n\n")
				}))
				var cfg client.Config
				set(hc, &cfg)
				s, err := install(hc, cfg).Session(t.Context(), "http://api.test/")
				require.NoError(t, err)
				events, err := collect(s)
				require.NoError(t, err)
				require.Equal(t, []string{"x"}, dataOf(events))
			})
		})
	}
}

// trickle writes text, one byte each second, until a write fails.
func trickle(conn net.Conn, text string) {
	for i := range len(text) {
		if _, err := conn.Write([]byte{text[i]}); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// trickledHead is the header of a response that takes hours to trickle.
var trickledHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX: " + strings.Repeat("x", 10_000)

func TestOpenTimeoutHoldsForAHeadThatTrickles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hc := requestRawPipes(t, func(conn net.Conn, _ *http.Request) { trickle(conn, trickledHead) })
		start := time.Now()
		_, err := install(hc, client.Config{OpenTimeout: 10 * time.Second}).Session(t.Context(), "http://api.test/")
		var timeout *client.TimeoutError
		require.ErrorAs(t, err, &timeout)
		require.Equal(t, client.TimeoutError{Option: "OpenTimeout", Limit: 10 * time.Second}, *timeout)
		require.Equal(t, 10*time.Second, time.Since(start))
	})
}

// OpenTimeout ends with the head of a refusal. Its body has half a second of its own.
func TestBodyOfARefusalHasHalfASecond(t *testing.T) {
	const head = "HTTP/1.1 404 Not Found\r\nContent-Length: 1000000\r\n\r\n"
	for name, tt := range map[string]struct {
		serve func(conn net.Conn, r *http.Request)
		body  string
	}{
		"that stalls": {func(conn net.Conn, _ *http.Request) {
			io.WriteString(conn, head+"no such")
			_, _ = conn.Read(make([]byte, 1)) // until it is closed
		}, "no such"},
		"that trickles": {func(conn net.Conn, _ *http.Request) {
			io.WriteString(conn, head)
			trickle(conn, strings.Repeat("0123456789", 1000))
		}, "0"},
	} {
		for _, openTimeout := range []time.Duration{9500 * time.Millisecond, 100 * time.Millisecond, -1} {
			t.Run(fmt.Sprint(name, openTimeout), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					hc := requestRawPipes(t, tt.serve)
					start := time.Now()
					_, err := install(hc, client.Config{OpenTimeout: openTimeout}).Session(t.Context(), "http://api.test/")
					var status *client.StatusError
					require.ErrorAs(t, err, &status)
					require.Equal(t, 404, status.Status)
					var ours *client.Error
					require.ErrorAs(t, err, &ours)
					require.Equal(t, tt.body, string(ours.Body), "the part that had arrived")
					require.True(t, ours.Partial)
					require.Equal(t, 500*time.Millisecond, time.Since(start))
				})
			})
		}
	}
}

func TestCloseOfTheContextEndsTheReadOfARefusal(t *testing.T) {
	url := serveRaw(t, func(conn net.Conn, _ *http.Request) {
		io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 1000000\r\n\r\nno such")
		_, _ = conn.Read(make([]byte, 1)) // until it is closed
	})
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := install(&http.Client{Transport: transport}, client.Config{OpenTimeout: -1}).Session(ctx, url)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestOpenTimeoutAppliesOverEachTransport(t *testing.T) {
	overEach(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		_, err := install(srv.Client(), client.Config{OpenTimeout: 50 * time.Millisecond}).Session(t.Context(), srv.URL)
		var timeout *client.TimeoutError
		require.ErrorAs(t, err, &timeout)
		require.Equal(t, "OpenTimeout", timeout.Option)
	})
}

func TestTimeoutsOfTheTransportApply(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // the kernel accepts connections, but nothing reads them
	require.NoError(t, err)
	defer l.Close()
	silent := "http://" + l.Addr().String()
	for name, tt := range map[string]struct {
		url       string
		transport *http.Transport
		message   string
	}{
		"ResponseHeaderTimeout": {silent, &http.Transport{ResponseHeaderTimeout: 20 * time.Millisecond}, "timeout awaiting response headers"},
		"of the dialer": {
			"http://127.0.0.1:1", &http.Transport{DialContext: (&net.Dialer{Timeout: time.Nanosecond}).DialContext}, "i/o timeout",
		},
		"TLSHandshakeTimeout": {
			strings.Replace(silent, "http", "https", 1), &http.Transport{TLSHandshakeTimeout: 20 * time.Millisecond}, "TLS handshake timeout",
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer tt.transport.CloseIdleConnections()
			attempts := 0
			c := install(&http.Client{Transport: tt.transport}, client.Config{
				MaxReconnectionAttempts: 2,
				OnRequest:               func(*http.Request) error { attempts++; return nil },
			})
			_, err := c.Session(t.Context(), tt.url)
			var ours *client.Error
			require.ErrorAs(t, err, &ours)
			require.Nil(t, ours.Response)
			var netErr net.Error
			require.ErrorAs(t, err, &netErr)
			require.True(t, netErr.Timeout())
			require.ErrorContains(t, err, tt.message)
			var timeout *client.TimeoutError
			require.NotErrorAs(t, err, &timeout, "the timeout of the Transport must not look like OpenTimeout")
			require.Equal(t, 3, attempts, "the client must try again after a timeout of the Transport")
		})
	}
}

func TestResponseHeaderTimeoutDoesNotCutAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hc := requestPipes(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			send(w, "data: a\n\n")
			time.Sleep(time.Hour)
			send(w, "data: b\n\n")
		}))
		hc.Transport.(*http.Transport).ResponseHeaderTimeout = time.Second
		s, err := install(hc, client.Config{}).Session(t.Context(), "http://api.test/")
		require.NoError(t, err)
		events, err := collect(s)
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b"}, dataOf(events))
	})
}

func TestOpenTimeout(t *testing.T) {
	t.Parallel()
	const s = time.Second
	never := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, tt := range map[string]struct {
		cfg     client.Config
		timeout time.Duration // of the http.Client
		limit   time.Duration
	}{
		"by default":               {client.Config{}, 0, 30 * s},
		"of its own":               {client.Config{OpenTimeout: 5 * s}, 0, 5 * s},
		"that of the http.Client":  {client.Config{}, 7 * s, 7 * s},
		"instead of http.Client's": {client.Config{OpenTimeout: 9 * s}, 7 * s, 9 * s},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newReconnectLab(t, reconnectSteps{never, never, never})
				l.http.Timeout = tt.timeout
				tt.cfg.MaxReconnectionAttempts = 1
				_, err := l.run(t.Context(), tt.cfg)
				var end *client.Error
				require.ErrorAs(t, err, &end)
				require.Nil(t, end.Response)
				var timeout *client.TimeoutError
				require.ErrorAs(t, err, &timeout)
				require.Equal(t, client.TimeoutError{Option: "OpenTimeout", Limit: tt.limit}, *timeout)
				require.EqualError(t, err, fmt.Sprintf("client: gave up after 1 attempt to reconnect (MaxReconnectionAttempts): no response within %v (OpenTimeout)", tt.limit))
				require.Equal(t, []time.Duration{0, tt.limit + 3*s}, l.times)
				require.ErrorAs(t, l.retries[0].Err, &timeout)
				require.Equal(t, 2*tt.limit+3*s, time.Since(l.start))
			})
		})
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(time.Hour)
				send(w, "data: x\n\n")
			}})
			l.http.Timeout = s
			events, err := l.run(t.Context(), client.Config{OpenTimeout: -1})
			require.NoError(t, err)
			require.Len(t, events, 1)
		})
	})
	t.Run("is not for the stream", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			step := func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(5*s - 1)
				for i := range 60 {
					send(w, "data: %d\n\n", i)
					time.Sleep(time.Minute)
				}
			}
			l := newReconnectLab(t, reconnectSteps{step, step})
			l.http.Timeout = 5 * s
			events, err := l.run(t.Context(), client.Config{MaxReconnectionAttempts: 1})
			require.NoError(t, err)
			require.Len(t, events, 120)
		})
	})
	t.Run("is not for the body of a refusal", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusNotFound)
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}})
			_, err := l.run(t.Context(), client.Config{OpenTimeout: 5 * s})
			var status *client.StatusError
			require.ErrorAs(t, err, &status)
			require.Equal(t, s/2, time.Since(l.start))
		})
	})
	t.Run("is longer for a request with a body", func(t *testing.T) {
		t.Parallel()
		const limit = 10 * time.Minute
		for name, tt := range map[string]struct {
			timeout time.Duration // of the http.Client
			cfg     client.Config
			answers time.Duration // when the head comes
			limit   time.Duration // 0: the stream opens
		}{
			"the head with the first token": {0, client.Config{}, 31 * s, 0},
			"just in time":                  {0, client.Config{}, limit - 1, 0},
			"too late":                      {0, client.Config{}, limit + 1, limit},
			"the http.Client's wins":        {7 * s, client.Config{}, 8 * s, 7 * s},
			"OpenTimeout wins":              {7 * s, client.Config{OpenTimeout: 9 * s}, 10 * s, 9 * s},
			"none":                          {7 * s, client.Config{OpenTimeout: -1}, 24 * time.Hour, 0},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					l := newReconnectLab(t, reconnectSteps{func(w http.ResponseWriter, _ *http.Request) {
						time.Sleep(tt.answers)
						send(w, "data: x\n\n")
					}})
					l.http.Timeout = tt.timeout
					events, err := l.run(t.Context(), tt.cfg, client.WithBody("application/json", strings.NewReader("{}")))
					if tt.limit == 0 {
						require.NoError(t, err)
						require.Len(t, events, 1)
						return
					}
					var timeout *client.TimeoutError
					require.ErrorAs(t, err, &timeout)
					require.Equal(t, client.TimeoutError{Option: "OpenTimeout", Limit: tt.limit}, *timeout)
					require.Equal(t, tt.limit, time.Since(l.start))
				})
			})
		}
	})
}

func TestOpenTimeoutSpansRedirects(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			redirectTo(w, 302, "/1")
			return
		}
		<-r.Context().Done()
	})
	err := refusal(t, install(srv.Client(), client.Config{OpenTimeout: 50 * time.Millisecond}), srv.URL)
	var timeout *client.TimeoutError
	require.ErrorAs(t, err, &timeout)
}

// OpenTimeout ends when the response's header has arrived. The time that OnOpen takes does
// not count.
func TestOpenTimeoutEndsWithTheHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body, w := io.Pipe()
		go func() {
			io.WriteString(w, "data: a\n\n")
			w.Close()
		}()
		c := install(&http.Client{Transport: &bufferPipe{[]io.Reader{body}}}, client.Config{
			OpenTimeout: time.Second,
			OnOpen:      func(*http.Response) { time.Sleep(time.Minute) },
		})
		s, err := c.Session(t.Context(), "http://hostile.test/")
		require.NoError(t, err)
		events, err := collect(s)
		require.NoError(t, err)
		require.Equal(t, []string{"a"}, dataOf(events))
	})
}
