// The response's header: whether it opens a stream and, if not, what it says about the
// next attempt.

package client

import (
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// CheckResponse is the default value of Config.CheckResponse. It returns nil if resp
// opens a stream (WHATWG HTML §9.2.2): it has status 200, the Content-Type
// text/event-stream, and no Content-Encoding. Otherwise it returns a [*StatusError] or
// [*ContentError].
func CheckResponse(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		err := &StatusError{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header), redirected: changedMethod(resp)}
		switch resp.StatusCode {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
			err.noLocation = resp.Header.Get("Location") == ""
		}
		return err
	}
	if value := resp.Header.Get("Content-Type"); mediaType(value) != contentType {
		return &ContentError{"Content-Type", value}
	}
	// A Transport that decompresses the body removes the header.
	if value := resp.Header.Get("Content-Encoding"); value != "" && mediaType(value) != "identity" {
		return &ContentError{"Content-Encoding", value}
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

// readRefusal reads the body of resp, at most maxRefusal bytes, until stop is called after
// refusalTime. stop must end a Read of the body that waits. partial reports that the body
// goes on.
func readRefusal(resp *http.Response, stop func()) (body []byte, partial bool) {
	timer := time.AfterFunc(refusalTime, stop)
	defer timer.Stop()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal+1))
	if len(body) > maxRefusal {
		return body[:maxRefusal], true
	}
	return body, err != nil
}

// mediaType returns a Content-Type in lower case and without its parameters.
func mediaType(value string) string {
	value, _, _ = strings.Cut(value, ";")
	return strings.ToLower(strings.Trim(value, " \t"))
}
