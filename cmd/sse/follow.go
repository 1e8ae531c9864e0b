package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/chi-sse/sse/client"
)

// follower follows one stream.
type follower struct {
	opts       *options
	out        *printer
	log        *status
	checkpoint *checkpoint
	left       <-chan struct{} // closed when the reader of stdout has left
	tally      tally

	open   bool   // there is a connection
	end    string // why the stream ended without an error, or "" if that is not known
	rest   []byte // what the latest connection brought after its last event
	shown  []byte // the body that was printed last
	warned bool   // that the events have no ids
}

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
		OpenTimeout:             f.opts.openTimeout,
		IdleTimeout:             f.opts.idleTimeout,
		EventTimeout:            f.opts.eventTimeout,
		ShowCommentEvents:       f.opts.comments,
		CheckResponse:           f.checkResponse,
		Logger:                  slog.New(slog.DiscardHandler),
		OnOpen:                  f.reportOpen,
		OnFailure:               f.decide,
		OnRetry:                 f.reportRetry,
	}
	if f.opts.resend {
		config.Resend = client.ResendAlways
	}
	if f.opts.done != nil || f.opts.doneEvent != nil {
		config.Terminal = f.terminal
	}

	session, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f.checkpoint.start(cancel)
	go func() {
		select {
		case <-f.left:
			cancel(errReaderLeft)
		case <-session.Done():
		}
	}()
	err := client.Install(&http.Client{Transport: transport}, config).
		SSE(session, f.opts.url, f.read, f.requestOptions()...)
	switch failed := f.checkpoint.close(); {
	case failed != nil:
		err = failed
	case err != nil && ctx.Err() != nil:
		f.log.interrupted(&f.tally)
		return exitInterrupted
	case err != nil && context.Cause(session) == errReaderLeft: //nolint:errorlint // it is never wrapped
		return exitComplete
	}
	return f.reportEnd(err)
}

// requestOptions returns the options that describe the request.
func (f *follower) requestOptions() []client.Option {
	lastID := f.opts.lastID
	if f.checkpoint.found {
		lastID = f.checkpoint.id
	}
	options := []client.Option{client.WithLastEventID(lastID), client.WithMethod(f.opts.method)}
	for _, h := range f.opts.header {
		options = append(options, client.WithHeader(h.name, h.value))
	}
	if f.opts.data != nil {
		options = append(options, client.WithBody(f.opts.bodyType(), bytes.NewReader(f.opts.body)))
	}
	return options
}

// checkResponse reports why resp does not open a stream.
func (f *follower) checkResponse(resp *http.Response) error {
	err := client.CheckResponse(resp)
	if wrong, ok := errors.AsType[*client.ContentError](err); ok && wrong.Header == "Content-Type" {
		got, _, _ := mime.ParseMediaType(wrong.Value)
		if f.opts.mediaType == "any" || f.opts.mediaType != "" && strings.EqualFold(got, f.opts.mediaType) {
			return nil
		}
	}
	return err
}

// read prints the events of s until s ends or -n is reached.
func (f *follower) read(s *client.Session) error {
	for ev, err := range s.Incoming() {
		if err != nil {
			return err
		}
		done := f.terminal(ev)
		if done {
			f.end = "ended with " + f.doneText(ev)
		}
		if !done || f.opts.doneEvent != nil && nameOf(ev) == *f.opts.doneEvent {
			if err := f.show(ev); err != nil {
				return err
			}
		}
		if !s.Silent() {
			f.handled(ev)
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

// terminal reports whether ev is the event that -done or -done-event names.
func (f *follower) terminal(ev client.Event) bool {
	if onlyComment(ev) {
		return false
	}
	return f.opts.done != nil && ev.Data == *f.opts.done || f.opts.doneEvent != nil && nameOf(ev) == *f.opts.doneEvent
}

// doneText returns the text or the name that makes ev the last event.
func (f *follower) doneText(ev client.Event) string {
	if f.opts.done != nil && ev.Data == *f.opts.done {
		return ev.Data
	}
	return nameOf(ev)
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

// handled moves the checkpoint to ev.
func (f *follower) handled(ev client.Event) {
	if ev.ID == "" && f.opts.checkpoint != "" && !f.warned {
		f.warned = true
		f.log.say(warning, "the event has no id, so the checkpoint cannot resume after it")
	}
	f.checkpoint.set(ev.ID)
}

// reportOpen reports a new connection.
func (f *follower) reportOpen(resp *http.Response) {
	f.open, f.rest = true, nil
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
	if f.open {
		f.rest = failure.Body
	}
	bare := failure.Err == io.EOF && failure.Events == 0 && restOf(failure.Body) == restText //nolint:errorlint // a wrapped io.EOF is not an orderly end
	switch {
	case f.opts.retryRefused && (refused(failure.Err) || bare && !failure.Final):
		return client.Retry()
	case bare:
		return client.Stop(errNoEventStream)
	case f.tally.connections == 0 && !f.opts.firstRetried && !f.opts.retryRefused:
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
	bare := f.open && r.Events == 0 && restOf(r.Body) == restText
	f.open = false
	f.log.say(warning, "%s; retry in %s (attempt %d)", why, duration(r.Delay), r.Attempt)
	if (bare || refused(r.Err)) && !f.opts.silent && !bytes.Equal(f.shown, r.Body) {
		f.shown = bytes.Clone(r.Body)
		f.log.response(r.Response, r.Body)
	}
}
