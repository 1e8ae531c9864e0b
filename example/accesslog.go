package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5/middleware"
)

// maxTarget bounds, in bytes, what a line shows of a request's target, which may
// be as long as a header may be.
const maxTarget = 512

// accessLog writes a line for each request, when the request has ended. For a
// stream that is when the client leaves or the server closes it, so a stream
// appears with all the bytes it sent and the whole time it stood:
//
//	2026-03-01T09:30:12.041Z 200     41 B    0.2ms 127.0.0.1:50122 "GET /hello HTTP/1.1"
//	2026-03-01T09:31:40.500Z 200   9412 B    88.5s 127.0.0.1:50120 "GET /log HTTP/1.1"
//
// A stream that the hub has detached from its handler is an exception: that has
// returned when the stream is open, and the line says what it was until then.
// sse.Config.OnClose is called at its real end.
//
// The columns of a fixed width stand first and the one that the client may fill
// as it likes stands last, quoted and in ASCII.
//
// The address is that of the connection. Behind a proxy, have chi's
// middleware.ClientIPFromXFF find the client's; headers that anybody can send
// are not to be believed here.
func accessLog(log *logFile, logger *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			start := time.Now()
			ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
			// Deferred, since a stream that breaks ends in a panic that aborts
			// its connection: http.ErrAbortHandler.
			defer func() {
				if err := log.append(accessLine(ww, r, start)); err != nil {
					logger.Error("the access log missed a line", "error", err)
				}
			}()
			next.ServeHTTP(ww, r)
		})
	}
}

func accessLine(w middleware.WrapResponseWriter, r *http.Request, start time.Time) string {
	status := w.Status()
	if status == 0 {
		status = http.StatusOK // what net/http sends for a handler that says nothing
	}
	target := r.RequestURI
	if len(target) > maxTarget {
		target = target[:maxTarget] + "..."
	}
	return fmt.Sprintf("%s %d %6d B %8s %s %s",
		time.Now().UTC().Format("2006-01-02T15:04:05.000Z"),
		status,
		w.BytesWritten(),
		formatDuration(time.Since(start)),
		r.RemoteAddr,
		strconv.QuoteToASCII(r.Method+" "+target+" "+r.Proto),
	)
}

// formatDuration writes short times in milliseconds and long ones in seconds.
func formatDuration(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1fms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}
