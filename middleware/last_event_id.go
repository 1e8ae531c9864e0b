package middleware

// This file defines LastEventIDFromQuery, for clients that cannot set a header.

import (
	"maps"
	"net/http"

	"github.com/chi-sse/sse/internal/lasteventid"
)

// LastEventIDFromQuery sets the Last-Event-ID header of a request that has none from the
// request's query. EventSource polyfills put the last event id into the query because they
// cannot set the header. The parameter is lastEventId, Last-Event-ID, last_event_id or
// evs_last_event_id, in upper or lower case. If there are several, the first one counts
// that is not empty and that is valid as a header.
//
// The header is set in a copy of the request. The original request does not change.
func LastEventIDFromQuery(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" && r.Header.Get(lasteventid.Header) == "" {
			if id := lasteventid.FromQuery(r.URL.RawQuery); id != "" {
				r2 := *r
				r2.Header = maps.Clone(r.Header)
				r2.Header.Set(lasteventid.Header, id)
				r = &r2
			}
		}
		next.ServeHTTP(w, r)
	})
}
