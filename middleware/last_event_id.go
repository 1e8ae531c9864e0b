package middleware

import (
	"maps"
	"net/http"

	"github.com/chi-sse/sse/internal/lasteventid"
)

// LastEventIDFromQuery gives a request without a Last-Event-ID header the one that
// a polyfill has put into the query: lastEventId, Last-Event-ID, last_event_id or
// evs_last_event_id, in any case. The first one counts that is not empty and could
// be a header.
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
