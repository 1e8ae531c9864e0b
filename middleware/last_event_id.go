package middleware

import (
	"maps"
	"net/http"
	"net/url"
	"strings"
)

const lastEventIDHeader = "Last-Event-ID"

// lastEventIDParams are the names under which clients that cannot set the header
// send it, lower-case and without separators: lastEventId (the EventSource
// polyfills of Yaffle and others, Mercure), Last-Event-ID, last_event_id,
// evs_last_event_id (AmvTek's EventSource).
var lastEventIDParams = map[string]bool{"lasteventid": true, "evslasteventid": true}

// LastEventIDFromQuery gives a request without a Last-Event-ID header the one that
// a polyfill has put into the query: lastEventId, Last-Event-ID, last_event_id or
// evs_last_event_id, in any case. The first one counts that is not empty and could
// be a header.
func LastEventIDFromQuery(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" && r.Header.Get(lastEventIDHeader) == "" {
			if id := lastEventIDOf(r); id != "" {
				r2 := *r
				r2.Header = maps.Clone(r.Header)
				r2.Header.Set(lastEventIDHeader, id)
				r = &r2
			}
		}
		next.ServeHTTP(w, r)
	})
}

// lastEventIDOf returns the first such value of the query, which it reads in order.
func lastEventIDOf(r *http.Request) string {
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil || !lastEventIDParams[separators.Replace(strings.ToLower(name))] {
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
