package guard

import "net/http"

// OwnPagesOnly is middleware that answers 403 to the requests that a browser sends for
// a page of another origin. It lets pass what this server's own pages send, and what
// does not come from a page: curl, and an address that the user typed.
//
// The rule is that of http.CrossOriginProtection, which looks at the header fields
// Sec-Fetch-Site and Origin. That type never refuses a GET, because a GET should change
// nothing. The chat's stream is a GET that does: it adds its client to the people who
// are here. So OwnPagesOnly has every request checked as if it were a POST.
func OwnPagesOnly(next http.Handler) http.Handler {
	var protection http.CrossOriginProtection
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asPost := r.WithContext(r.Context()) // a shallow copy
		asPost.Method = http.MethodPost
		if err := protection.Check(asPost); err != nil {
			http.Error(w, "a page of another site sent this request; only this server's own pages may join the chat, post to it, or close streams",
				http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
