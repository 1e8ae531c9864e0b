package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/middleware"
)

func TestLastEventIDFromQuery(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		query  string
		header string
		want   string
	}{
		"none":                       {"", "", ""},
		"other parameters":           {"id=7&event=8&lastEvent=9&eventId=1", "", ""},
		"lastEventId":                {"lastEventId=7", "", "7"},
		"Last-Event-ID":              {"Last-Event-ID=7", "", "7"},
		"last_event_id":              {"last_event_id=7", "", "7"},
		"evs_last_event_id":          {"evs_last_event_id=7", "", "7"},
		"lasteventid":                {"lasteventid=7", "", "7"},
		"LAST_EVENT_ID":              {"LAST_EVENT_ID=7", "", "7"},
		"among others":               {"a=1&lastEventId=7&b=2", "", "7"},
		"escaped":                    {"lastEventId=a%2Fb%3Ac", "", "a/b:c"},
		"with an inner space or tab": {"lastEventId=a+b%09c", "", "a b\tc"},
		"beyond ASCII":               {"lastEventId=%C3%BC", "", "ü"},
		"long":                       {"lastEventId=0123456789abcdef0123456789abcdef", "", "0123456789abcdef0123456789abcdef"},
		"the first of two":           {"lastEventId=7&lastEventId=8", "", "7"},
		"beside a header":            {"lastEventId=7", "9", "9"},
		"a header alone":             {"", "9", "9"},
		"empty":                      {"lastEventId=", "", ""},
		"no value":                   {"lastEventId", "", ""},
		"line feed":                  {"lastEventId=7%0AX-Forged:1", "", ""},
		"carriage return":            {"lastEventId=7%0D", "", ""},
		"NUL":                        {"lastEventId=%00", "", ""},
		"DEL":                        {"lastEventId=a%7F", "", ""},
		"no query that can be read":  {"lastEventId=%zz", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			h := middleware.LastEventIDFromQuery(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				got = append(got, r.Header.Values("Last-Event-ID")...)
			}))
			r := httptest.NewRequest(http.MethodGet, "/events?"+tt.query, http.NoBody)
			if tt.header != "" {
				r.Header.Set("Last-Event-ID", tt.header)
			}
			before := r.Header.Clone()
			h.ServeHTTP(httptest.NewRecorder(), r)
			if tt.want == "" {
				require.Empty(t, got)
			} else {
				require.Equal(t, []string{tt.want}, got)
			}
			require.Equal(t, before, r.Header, "the caller's request must not change")
		})
	}
}

// An unusable value is skipped, so it does not hide a value under another name.
func TestLastEventIDFromQueryPassesOverAnEmptyOne(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"lastEventId=&last_event_id=7", "last_event_id=%0A&Last-Event-ID=7"} {
		for range 50 {
			var got string
			middleware.LastEventIDFromQuery(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				got = r.Header.Get("Last-Event-ID")
			})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/?"+query, http.NoBody))
			require.Equal(t, "7", got, query)
		}
	}
}

// A request with several ids gets the same id each time.
func TestLastEventIDFromQueryIsTheSameEachTime(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for range 100 {
		middleware.LastEventIDFromQuery(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			seen[r.Header.Get("Last-Event-ID")] = true
		})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/?lastEventId=1&last_event_id=2&evs_last_event_id=3", http.NoBody))
	}
	require.Len(t, seen, 1)
}

func TestLastEventIDFromQueryReachesTheSession(t *testing.T) {
	t.Parallel()
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.Use(middleware.LastEventIDFromQuery)
	r.SSE("/events", func(s *sse.ServerSession) error { return s.SendData("after " + s.LastEventID()) })
	for name, header := range map[string]http.Header{
		"of a program": {},
		"of a browser": {"Accept": {"text/event-stream"}, "Accept-Encoding": {"gzip, br"}},
	} {
		require.Equal(t, "data: after 7\n\n", serve(r, "GET", "/events?lastEventId=7", header).Body.String(), name)
	}
}
