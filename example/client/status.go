package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
)

// status tells the user how it stands with the stream.
type status struct {
	w        io.Writer
	color    bool
	quiet    bool
	terminal bool
}

// say tells what is good to know, in one line.
func (s *status) say(style style, format string, args ...any) {
	if !s.quiet {
		s.line(style, fmt.Sprintf("* "+format, args...))
	}
}

// fail tells what must be known.
func (s *status) fail(format string, args ...any) {
	s.line(bad, fmt.Sprintf("* "+format, args...))
}

func (s *status) line(style style, text string) {
	line := paint(nil, s.color, style, visible(text, inLine))
	_, _ = s.w.Write(append(line, '\n')) // there is nobody to tell
}

// interrupted tells that the user has ended the program.
func (s *status) interrupted(t *tally) {
	if s.terminal && !s.quiet {
		_, _ = io.WriteString(s.w, "\n") // after the ^C
	}
	s.say(plain, "interrupted: %s", t)
}

const (
	bodyLines   = 10
	bodyColumns = 200
)

// response shows a response that is no stream, and the beginning of its body.
func (s *status) response(resp *http.Response, body []byte) {
	if resp == nil {
		return
	}
	contentType := resp.Header.Get("Content-Type")
	if contentType == "" {
		contentType = "no Content-Type"
	}
	s.line(plain, fmt.Sprintf("  %s %s, %s", resp.Proto, resp.Status, contentType))
	if compact, ok := asJSON(string(body)); ok {
		body = appendJSON(nil, compact, false)
	}
	lines := strings.Split(strings.TrimSpace(string(body)), "\n")
	for i, line := range lines {
		if i == bodyLines {
			s.line(dim, fmt.Sprintf("  (and %d more)", len(lines)-i))
			break
		}
		line = strings.TrimRight(line, "\r")
		if runes := []rune(line); len(runes) > bodyColumns {
			line = string(runes[:bodyColumns]) + "…"
		}
		if line != "" || len(lines) > 1 {
			s.line(plain, "  "+line)
		}
	}
}

// reason returns err in the words of this program.
func (f *follower) reason(err error) string {
	if long, ok := errors.AsType[*client.RetryError](err); ok {
		return fmt.Sprintf("the server asks to wait for %s before the next attempt, and %s is the most", long.Asked, long.Limit)
	}
	if timeout, ok := errors.AsType[*client.TimeoutError](err); ok {
		if timeout.Option == "IdleTimeout" {
			return fmt.Sprintf("nothing came for %s (-t)", duration(timeout.Limit))
		}
		return fmt.Sprintf("no answer within %s", duration(timeout.Limit))
	}
	if errors.Is(err, client.ErrTruncated) {
		return "the stream ended before " + *f.opts.done
	}
	if failed, ok := errors.AsType[*client.Error](err); ok {
		err = failed.Err
	}
	if failed, ok := err.(*url.Error); ok { //nolint:errorlint // the outermost alone repeats the URL
		err = failed.Err
	}
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "client: "), "stream broke off: ")
}

// hint returns what can be done about err.
func (f *follower) hint(err error) string {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return " (-k trusts it all the same)"
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return " (write http:// before the URL)"
	}
	_, tooLarge := errors.AsType[*event.TooLargeError](err)
	if f.open && f.opts.data != nil && !f.opts.resend && f.opts.retries != 0 && !tooLarge {
		return " (-resend would send the request again)"
	}
	return ""
}

// String is the summary.
func (t *tally) String() string {
	events := plural(t.shown, "event")
	if t.seen > t.shown {
		events = fmt.Sprintf("%d of %s", t.shown, plural(t.seen, "event"))
	}
	var took time.Duration
	if !t.began.IsZero() {
		took = time.Since(t.began)
	}
	return fmt.Sprintf("%s, %s of data, %s, %s", events, size(t.bytes), duration(took), plural(max(0, t.connections-1), "reconnection"))
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func size(n int) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1e6:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1e9:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	default:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	}
}

// duration writes d with as many digits as anybody reads.
func duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}
