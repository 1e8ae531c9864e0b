package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
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
	s.body(body)
}

// rest prints what a connection brought after its last event, if that matters.
func (s *status) rest(rest []byte) {
	switch restOf(rest) {
	case restEvent:
		s.line(plain, "  The event that was cut off:")
	case restText:
		s.line(plain, "  The end of the stream is no event:")
	case restNothing:
		return
	}
	s.body(rest)
}

// body prints the beginning of text.
func (s *status) body(text []byte) {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
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
