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
	"github.com/chi-sse/sse/example/internal/elapsed"
)

// status prints the connection's status for the user.
type status struct {
	w        io.Writer
	color    bool
	quiet    bool // of -s: print only errors
	terminal bool
}

// say prints a line of information, unless the status is quiet.
func (s *status) say(style style, format string, args ...any) {
	if !s.quiet {
		s.line(style, fmt.Sprintf("* "+format, args...))
	}
}

// fail prints a line about an error, even if the status is quiet.
func (s *status) fail(format string, args ...any) {
	s.line(bad, fmt.Sprintf("* "+format, args...))
}

func (s *status) line(style style, text string) {
	line := paint(nil, s.color, style, visible(text, inLine))
	_, _ = s.w.Write(append(line, '\n')) // if stderr fails, there is no place to report it
}

// interrupted prints the summary after the user has interrupted the program.
func (s *status) interrupted(t *tally) {
	if s.terminal && !s.quiet {
		_, _ = io.WriteString(s.w, "\n") // after the ^C
	}
	s.say(plain, "interrupted: %s", t)
}

const (
	bodyLines   = 10  // lines of a response's body that are printed
	bodyColumns = 200 // characters of each
)

// response prints a response that is not a stream, and the beginning of its body.
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

// reason returns the text of err for the user of this program.
func (f *follower) reason(err error) string {
	if long, ok := errors.AsType[*client.RetryError](err); ok {
		return fmt.Sprintf("the server asks the client to wait %s before the next attempt; it waits at most %s", long.Asked, long.Limit)
	}
	if used, ok := errors.AsType[*client.AttemptsError](err); ok {
		if used.Err == io.EOF { //nolint:errorlint // a wrapped io.EOF is not an orderly end
			return fmt.Sprintf("the server ended the stream, %s in a row without an event", plural(used.Attempts+1, "time"))
		}
		return fmt.Sprintf("%s, after %s", f.reason(used.Err), plural(used.Attempts, "more attempt"))
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
	if failed, ok := err.(*url.Error); ok { //nolint:errorlint // only the outermost error repeats the URL
		err = failed.Err
	}
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "client: "), "stream broke off: ")
}

// hint returns what the user can do about err, in parentheses, or "".
func (f *follower) hint(err error) string {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return " (use -k to accept it anyway)"
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return " (put http:// before the URL)"
	}
	_, tooLarge := errors.AsType[*event.TooLargeError](err)
	if f.open && f.opts.data != nil && !f.opts.resend && f.opts.retries != 0 && !tooLarge {
		return " (use -resend to send the request again)"
	}
	return ""
}

// String returns the summary, such as "3 events, 1.5 kB of data, 843 ms, 1 reconnection".
func (t *tally) String() string {
	events := plural(t.shown, "event")
	if t.seen > t.shown {
		events = fmt.Sprintf("%d of %s", t.shown, plural(t.seen, "event"))
	}
	var took time.Duration
	if !t.began.IsZero() {
		took = time.Since(t.began)
	}
	return fmt.Sprintf("%s, %s of data, %s, %s", events, size(t.bytes), elapsed.Text(took), plural(max(0, t.connections-1), "reconnection"))
}

// plural returns n and the noun in the right number.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// size returns n bytes in the largest unit of which there is at least one.
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

// duration rounds a delay or a limit to what a reader needs, and writes it as -t takes it.
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
