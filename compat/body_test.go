package compat

// This file proves three things about bodies: httplog reads the whole body of a stream, a
// handler may stream without having read the request's body, and over HTTP/2 a client can
// send and receive at the same time.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/go-chi/httplog/v3"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// TestBodyLog checks that httplog logs the status and the whole body of a stream. That is
// why httplog is in the matrix.
func TestBodyLog(t *testing.T) {
	t.Parallel()
	for _, place := range places {
		for _, transport := range transports {
			t.Run(place.name+"/"+transport.name, func(t *testing.T) {
				t.Parallel()
				var log bytes.Buffer
				mw := httplog.RequestLogger(slog.New(slog.NewJSONHandler(&log, nil)), bodyLogOptions())
				c := newCell(t, row{use: chain{mw}, wraps: true}, place, transport)
				call := c.do(t, http.MethodGet, c.at("/events"), "")
				c.steps.receive(t, call.Body, nil)
				c.close() // httplog writes its entry after the response has ended

				var entry struct {
					Body   string `json:"http.response.body.content"`
					Status int    `json:"http.response.status_code"`
				}
				require.NoError(t, json.Unmarshal(log.Bytes(), &entry), "%.300s", &log)
				require.Equal(t, http.StatusOK, entry.Status)
				require.Len(t, entry.Body, int(scriptBytes()))
			})
		}
	}
}

// TestUnreadBody has a handler that streams without having read the request's body. The
// body is so large that net/http cannot have read it together with the header.
func TestUnreadBody(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("0123456789abcdef", 8<<10)
	for _, row := range []row{
		{name: "nothing"},
		{name: "httplog", use: chain{bodyLog}},
		{name: "compressors", use: chain{compressText, gzhttpAll, httpcompressZero}},
	} {
		for _, place := range places {
			for _, transport := range transports {
				t.Run(row.name+"/"+place.name+"/"+transport.name, func(t *testing.T) {
					t.Parallel()
					read := make(signal)
					s := newFixture(t, row.use, place, transport, sse.Config{}, func(s *sse.ServerSession) error {
						for range 3 {
							if err := s.Send(sse.Event{Data: "first"}); err != nil {
								return err
							}
							if err := read.await(s); err != nil {
								return err
							}
						}
						return nil
					})
					for _, k := range kinds[1:] {
						t.Log("a route by", k.name)
						call := s.do(t, k.method, place.prefix+k.path, body)
						for range 3 {
							requireFirst(t, call)
							read.give(t)
						}
						rest, err := io.ReadAll(call.Body)
						require.NoError(t, err)
						require.Empty(t, rest)
						require.Equal(t, sse.EndReturned, s.ends.next(t).Reason)
						s.requireOrdinary(t, place.prefix)
					}
				})
			}
		}
	}
}

// TestDuplex has a client that sends while it receives, which HTTP/2 allows. It goes on for
// longer than the server's ReadTimeout.
func TestDuplex(t *testing.T) {
	t.Parallel()
	const timeout, pause = time.Second, 400 * time.Millisecond
	for _, place := range places {
		for _, transport := range []transport{http2, h2c} {
			t.Run(place.name+"/"+transport.name, func(t *testing.T) {
				t.Parallel()
				s := newFixture(t, chain{middleware.Recoverer, compressText}, place, transport, sse.Config{}, func(s *sse.ServerSession) error {
					if err := s.Open(); err != nil {
						return err
					}
					lines := bufio.NewScanner(s.Call().Body)
					for lines.Scan() {
						if err := s.SendData(lines.Text()); err != nil {
							return err
						}
					}
					return lines.Err()
				}, func(s *http.Server) { s.ReadTimeout = timeout })
				for _, k := range kinds[1:] {
					t.Log("a route by", k.name)
					reader, writer := io.Pipe()
					call := s.doWith(t, k.method, place.prefix+k.path, reader)
					requireNext(t, call, ": open\n\n")
					for _, word := range []string{"one", "two", "three"} {
						time.Sleep(pause)
						_, err := io.WriteString(writer, word+"\n")
						require.NoError(t, err)
						requireNext(t, call, "data: "+word+"\n\n")
					}
					require.NoError(t, writer.Close())
					rest, err := io.ReadAll(call.Body)
					require.NoError(t, err)
					require.Empty(t, rest)
					require.Equal(t, sse.EndReturned, s.ends.next(t).Reason)
				}
			})
		}
	}
}
