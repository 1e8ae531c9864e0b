package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// listen is net.Listen with an error that says what to do if the address is taken.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is taken by another program; choose an address with -addr, such as -addr localhost:8081", addr)
	}
	return listener, err
}

// newServer returns a server with a timeout for each part of a request and its
// response. Streams are exempt: they outlive these timeouts.
func newServer(h http.Handler, logger *slog.Logger) *http.Server {
	srv := &http.Server{
		Handler:           h,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		Protocols:         new(http.Protocols),
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	return srv
}

// shutdown ends the server in at most 800 ms, even if clients are slow.
func shutdown(srv *http.Server, h *hub.Hub, streams *sse.Plugin) error {
	// The hub is first: it sends its subscribers the events that they still lack, and
	// then ends their streams.
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	cutOff := h.Shutdown(ctx)

	// The other streams are next, since srv.Shutdown waits for them and they do not end
	// by themselves. The plugin cuts off a client that reads too slowly to get its
	// stream's end.
	ctx, cancel = context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	cutOff = errors.Join(cutOff, streams.Shutdown(ctx))

	// The other requests are last. Any connection that is open after that was opened
	// by a browser in advance and has carried no request yet. srv.Shutdown would
	// give it 5 seconds, so srv.Close ends it.
	ctx, cancel = context.WithTimeout(context.Background(), 400*time.Millisecond)
	defer cancel()
	err := srv.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	if cutOff != nil {
		srv.ErrorLog.Print(cutOff)
	}
	return err
}
