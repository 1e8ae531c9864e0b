package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
)

// The exit codes. The usage text explains them.
const (
	exitComplete    = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitTruncated   = 4
	exitUsedUp      = 5
	exitInterrupted = 130
)

// errNoEventStream reports text that came as an event stream and is none.
var errNoEventStream = errors.New("the response is not an event stream, in spite of its Content-Type")

// errReaderLeft ends the session when nobody reads stdout any longer.
var errReaderLeft = errors.New("the reader of stdout has left")

// writeError reports that an event could not be written to stdout.
type writeError struct{ error }

func (e writeError) Unwrap() error { return e.error }

// refused reports whether err says that the server answered with something other than a
// stream.
func refused(err error) bool {
	if _, ok := errors.AsType[*client.RetryError](err); ok {
		return false
	}
	_, badStatus := errors.AsType[*client.StatusError](err)
	_, badContent := errors.AsType[*client.ContentError](err)
	return badStatus || badContent || errors.Is(err, errNoEventStream)
}

// restKind says what a connection brought after its last event.
type restKind int

const (
	restNothing restKind = iota // nothing that matters
	restEvent                   // an event that was cut off
	restText                    // text that is no event stream
)

// restOf returns the kind of rest.
func restOf(rest []byte) restKind {
	text := strings.TrimPrefix(string(rest), "\ufeff")
	if strings.TrimSpace(text) == "" {
		return restNothing
	}
	kind := restText
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		switch name, _, _ := strings.Cut(line, ":"); name {
		case "data":
			return restEvent
		case "event", "id", "retry", "":
			kind = restNothing
		}
	}
	return kind
}

// reportEnd reports why the stream has ended for good, and returns the exit code.
func (f *follower) reportEnd(err error) (exit int) {
	if err == nil {
		return f.reportOrderlyEnd()
	}
	if wrong, ok := errors.AsType[*client.ConfigError](err); ok {
		return misused(f.log.w, "sse follow", fmt.Errorf("%s %s", f.flagOf(wrong.Option), wrong.Problem))
	}
	if write, ok := errors.AsType[writeError](err); ok {
		if errors.Is(write, syscall.EPIPE) || errors.Is(write, io.ErrClosedPipe) {
			return exitComplete
		}
		f.log.fail("failed: %v", write)
		return exitFailed
	}
	if failed, ok := errors.AsType[checkpointError](err); ok {
		f.log.fail("failed: -checkpoint: %v", failed)
		return exitFailed
	}

	what, exit := "failed", exitFailed
	switch _, usedUp := errors.AsType[*client.AttemptsError](err); {
	case usedUp:
		what, exit = "gave up", exitUsedUp
	case refused(err) || f.refusedLater(err):
		what, exit = "refused", exitRefused
	case errors.Is(err, client.ErrTruncated):
		what, exit = "truncated", exitTruncated
	case f.open:
		what, exit = "lost", exitTruncated
	case f.tally.connections > 0:
		exit = exitTruncated
	}
	f.log.fail("%s: %s%s", what, f.reason(err), f.hint(err))
	if failed, ok := errors.AsType[*client.Error](err); ok {
		switch {
		case exit == exitRefused || refused(err):
			f.log.response(failed.Response, failed.Body)
		case f.open:
			f.log.rest(failed.Body)
		}
	}
	if f.tally.connections > 0 {
		f.log.say(plain, "total: %s", &f.tally)
	}
	return exit
}

// reportOrderlyEnd reports that the server ended the stream in order, or that -n was reached.
func (f *follower) reportOrderlyEnd() (exit int) {
	if f.end == "" && restOf(f.rest) != restNothing {
		f.log.fail("truncated: the server ended the stream within an event")
		f.log.rest(f.rest)
		f.log.say(plain, "total: %s", &f.tally)
		return exitTruncated
	}
	if f.end == "" {
		f.end = "ended by the server"
	}
	f.log.say(plain, "%s: %s", f.end, &f.tally)
	return exitComplete
}

// refusedLater reports whether the server has refused and asked for a wait that is too long.
func (f *follower) refusedLater(err error) bool {
	long, ok := errors.AsType[*client.RetryError](err)
	return ok && refused(long.Err)
}

// reason returns the text of err for the user of this program.
func (f *follower) reason(err error) string {
	if long, ok := errors.AsType[*client.RetryError](err); ok {
		return fmt.Sprintf("the server asks the client to wait %s before the next attempt; it waits at most %s", long.Asked, long.Limit)
	}
	if used, ok := errors.AsType[*client.AttemptsError](err); ok {
		if used.Err == io.EOF || errors.Is(used.Err, client.ErrTruncated) { //nolint:errorlint // a wrapped io.EOF is not an orderly end
			return fmt.Sprintf("the server ended the stream, %s in a row without an event", plural(used.Attempts+1, "time"))
		}
		return fmt.Sprintf("%s, after %s", f.reason(used.Err), plural(used.Attempts, "more attempt"))
	}
	if timeout, ok := errors.AsType[*client.TimeoutError](err); ok {
		switch limit := duration(timeout.Limit); timeout.Option {
		case "IdleTimeout":
			return fmt.Sprintf("nothing came for %s (-idle-timeout)", limit)
		case "EventTimeout":
			return fmt.Sprintf("no event came for %s (-event-timeout)", limit)
		default:
			return fmt.Sprintf("no answer within %s (-open-timeout)", limit)
		}
	}
	if errors.Is(err, client.ErrTruncated) {
		return "the stream ended before " + f.awaited()
	}
	if failed, ok := errors.AsType[*client.Error](err); ok {
		err = failed.Err
	}
	if failed, ok := err.(*url.Error); ok { //nolint:errorlint // only the outermost error repeats the URL
		err = failed.Err
	}
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "client: "), "stream broke off: ")
}

// awaited returns what -done and -done-event name.
func (f *follower) awaited() string {
	var all []string
	for _, text := range []*string{f.opts.done, f.opts.doneEvent} {
		if text != nil {
			all = append(all, *text)
		}
	}
	return strings.Join(all, " or ")
}

// hint returns what the user can do about err, in parentheses, or "".
func (f *follower) hint(err error) string {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return " (use -k to accept it anyway)"
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return " (put http:// before the URL)"
	}
	_, usedUp := errors.AsType[*client.AttemptsError](err)
	if refused(err) && !usedUp && f.tally.shown > 0 && !f.opts.retryRefused {
		return " (use -retry-refused to go on)"
	}
	_, tooLarge := errors.AsType[*event.TooLargeError](err)
	if f.open && f.opts.data != nil && !f.opts.resend && f.opts.retries != 0 && !tooLarge && !refused(err) {
		return " (-resend repeats the request)"
	}
	return ""
}

// flagOf returns the flag that sets an option of package client.
func (f *follower) flagOf(option string) string {
	switch option {
	case "url":
		return "the URL"
	case "WithMethod":
		return "-X"
	case "WithHeader":
		return "-H"
	case "WithLastEventID":
		if f.checkpoint.found {
			return f.checkpoint.path
		}
		return "-id"
	default:
		return option
	}
}
