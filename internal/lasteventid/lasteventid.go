// Package lasteventid finds the last event id in the query of a request, for clients that
// cannot set the Last-Event-ID header. It imports only the standard library.
package lasteventid

import (
	"net/url"
	"strings"
)

// Header is the name of the header in which other clients send the id (WHATWG HTML §9.2.4).
const Header = "Last-Event-ID"

// Max is the length of the longest id that a hub looks up, in bytes. It is also the longest that
// package client sends by default. A request can have one of a megabyte.
const Max = 4 << 10

// params contains the names of the query parameter, in lower case and without separators.
// The names in use are lastEventId (the EventSource polyfills of Yaffle and others, and
// Mercure), Last-Event-ID, last_event_id, and evs_last_event_id (AmvTek's EventSource).
var params = map[string]bool{"lasteventid": true, "evslasteventid": true}

// FromQuery returns the last event id in rawQuery, or "" if there is none. It looks at the
// parameters in order, and returns the first value that is not empty and that is valid in
// a header: one without control characters other than a tab.
func FromQuery(rawQuery string) string {
	for pair := range strings.SplitSeq(rawQuery, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil || !params[separators.Replace(strings.ToLower(name))] {
			continue
		}
		value, err = url.QueryUnescape(value)
		if err == nil && value != "" && !strings.ContainsFunc(value, isControl) {
			return value
		}
	}
	return ""
}

// separators removes the separators from a parameter's name.
var separators = strings.NewReplacer("-", "", "_", "")

// isControl reports whether r is a control character other than a tab.
func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
