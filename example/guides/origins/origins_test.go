package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
)

// Whatever the answer is, a page of the allowed origin can read it, and no other can.
func TestAnswersOfEachKind(t *testing.T) {
	const friend = "https://app.example.com"
	for name, tt := range map[string]struct {
		method, path, cookie string
		shutdown             bool
		want                 int
	}{
		"no login":           {"GET", "/events", "", false, http.StatusUnauthorized},
		"HEAD":               {"HEAD", "/events", "login=x", false, http.StatusOK},
		"login":              {"POST", "/login", "", false, http.StatusNoContent},
		"not found":          {"GET", "/none", "", false, http.StatusNotFound},
		"method not allowed": {"POST", "/events", "login=x", false, http.StatusMethodNotAllowed},
		"shutting down":      {"GET", "/events", "login=x", true, http.StatusServiceUnavailable},
		"preflight":          {"OPTIONS", "/events", "", false, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := hub.New(hub.Config{})
			require.NoError(t, err)
			r := routes(h, friend)
			if tt.shutdown {
				require.NoError(t, r.Plugin().Shutdown(t.Context()))
			}
			ask := func(origin string) *httptest.ResponseRecorder {
				req := httptest.NewRequest(tt.method, "https://api.example.com"+tt.path, http.NoBody)
				req.Header.Set("Origin", origin)
				req.Header.Set("Sec-Fetch-Site", "same-site")
				if tt.cookie != "" {
					req.Header.Set("Cookie", tt.cookie)
				}
				if tt.method == http.MethodOptions {
					req.Header.Set("Access-Control-Request-Method", "GET")
					req.Header.Set("Access-Control-Request-Headers", "last-event-id")
				}
				w := httptest.NewRecorder()
				r.ServeHTTP(w, req)
				return w
			}
			w := ask(friend)
			require.Equal(t, tt.want, w.Code)
			require.Equal(t, []string{friend}, w.Header().Values("Access-Control-Allow-Origin"))
			require.Equal(t, []string{"true"}, w.Header().Values("Access-Control-Allow-Credentials"))
			require.Contains(t, w.Header().Values("Vary"), "Origin")
			if tt.method != http.MethodOptions {
				require.Equal(t, []string{"Sse-Gap, Retry-After"}, w.Header().Values("Access-Control-Expose-Headers"))
				require.Equal(t, tt.shutdown, w.Header().Get("Retry-After") != "")
			}

			w = ask("https://blog.example.com")
			if tt.method != http.MethodOptions { // package cors says 200 to it, without permission
				require.Equal(t, http.StatusForbidden, w.Code)
			}
			require.NotContains(t, w.Header(), "Access-Control-Allow-Origin")
			require.Contains(t, w.Header().Values("Vary"), "Origin")
		})
	}
}
