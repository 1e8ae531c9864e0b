// Where reconnections go after a redirect, with and without KeepRedirect.

package client_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

// The credentials that OnRequest sets are for the host that the caller knows.
func TestKeepRedirectDropsCredentialsOfOnRequest(t *testing.T) {
	n := newRedirectNet(t, func(w http.ResponseWriter, r *http.Request, _ string, n int) {
		switch n {
		case 1:
			redirectTo(w, http.StatusFound, "http://b.example.com/1")
		case 4:
			w.WriteHeader(http.StatusNoContent)
		default:
			streamOf("id: 7\ndata: x\n\n")(w, r)
		}
	})
	c := install(n.hc, client.Config{MaxReconnectionAttempts: 1, KeepRedirect: true, OnRequest: func(r *http.Request) error {
		for name, value := range secrets {
			r.Header.Set(name, value)
		}
		return nil
	}})
	_, err := collect(session(t, c, "http://a.example.com/0", headerOptions(impersonalHeader)...))
	require.NoError(t, err)
	requests := n.requests()
	require.Len(t, requests, 4)
	for _, hop := range requests[1:] {
		requireNoSecrets(t, hop)
	}
}

func TestReconnectionGoesToTheOriginalURL(t *testing.T) {
	for _, status := range redirectStatuses {
		for _, to := range []string{"http://a.example.com/1", "http://b.example.com/1"} {
			t.Run(fmt.Sprintf("%d to %s", status, to), func(t *testing.T) {
				n := newRedirectNet(t, redirectOnce(status, to, 6))
				from := "http://a.example.com/0?hunter2"
				_, err := collect(session(t, install(n.hc, client.Config{MaxReconnectionAttempts: 1}), from, headerOptions(secrets)...))
				require.NoError(t, err)
				require.Equal(t, []string{from, to, from, to, from, to}, n.urls())
				for i, hop := range n.requests() {
					if i%2 == 0 {
						require.Equal(t, []string{"Bearer hunter2"}, hop.Header["Authorization"], "of request %d", i)
					} else {
						require.Equal(t, strings.Contains(to, "a.example"), len(hop.Header["Authorization"]) > 0, "of request %d", i)
					}
					if i >= 2 {
						require.Equal(t, []string{fmt.Sprint(i &^ 1)}, hop.Header["Last-Event-Id"])
					}
				}
			})
		}
	}
}

func TestKeepRedirectMakesReconnectionsGoToWhereRedirectsLed(t *testing.T) {
	for _, status := range redirectStatuses {
		for to, away := range map[string]bool{
			"http://a.example.com/1":      false,
			"http://a.example.com:80/1":   false,
			"https://a.example.com/1":     false,
			"http://b.example.com/1":      true,
			"http://a.example.com:8080/1": true,
			"https://b.example.com/1":     true,
		} {
			t.Run(fmt.Sprintf("%d to %s", status, to), func(t *testing.T) {
				n := newRedirectNet(t, redirectOnce(status, to, 4))
				from := "http://a.example.com/0?hunter2"
				c := install(n.hc, client.Config{MaxReconnectionAttempts: 1, KeepRedirect: true})
				events, err := collect(session(t, c, from, headerOptions(secrets, impersonalHeader)...))
				require.NoError(t, err)
				require.Equal(t, []string{"2", "3"}, dataOf(events))
				require.Equal(t, []string{from, to, to, to}, n.urls())
				hops := n.requests()
				for i, id := range []string{"7", "7", "2", "3"} {
					require.Equal(t, []string{id}, hops[i].Header["Last-Event-Id"])
					hops[i].Header.Set("Last-Event-Id", "7") // the value that the helpers below expect
				}
				for _, hop := range hops[1:] {
					if away {
						requireNoSecrets(t, hop)
					} else {
						requireSecrets(t, hop)
					}
				}
			})
		}
	}
}

func TestKeepRedirectOverSeveralHops(t *testing.T) {
	urls := []string{"http://a.example.com/0", "http://b.example.com/1", "http://example.com/2"}
	along := redirectAlong(urls, 7)
	n := newRedirectNet(t, func(w http.ResponseWriter, r *http.Request, url string, n int) {
		if n == 5 {
			redirectTo(w, 302, "/5") // a second redirect changes the URL for all later requests
			return
		}
		along(w, r, url, n)
	})
	c := install(n.hc, client.Config{MaxReconnectionAttempts: 1, KeepRedirect: true})
	_, err := collect(session(t, c, urls[0], headerOptions(secrets, impersonalHeader)...))
	require.NoError(t, err)
	require.Equal(t, append(urls, "http://example.com/2", "http://example.com/2", "http://example.com/5", "http://example.com/5"), n.urls())
	for _, hop := range n.requests()[1:] {
		hop.Header.Del("Referer") // from example.com to itself
		requireNoSecrets(t, hop)
	}
}

func TestKeepRedirectByWayOfAnotherHostDropsCredentials(t *testing.T) {
	urls := []string{"http://a.example.com/0", "http://b.example.com/1", "http://a.example.com/chosen-by-b"}
	n := newRedirectNet(t, redirectAlong(urls, 5))
	c := install(n.hc, client.Config{MaxReconnectionAttempts: 1, KeepRedirect: true})
	_, err := collect(session(t, c, urls[0], headerOptions(secrets, impersonalHeader)...))
	require.NoError(t, err)
	require.Equal(t, append(urls, urls[2], urls[2]), n.urls())
	for _, hop := range n.requests()[1:] {
		requireNoSecrets(t, hop)
	}
}

func TestKeepRedirectDoesNotComeBackWithCredentials(t *testing.T) {
	n := newRedirectNet(t, func(w http.ResponseWriter, r *http.Request, _ string, n int) {
		switch n {
		case 1:
			redirectTo(w, 302, "http://b.example.com/1")
		case 3:
			redirectTo(w, 302, "http://a.example.com/2")
		case 6:
			w.WriteHeader(http.StatusNoContent)
		default:
			streamOf("data: x\n\n")(w, r)
		}
	})
	c := install(n.hc, client.Config{MaxReconnectionAttempts: 1, KeepRedirect: true})
	_, err := collect(session(t, c, "http://a.example.com/0", headerOptions(secrets, impersonalHeader)...))
	require.NoError(t, err)
	require.Equal(t, []string{
		"http://a.example.com/0", "http://b.example.com/1",
		"http://b.example.com/1", "http://a.example.com/2",
		"http://a.example.com/2", "http://a.example.com/2",
	}, n.urls())
	for _, hop := range n.requests()[1:] {
		requireNoSecrets(t, hop)
	}
}

func TestKeepRedirectAndTheHostHeader(t *testing.T) {
	for to, host := range map[string]string{
		"/1":                     "virtual.test",
		"http://b.example.com/1": "b.example.com",
	} {
		n := newRedirectNet(t, redirectOnce(302, to, 4))
		c := install(n.hc, client.Config{MaxReconnectionAttempts: 1, KeepRedirect: true})
		_, err := collect(session(t, c, "http://a.example.com/0", client.WithHeader("Host", "virtual.test")))
		require.NoError(t, err)
		hops := n.requests()
		require.Len(t, hops, 4)
		require.Equal(t, "virtual.test", hops[0].Host)
		for _, hop := range hops[1:] {
			require.Equal(t, host, hop.Host)
		}
	}
}

func TestKeepRedirectOfAPost(t *testing.T) {
	for _, tt := range []struct {
		status       int
		method, body string // of the requests after the redirect
	}{
		{301, "GET", ""},
		{302, "GET", ""},
		{303, "GET", ""},
		{307, "POST", "order"},
		{308, "POST", "order"},
	} {
		t.Run(fmt.Sprint(tt.status), func(t *testing.T) {
			n := newRedirectNet(t, redirectOnce(tt.status, "/1", 4))
			c := install(n.hc, client.Config{MaxReconnectionAttempts: 1, KeepRedirect: true, Resend: client.ResendAlways})
			_, err := collect(session(t, c, "http://a.example.com/0", client.WithBody("text/plain", strings.NewReader("order"))))
			require.NoError(t, err)
			hops := n.requests()
			require.Len(t, hops, 4)
			require.Equal(t, "order", hops[0].Body)
			for _, hop := range hops[1:] {
				require.Equal(t, "/1", hop.URI)
				require.Equal(t, tt.method, hop.Method)
				require.Equal(t, tt.body, hop.Body)
				require.Equal(t, tt.body != "", hop.Header["Content-Type"] != nil)
			}
		})
	}
}

func TestRedirectedPostIsNotSentAgainUnasked(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for _, status := range []int{307, 308} {
			n := newRedirectNet(t, redirectOnce(status, "/1", 9))
			c := install(n.hc, client.Config{MaxReconnectionAttempts: 3, KeepRedirect: keep})
			_, err := collect(session(t, c, "http://a.example.com/0", client.WithBody("text/plain", strings.NewReader("order"))))
			require.NoError(t, err)
			require.Len(t, n.requests(), 2)
		}
	}
}

func TestKeepRedirectForgetsARedirectThatDidNotOpen(t *testing.T) {
	n := newRedirectNet(t, func(w http.ResponseWriter, r *http.Request, url string, n int) {
		switch n {
		case 1:
			redirectTo(w, 302, "http://b.example.com/1")
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 3:
			streamOf("data: x\n\n")(w, r)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	c := install(n.hc, client.Config{MaxReconnectionAttempts: 1, KeepRedirect: true})
	_, err := collect(session(t, c, "http://a.example.com/0", headerOptions(secrets)...))
	require.NoError(t, err)
	require.Equal(t, []string{"http://a.example.com/0", "http://b.example.com/1", "http://a.example.com/0", "http://a.example.com/0"}, n.urls())
	require.Equal(t, []string{"Bearer hunter2"}, n.requests()[2].Header["Authorization"])
}

func TestKeepRedirectShowsOnRequestWhereItGoes(t *testing.T) {
	n := newRedirectNet(t, redirectOnce(302, "http://b.example.com/1?x", 4))
	var urls, tokens []string
	c := install(n.hc, client.Config{
		MaxReconnectionAttempts: 1,
		KeepRedirect:            true,
		OnRequest: func(r *http.Request) error {
			urls = append(urls, r.URL.String())
			tokens = append(tokens, r.Header.Get("Authorization"))
			return nil
		},
	})
	_, err := collect(session(t, c, "http://a.example.com/0", headerOptions(secrets)...))
	require.NoError(t, err)
	require.Equal(t, []string{"http://a.example.com/0", "http://b.example.com/1?x", "http://b.example.com/1?x"}, urls)
	require.Equal(t, []string{"Bearer hunter2", "", ""}, tokens)
}

func TestKeepRedirectIsOfOneSession(t *testing.T) {
	n := newRedirectNet(t, redirectOnce(302, "http://b.example.com/1", 99))
	c := install(n.hc, client.Config{KeepRedirect: true})
	for range 2 {
		_, err := collect(session(t, c, "http://a.example.com/0", headerOptions(impersonalHeader)...))
		require.NoError(t, err)
	}
	require.Equal(t, []string{
		"http://a.example.com/0", "http://b.example.com/1",
		"http://a.example.com/0", "http://b.example.com/1",
	}, n.urls())
}
