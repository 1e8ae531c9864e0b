// Package lasteventid reads the last event id of clients that cannot set the header.
package lasteventid

import (
	"net/url"
	"strings"
)

// Header is what other clients send it in (WHATWG HTML §9.2.4).
const Header = "Last-Event-ID"

// params are the names under which it stands in a query, lower-case and without
// separators: lastEventId (the EventSource polyfills of Yaffle and others, Mercure),
// Last-Event-ID, last_event_id, evs_last_event_id (AmvTek's EventSource).
var params = map[string]bool{"lasteventid": true, "evslasteventid": true}

// FromQuery returns the first value of the query, which it reads in order, that is
// not empty and could be a header.
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

var separators = strings.NewReplacer("-", "", "_", "")

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
