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

// checkResponse returns nil if resp opens a stream (WHATWG HTML §9.2.2) or has status
// 204. Otherwise it returns a [*StatusError] or [*ContentError].
func checkResponse(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusNoContent:
		return nil
	case http.StatusOK:
	default:
		err := &StatusError{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header)}
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

// retryStatus is the default value of Config.RetryStatus.
func retryStatus(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// retryAfter returns the wait that the Retry-After header asks for (RFC 9110 §10.2.3), or
// 0 if it asks for none.
func retryAfter(h http.Header) time.Duration {
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

// maxRefusal is how many bytes the client reads of the body of a refusal, which is a
// response that does not open a stream.
const maxRefusal = 64 << 10

// readUpTo returns the first limit bytes of r, or fewer if r ends or fails before.
func readUpTo(r io.Reader, limit int64) []byte {
	if r == nil {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(r, limit)) // what was read before an error is enough
	return body
}

// mediaType returns a Content-Type in lower case and without its parameters.
func mediaType(value string) string {
	value, _, _ = strings.Cut(value, ";")
	return strings.ToLower(strings.Trim(value, " \t"))
}
