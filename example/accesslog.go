package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5/middleware"

	"github.com/chi-sse/sse/example/internal/elapsed"
)

// maxTarget is how many bytes of a request's target a line of the log shows. The target
// can be as long as net/http lets a request's header be.
const maxTarget = 512

// accessLog returns middleware that writes a line for each request, when the request has
// ended. A stream ends when its client leaves or the server closes it, so its line has
// all the bytes that it sent and the whole time that it was open:
//
//	2026-03-01T09:30:12.041Z 200     41 B    0.2 ms 127.0.0.1:50122 "GET /hello HTTP/1.1"
//	2026-03-01T09:31:40.500Z 200   9412 B    88.5 s 127.0.0.1:50120 "GET /log HTTP/1.1"
//
// A stream that the hub has detached is an exception. Its handler returns as soon as the
// stream is open, so the line covers only the time until then. sse.Config.OnClose is
// called when the stream really ends.
//
// The columns with a fixed width come first. The request comes last, because its client
// decides what is in it; it is quoted and in ASCII.
//
// The address is that of the connection. Behind a proxy, use chi's
// middleware.ClientIPFromXFF to find the client's address. This function reads no such
// header, because any client can send one.
func accessLog(log *logFile, logger *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			start := time.Now()
			ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
			// Deferred, because a stream that breaks panics with http.ErrAbortHandler
			// to abort its connection.
			defer func() {
				if err := log.append(accessLine(ww, r, start)); err != nil {
					logger.Error("a line could not be written to the access log", "error", err)
				}
			}()
			next.ServeHTTP(ww, r)
		})
	}
}

// accessLine returns the line for r, which began at start and has been answered on w.
func accessLine(w middleware.WrapResponseWriter, r *http.Request, start time.Time) string {
	status := w.Status()
	if status == 0 {
		status = http.StatusOK // net/http sends it if the handler writes nothing
	}
	target := r.RequestURI
	if len(target) > maxTarget {
		target = target[:maxTarget] + "..."
	}
	return fmt.Sprintf("%s %d %6d B %9s %s %s",
		time.Now().UTC().Format("2006-01-02T15:04:05.000Z"),
		status,
		w.BytesWritten(),
		elapsed.Text(time.Since(start)),
		r.RemoteAddr,
		strconv.QuoteToASCII(r.Method+" "+target+" "+r.Proto),
	)
}
