// Header fields: which names and values HTTP allows, and which values a request has by
// default. Pure functions, without a session.

package client

import (
	"net/http"
	"slices"
	"strings"
)

const (
	contentType = "text/event-stream"
	lastEventID = "Last-Event-Id" // the spelling of http.Header
)

// lastEventIDValue returns the value of the Last-Event-ID header for id, and whether a
// header can carry it. An id from a stream may hold control characters, which net/http
// refuses to send. Spaces and tabs at its ends are cut, because HTTP drops them anyway.
func lastEventIDValue(id string, limit int) (value string, ok bool) {
	value = strings.Trim(id, " \t")
	if len(value) > limit || !validFieldValue(value) {
		return "", false
	}
	return value, true
}

// validFieldValue reports whether value is allowed as the value of a header field (RFC
// 9110 §5.5).
func validFieldValue(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7F {
			return false
		}
	}
	return true
}

// allValid reports whether each of values is allowed as the value of a header field.
func allValid(values []string) bool {
	return !slices.ContainsFunc(values, func(value string) bool { return !validFieldValue(value) })
}

// validToken reports whether name is a token, as the name of a header field and a method
// must be (RFC 9110 §5.6.2).
func validToken(name string) bool {
	for i := range len(name) {
		c := name[i]
		alphanumeric := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alphanumeric && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return name != ""
}

// setDefaultField sets a header field that the caller has not set.
func setDefaultField(h http.Header, key, value string) {
	if len(h[key]) == 0 {
		h[key] = []string{value}
	}
}
