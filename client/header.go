package client

import (
	"net/http"
	"strings"
)

const (
	contentType = "text/event-stream"
	lastEventID = "Last-Event-Id" // as http.Header spells it

	// maxSentID bounds a Last-Event-ID, since servers refuse long headers, mostly
	// beyond 8 KiB: such an id would shut the client out for good.
	maxSentID = 4 << 10
)

// headerValue returns id as it can be sent as Last-Event-ID, and whether it can. An
// id from a stream may hold control characters, which net/http refuses to send.
// Spaces at its ends are lost on the way in any case.
func headerValue(id string) (value string, ok bool) {
	value = strings.Trim(id, " \t")
	if len(value) > maxSentID {
		return "", false
	}
	if !printable(value) {
		return "", false
	}
	return value, true
}

// printable reports whether value can be that of a header field (RFC 9110 §5.5).
func printable(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7F {
			return false
		}
	}
	return true
}

// token reports whether name can be that of a header field (RFC 9110 §5.6.2).
func token(name string) bool {
	for i := range len(name) {
		c := name[i]
		alphanumeric := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alphanumeric && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return name != ""
}

func setMissing(h http.Header, key, value string) {
	if len(h[key]) == 0 {
		h[key] = []string{value}
	}
}
