package client

import (
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// check returns why resp does not open a stream, if it does not (§9.2.2). A 204
// passes.
func check(resp *http.Response) error {
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
	// What a Transport has decompressed has the header no more.
	if value := resp.Header.Get("Content-Encoding"); value != "" && mediaType(value) != "identity" {
		return &ContentError{"Content-Encoding", value}
	}
	return nil
}

// retryStatus is the default of Config.RetryStatus.
func retryStatus(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// retryAfter returns the wait that the header Retry-After asks for (RFC 9110
// §10.2.3), or 0.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if value != "" && strings.Trim(value, "0123456789") == "" {
		seconds, _ := strconv.ParseUint(value, 10, 64) // too many are the most there can be
		return time.Duration(min(seconds, uint64(math.MaxInt64/time.Second))) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(date))
	}
	return 0
}

// maxRefusal bounds what is read of the body of a response that is no stream.
const maxRefusal = 64 << 10

// readUpTo reads r to its end, or to max bytes.
func readUpTo(r io.Reader, limit int64) []byte {
	if r == nil {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(r, limit)) // what there is of it
	return body
}

// mediaType returns the value of a Content-Type without its parameters.
func mediaType(value string) string {
	value, _, _ = strings.Cut(value, ";")
	return strings.ToLower(strings.Trim(value, " \t"))
}
