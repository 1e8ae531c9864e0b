package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"syscall"
	"time"

	"github.com/chi-sse/sse/client"
)

// follower follows one stream.
type follower struct {
	opts  *options
	out   *printer
	log   *status
	tally tally

	open bool   // there is a connection
	end  string // why the stream ended without an error, or "" if that is not known
}

// tally counts what the summary reports.
type tally struct {
	began       time.Time
	connections int
	seen, shown int // events
	bytes       int // in the data of the events that were shown
}

// writeError reports that an event could not be written to stdout.
type writeError struct{ error }

func (e writeError) Unwrap() error { return e.error }

// follow prints the stream's events until the stream or ctx ends, and returns the exit
// code.
func (f *follower) follow(ctx context.Context) (exit int) {
	f.tally.began = time.Now()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if f.opts.insecure {
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}
	defer transport.CloseIdleConnections()

	config := client.Config{
		MaxReconnectionAttempts: f.opts.retries,
		Jitter:                  -1, // there is only one client, so delays need not vary
		IdleTimeout:             f.opts.idle,
		ShowCommentEvents:       f.opts.comments,
		Logger:                  slog.New(slog.DiscardHandler),
		OnOpen:                  f.reportOpen,
		OnFailure:               f.decide,
		OnRetry:                 f.reportRetry,
	}
	if f.opts.resend {
		config.Resend = client.ResendAlways
	}
	if f.opts.done != nil {
		config.Terminal = f.terminal
	}
	err := client.Install(&http.Client{Transport: transport}, config).
		SSE(ctx, f.opts.url, f.read, f.requestOptions()...)

	if err != nil && ctx.Err() != nil {
		f.log.interrupted(&f.tally)
		return exitInterrupted
	}
	return f.reportEnd(err)
}

// requestOptions returns the options that describe the request.
func (f *follower) requestOptions() []client.Option {
	options := []client.Option{client.WithLastEventID(f.opts.lastID), client.WithMethod(f.opts.method)}
	for _, h := range f.opts.header {
		options = append(options, client.WithHeader(h.name, h.value))
	}
	if f.opts.data != nil {
		options = append(options, client.WithBody(f.opts.bodyType(), bytes.NewReader(f.opts.body)))
	}
	return options
}

// read prints the events of s until s ends or -n is reached.
func (f *follower) read(s *client.Session) error {
	for ev, err := range s.Incoming() {
		if err != nil {
			return err
		}
		if f.terminal(ev) {
			f.end = "ended with " + *f.opts.done
			continue
		}
		if err := f.show(ev); err != nil {
			return err
		}
		if f.opts.count > 0 && f.tally.shown == f.opts.count {
			f.end = "stopped by -n"
			return nil
		}
	}
	if f.end == "" && !f.open {
		f.end = "ended by the server for good (204)" // only a 204 ends a session without opening it
	}
	return nil
}

// terminal reports whether ev is the event that -done names.
func (f *follower) terminal(ev client.Event) bool {
	return f.opts.done != nil && ev.Data == *f.opts.done
}

// show counts ev, and prints it if its name is one of those to print.
func (f *follower) show(ev client.Event) error {
	if !onlyComment(ev) {
		f.tally.seen++
		if len(f.opts.names) > 0 && !slices.Contains(f.opts.names, nameOf(ev)) {
			return nil
		}
		f.tally.shown++
		f.tally.bytes += len(ev.Data)
	}
	if err := f.out.print(ev); err != nil {
		return writeError{err}
	}
	return nil
}

// reportOpen reports a new connection.
func (f *follower) reportOpen(resp *http.Response) {
	f.open = true
	f.tally.connections++
	resumed := ""
	if id := resp.Request.Header.Get("Last-Event-ID"); id != "" {
		resumed = ", resumed after " + id
	}
	f.log.say(good, "connected: %s, %s%s", resp.Status, resp.Proto, resumed)
}

// decide says what follows a failure. A mistyped URL must not be retried forever, unless
// the user asks for it.
func (f *follower) decide(failure client.Failure) client.Decision {
	if f.tally.connections == 0 && !f.opts.firstRetried {
		return client.Stop(nil)
	}
	return client.DefaultDecision(failure)
}

// reportRetry reports why a connection was lost or failed, and how long the client waits
// before the next attempt.
func (f *follower) reportRetry(r client.Failure) {
	why := "lost: "
	switch {
	case r.Err == io.EOF: //nolint:errorlint // a wrapped io.EOF is not an orderly end
		why = "ended by the server"
	case !f.open:
		why = "no connection: " + f.reason(r.Err)
	default:
		why += f.reason(r.Err)
	}
	f.open = false
	f.log.say(warning, "%s; retry in %s (attempt %d)", why, duration(r.Delay), r.Attempt)
}

// reportEnd reports why the stream has ended for good, and returns the exit code.
func (f *follower) reportEnd(err error) (exit int) {
	if err == nil {
		if f.end == "" {
			f.end = "ended by the server"
		}
		f.log.say(plain, "%s: %s", f.end, &f.tally)
		return exitOK
	}
	if wrong, ok := errors.AsType[*client.ConfigError](err); ok {
		return misused(f.log.w, fmt.Errorf("%s %s", flagOf(wrong.Option), wrong.Problem))
	}
	if write, ok := errors.AsType[writeError](err); ok {
		if errors.Is(write, syscall.EPIPE) || errors.Is(write, io.ErrClosedPipe) {
			return exitOK
		}
		f.log.fail("failed: %v", write)
		return exitBroken
	}

	what := "failed"
	if f.open {
		what = "lost"
	}
	exit = exitBroken
	_, badStatus := errors.AsType[*client.StatusError](err)
	_, badContent := errors.AsType[*client.ContentError](err)
	if badStatus || badContent {
		what, exit = "refused", exitRefused
	}
	f.log.fail("%s: %s%s", what, f.reason(err), f.hint(err))
	if broken, ok := errors.AsType[*client.Error](err); ok && exit == exitRefused {
		f.log.response(broken.Response, broken.Body)
	}
	if f.tally.connections > 0 {
		f.log.say(plain, "total: %s", &f.tally)
	}
	return exit
}
