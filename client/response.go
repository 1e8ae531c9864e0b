// The response's header: whether it opens a stream and, if not, what it says about the
// next attempt.

package client

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// CheckResponse is the default value of Config.CheckResponse. It returns nil if resp
// opens a stream (WHATWG HTML §9.2.2): it has status 200, no Content-Encoding, and the
// Content-Type text/event-stream. Otherwise it returns a [*StatusError] or [*ContentError],
// about the first of the three that is missing.
func CheckResponse(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		err := &StatusError{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header), redirected: changedMethod(resp)}
		switch resp.StatusCode {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
			err.noLocation = resp.Header.Get("Location") == ""
		}
		return err
	}
	// A Transport that decompresses the body removes the header. The type comes last, so that
	// a Config.CheckResponse that allows another type can still rely on the rest.
	if value := resp.Header.Get("Content-Encoding"); value != "" && mediaType(value) != "identity" {
		return &ContentError{"Content-Encoding", value}
	}
	if value := resp.Header.Get("Content-Type"); mediaType(value) != contentType {
		return &ContentError{"Content-Type", value}
	}
	return nil
}

// retryAfter returns the wait that the header asks for, or 0 if it asks for none.
// Retry-After-Ms, which some LLM APIs send, is the more exact form of Retry-After (RFC
// 9110 §10.2.3) and comes first.
func retryAfter(h http.Header) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms >= 0 {
		return time.Duration(min(ms*float64(time.Millisecond), math.MaxInt64/2))
	}
	value := h.Get("Retry-After")
	if value != "" && strings.Trim(value, "0123456789") == "" {
		seconds, _ := strconv.ParseUint(value, 10, 64) // on overflow it returns the largest number
		return time.Duration(min(seconds, uint64(math.MaxInt64/time.Second))) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(date))
	}
	return 0
}

// How much the client reads of the body of a refusal, which is a response that does not
// open a stream, and for how long. A body may stay open for as long as the server likes,
// and the caller must not wait for it.
const (
	maxRefusal  = 64 << 10
	refusalTime = 500 * time.Millisecond
)

// checkResponse returns a Failure if resp does not open a stream, with what arrives of its
// body soon. In a call of Client.Do it leaves the body alone, because the caller may get it.
func (s *Session) checkResponse(c *conn, resp *http.Response) *Failure {
	check := s.call.cfg.CheckResponse
	if resp.StatusCode == http.StatusNoContent {
		if !s.either {
			return nil
		}
		check = CheckResponse
	}
	err := notEOF(check(resp))
	if err == nil {
		return nil
	}
	f := &Failure{Err: err, Response: resp}
	if _, ok := errors.AsType[*StatusError](err); !ok {
		f.permanent = true
	}
	read := func() {
		f.Body, f.Partial = readRefusal(resp, func() { c.cancel(errRefusal) })
		c.cancel(nil)
	}
	if !s.either {
		read()
		return f
	}
	f.discard = func() {
		read()
		f.Response = newError(resp, f.Body, nil).Response
	}
	return f
}

// notEOF returns err, which a hook has returned, in a form that does not look like the
// orderly end of a stream.
func notEOF(err error) error {
	if inOrder(err) {
		return fmt.Errorf("unexpected %w", err)
	}
	return err
}

// readRefusal reads the body of resp for at most refusalTime, and at most maxRefusal bytes
// of it. Then it calls stop, if the body goes on, and closes the body. partial reports that
// the body goes on, or broke off.
func readRefusal(resp *http.Response, stop func()) (body []byte, partial bool) {
	defer resp.Body.Close()
	timer := time.AfterFunc(refusalTime, func() {
		stop()
		_ = resp.Body.Close() // for a Transport whose body does not heed the context
	})
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal+1))
	if len(body) > maxRefusal {
		timer.Stop()
		stop()
		return body[:maxRefusal], true
	}
	late := !timer.Stop() // net/http may report the end of a body that is closed meanwhile
	return body, err != nil || late
}

// mediaType returns a Content-Type in lower case and without its parameters.
func mediaType(value string) string {
	value, _, _ = strings.Cut(value, ";")
	return strings.ToLower(strings.Trim(value, " \t"))
}
