// Redirects: what the client sends to another host, which redirects it follows, and how far.

package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

// redirectHop holds a request to a host of a redirectNet.
type redirectHop struct {
	requestSeen

	url string // scheme, host and URI
}

// redirectNet is a network in which one handler serves every host name and port, over http
// and https.
type redirectNet struct {
	hc *http.Client

	mu     sync.Mutex
	hops   []redirectHop
	answer func(w http.ResponseWriter, r *http.Request, url string, n int)
}

// newRedirectNet returns a network in which answer answers each request. n is the number
// of the request, from 1.
func newRedirectNet(t testing.TB, answer func(w http.ResponseWriter, r *http.Request, url string, n int)) *redirectNet {
	t.Helper()
	n := &redirectNet{answer: answer}
	handler := func(scheme string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			url := scheme + "://" + r.Host + r.RequestURI
			body, _ := io.ReadAll(r.Body)
			seen := requestSeen{r.Method, r.RequestURI, r.Host, string(body), r.Proto, r.ContentLength, r.Header.Clone()}
			n.mu.Lock()
			n.hops = append(n.hops, redirectHop{seen, url})
			number := len(n.hops)
			n.mu.Unlock()
			n.answer(w, r, url, number)
		}
	}
	plain := serve(t, handler("http"))
	secure := serve(t, handler("https"), testkit.HTTP1TLS.Setup)
	d := &requestDialer{servers: map[string]string{"": requestAddr(plain)}}
	n.hc = d.client(t)
	transport := n.hc.Transport.(*http.Transport)
	transport.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		config := transport.TLSClientConfig.Clone()
		config.ServerName, _, _ = net.SplitHostPort(address)
		return (&tls.Dialer{Config: config}).DialContext(ctx, network, requestAddr(secure))
	}
	return n
}

func (n *redirectNet) requests() []redirectHop {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]redirectHop(nil), n.hops...)
}

// urls returns the URL of each request.
func (n *redirectNet) urls() []string {
	var urls []string
	for _, hop := range n.requests() {
		urls = append(urls, hop.url)
	}
	return urls
}

// redirectTo answers with a redirect. It does not use http.Redirect, which cleans the URL.
func redirectTo(w http.ResponseWriter, status int, location string) {
	w.Header().Set("Location", location)
	w.WriteHeader(status)
}

// redirectAlong returns a function for newRedirectNet, which redirects from each of urls to
// the next. It answers request number last (0: none) with 204, and the others with a stream.
func redirectAlong(urls []string, last int) func(w http.ResponseWriter, r *http.Request, url string, n int) {
	return func(w http.ResponseWriter, r *http.Request, _ string, n int) {
		switch {
		case n < len(urls):
			redirectTo(w, 302, urls[n])
		case n == last:
			w.WriteHeader(http.StatusNoContent)
		default:
			streamOf("data: x\n\n")(w, r)
		}
	}
}

var redirectStatuses = []int{301, 302, 303, 307, 308}

// secrets lists header fields that say something about the caller. Every value holds
// "hunter2".
var secrets = map[string]string{
	"Authorization":       "Bearer hunter2",
	"Cookie":              "session=hunter2",
	"X-Api-Key":           "hunter2",
	"Proxy-Authorization": "Basic hunter2",
	"X-Csrf-Token":        "hunter2",
	"Www-Authenticate":    "hunter2",
	"Referer":             "http://intranet.test/?hunter2",
	"Origin":              "http://hunter2.test",
}

// impersonalHeader lists header fields that every host may see.
var impersonalHeader = map[string]string{
	"Accept-Language": "de",
	"User-Agent":      "me/1",
	"Last-Event-Id":   "7",
}

func headerOptions(headers ...map[string]string) []client.Option {
	var options []client.Option
	for _, header := range headers {
		for key, value := range header {
			options = append(options, client.WithHeader(key, value))
		}
	}
	return options
}

// requireSecrets asserts that a request has all secrets and all other fields.
func requireSecrets(t *testing.T, hop redirectHop) {
	t.Helper()
	for key, value := range secrets {
		if key == "Referer" {
			require.NotEmpty(t, hop.Header[key], "at %s", hop.url)
			continue // net/http sets another one
		}
		require.Equal(t, []string{value}, hop.Header[key], "%s at %s", key, hop.url)
	}
	for key, value := range impersonalHeader {
		require.Equal(t, []string{value}, hop.Header[key], "%s at %s", key, hop.url)
	}
}

// requireNoSecrets asserts that a request has every header field that all hosts may see,
// and no others.
func requireNoSecrets(t *testing.T, hop redirectHop) {
	t.Helper()
	want := http.Header{
		"Accept":          {"text/event-stream"},
		"Accept-Encoding": {"identity"},
		"Cache-Control":   {"no-cache"},
	}
	for key, value := range impersonalHeader {
		want[key] = []string{value}
	}
	require.Equal(t, want, hop.Header, "at %s", hop.url)
}

// redirectChains lists sequences of redirects. away says for each URL whether the requests
// have left the first host.
var redirectChains = []struct {
	name string
	urls []string
	away []bool
}{
	{"same host", []string{"http://a.example.com/0?hunter2", "http://a.example.com/1"}, []bool{false, false}},
	{"same host with the default port", []string{"http://a.example.com/0?hunter2", "http://a.example.com:80/1"}, []bool{false, false}},
	{"same host and port", []string{"http://a.example.com:8080/0?hunter2", "http://a.example.com:8080/1"}, []bool{false, false}},
	{"same IPv6 host", []string{"http://[::1]:8080/0?hunter2", "http://[::1]:8080/1"}, []bool{false, false}},
	{"up to https", []string{"http://a.example.com/0?hunter2", "https://a.example.com/1"}, []bool{false, false}},
	{"another name", []string{"http://a.example.com/0?hunter2", "http://b.example.com/1"}, []bool{false, true}},
	{"subdomain", []string{"http://example.com/0?hunter2", "http://a.example.com/1"}, []bool{false, true}},
	{"parent domain", []string{"http://a.example.com/0?hunter2", "http://example.com/1"}, []bool{false, true}},
	{"another port", []string{"http://a.example.com:8080/0?hunter2", "http://a.example.com:8081/1"}, []bool{false, true}},
	{"no port", []string{"http://a.example.com:8080/0?hunter2", "http://a.example.com/1"}, []bool{false, true}},
	{"https port over http", []string{"http://a.example.com:8080/0?hunter2", "https://a.example.com:8443/1"}, []bool{false, true}},
	{"name for address", []string{"http://127.0.0.1:8080/0?hunter2", "http://localhost:8080/1"}, []bool{false, true}},
	{"address for name", []string{"http://localhost:8080/0?hunter2", "http://127.0.0.1:8080/1"}, []bool{false, true}},
	{"IPv6 for IPv4", []string{"http://127.0.0.1:8080/0?hunter2", "http://[::1]:8080/1"}, []bool{false, true}},
	{"down to http", []string{"https://a.example.com/0?hunter2", "http://a.example.com/1"}, []bool{false, true}},
	{"down to http on the same port", []string{"https://a.example.com:8443/0?hunter2", "http://a.example.com:8443/1"}, []bool{false, true}},
	{"up to https on the same port", []string{"http://a.example.com:8080/0?hunter2", "https://a.example.com:8080/1"}, []bool{false, true}},
	{"https to https", []string{"https://a.example.com/0?hunter2", "https://a.example.com:443/1"}, []bool{false, false}},
	{"https to another", []string{"https://a.example.com/0?hunter2", "https://b.example.com/1"}, []bool{false, true}},
	{"there and back", []string{"http://a.example.com/0?hunter2", "http://b.example.com/1", "http://a.example.com/2"}, []bool{false, true, true}},
	{"there and on", []string{"http://a.example.com/0?hunter2", "http://b.example.com/1", "http://b.example.com/2"}, []bool{false, true, true}},
	{"on, then there", []string{"http://a.example.com/0?hunter2", "http://a.example.com/1?hunter2", "http://b.example.com/2"}, []bool{false, false, true}},
	{
		"up, down and up again",
		[]string{"http://a.example.com/0?hunter2", "https://a.example.com/1", "http://a.example.com/2"},
		[]bool{false, false, false},
	},
	{
		"far away",
		[]string{"http://a.example.com/0?hunter2", "http://b.example.com/1", "http://example.com/2", "http://b.example.com/3", "http://a.example.com/4"},
		[]bool{false, true, true, true, true},
	},
}

func TestRedirectToAnotherHostDropsCredentials(t *testing.T) {
	for _, chain := range redirectChains {
		for _, status := range redirectStatuses {
			t.Run(fmt.Sprintf("%s by %d", chain.name, status), func(t *testing.T) {
				n := newRedirectNet(t, func(w http.ResponseWriter, r *http.Request, _ string, n int) {
					if n < len(chain.urls) {
						redirectTo(w, status, chain.urls[n])
						return
					}
					streamOf("data: x\n\n")(w, r)
				})
				events, err := collect(session(t, install(n.hc, client.Config{}), chain.urls[0], headerOptions(secrets, impersonalHeader)...))
				require.NoError(t, err)
				require.Equal(t, []string{"x"}, dataOf(events))
				hops := n.requests()
				require.Len(t, hops, len(chain.urls))
				for i, hop := range hops {
					require.True(t, strings.EqualFold(chain.urls[i], hop.url), hop.url)
					if chain.away[i] {
						requireNoSecrets(t, hop)
					} else {
						requireSecrets(t, hop)
					}
				}
			})
		}
	}
}

func TestRedirectDownToHTTPDropsCredentialsOnTheWayBackToo(t *testing.T) {
	urls := []string{"https://a.example.com/0", "http://a.example.com/1", "https://a.example.com/2"}
	n := newRedirectNet(t, redirectAlong(urls, 0))
	_, err := collect(session(t, install(n.hc, client.Config{}), urls[0], headerOptions(secrets, impersonalHeader)...))
	require.NoError(t, err)
	hops := n.requests()
	require.Equal(t, urls, n.urls())
	requireSecrets(t, hops[0])
	requireNoSecrets(t, hops[1])
	requireNoSecrets(t, hops[2])
}

func TestRedirectToAnotherHostDropsWhatOnRequestHasSet(t *testing.T) {
	n := newRedirectNet(t, func(w http.ResponseWriter, r *http.Request, _ string, n int) {
		if n == 1 {
			redirectTo(w, 302, "http://b.example.com/1")
			return
		}
		streamOf("data: x\n\n")(w, r)
	})
	calls := 0
	c := install(n.hc, client.Config{OnRequest: func(r *http.Request) error {
		calls++
		r.Header.Set("Authorization", "Bearer hunter2")
		r.Header["x-lower-case"] = []string{"hunter2"}
		r.URL.RawQuery = "hunter2"
		return nil
	}})
	_, err := collect(session(t, c, "http://a.example.com/0", headerOptions(impersonalHeader)...))
	require.NoError(t, err)
	hops := n.requests()
	require.Equal(t, []string{"Bearer hunter2"}, hops[0].Header["Authorization"])
	requireNoSecrets(t, hops[1])
	require.Equal(t, 1, calls, "OnRequest was called for a redirect")
}

func TestRedirectOfABodyToAnotherHostTellsItsType(t *testing.T) {
	n := newRedirectNet(t, redirectOnce(http.StatusTemporaryRedirect, "http://b.example.com/1", 9))
	_, err := collect(session(t, install(n.hc, client.Config{}), "http://a.example.com/0",
		append(headerOptions(secrets), client.WithBody("application/json", strings.NewReader(`{"q":1}`)))...))
	require.NoError(t, err)
	hop := n.requests()[1]
	require.Equal(t, "POST", hop.Method)
	require.Equal(t, `{"q":1}`, hop.Body)
	require.Equal(t, []string{"application/json"}, hop.Header["Content-Type"])
	require.Empty(t, hop.Header["Authorization"])
}

func TestRedirectOfAURLWithUserinfo(t *testing.T) {
	for name, tt := range map[string]struct {
		location string
		kept     bool
	}{
		"to another host":       {"http://b.example.com/1", false},
		"to the host, relative": {"/1", true},
		"to the host":           {"http://a.example.com/1", false}, // the Location has no userinfo
	} {
		t.Run(name, func(t *testing.T) {
			n := newRedirectNet(t, func(w http.ResponseWriter, r *http.Request, _ string, n int) {
				if n == 1 {
					redirectTo(w, 302, tt.location)
					return
				}
				streamOf("data: x\n\n")(w, r)
			})
			_, err := collect(session(t, install(n.hc, client.Config{}), "http://ada:hunter2@a.example.com/0"))
			require.NoError(t, err)
			hops := n.requests()
			require.Len(t, hops, 2)
			require.NotEmpty(t, hops[0].Header["Authorization"])
			require.Equal(t, tt.kept, len(hops[1].Header["Authorization"]) > 0)
			for _, referer := range hops[1].Header["Referer"] {
				require.NotContains(t, referer, "hunter2")
			}
		})
	}
}

func TestRedirectSendsTheCookiesThatTheJarHasForTheHost(t *testing.T) {
	n := newRedirectNet(t, func(w http.ResponseWriter, r *http.Request, _ string, n int) {
		if n == 1 {
			redirectTo(w, 302, "http://b.example.com/1")
			return
		}
		streamOf("data: x\n\n")(w, r)
	})
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	for _, host := range []string{"a", "b"} {
		jar.SetCookies(&url.URL{Scheme: "http", Host: host + ".example.com", Path: "/"}, []*http.Cookie{{Name: "of", Value: host}})
	}
	n.hc.Jar = jar
	_, err = collect(session(t, install(n.hc, client.Config{}), "http://a.example.com/0", client.WithHeader("Cookie", "own=hunter2")))
	require.NoError(t, err)
	hops := n.requests()
	require.Equal(t, []string{"own=hunter2; of=a"}, hops[0].Header["Cookie"])
	require.Equal(t, []string{"of=b"}, hops[1].Header["Cookie"])
}

func TestRedirectIsFollowedAsItsStatusSays(t *testing.T) {
	for _, tt := range []struct {
		status       int
		method, body string
		wantMethod   string
		wantBody     string
	}{
		{301, "GET", "", "GET", ""},
		{302, "GET", "", "GET", ""},
		{303, "GET", "", "GET", ""},
		{307, "GET", "", "GET", ""},
		{308, "GET", "", "GET", ""},
		{301, "POST", "order", "GET", ""},
		{302, "POST", "order", "GET", ""},
		{303, "POST", "order", "GET", ""},
		{307, "POST", "order", "POST", "order"},
		{308, "POST", "order", "POST", "order"},
		{303, "PUT", "order", "GET", ""},
		{307, "PUT", "order", "PUT", "order"},
		{307, "POST", "", "POST", ""},
	} {
		t.Run(fmt.Sprintf("%d %s %s", tt.status, tt.method, tt.body), func(t *testing.T) {
			var l requestLog
			overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				l.add(r)
				if r.URL.Path == "/from" {
					redirectTo(w, tt.status, "to?x=1")
					return
				}
				streamOf("id: 2\ndata: x\n\n")(w, r)
			}), func(t *testing.T, srv *httptest.Server) {
				t.Helper()
				options := []client.Option{client.WithMethod(tt.method), client.WithLastEventID("1")}
				if tt.body != "" {
					options = append(options, client.WithBody("text/plain", strings.NewReader(tt.body)))
				}
				s := session(t, install(srv.Client(), client.Config{}), srv.URL+"/from", options...)
				require.Equal(t, "/to", s.Call().Request.URL.Path)
				events, err := collect(s)
				require.NoError(t, err)
				require.Equal(t, []string{"x"}, dataOf(events))
				got := l.last(t)
				require.Equal(t, "/to?x=1", got.URI)
				require.Equal(t, tt.wantMethod, got.Method)
				require.Equal(t, tt.wantBody, got.Body)
				require.Equal(t, []string{"text/event-stream"}, got.Header["Accept"])
				require.Equal(t, []string{"no-cache"}, got.Header["Cache-Control"])
				require.Equal(t, []string{"1"}, got.Header["Last-Event-Id"])
				var wantType []string
				if tt.wantBody != "" {
					wantType = []string{"text/plain"}
				}
				require.Equal(t, wantType, got.Header["Content-Type"])
			})
		})
	}
}

func TestRedirectOfABodyThatCannotBeSentAgainIsARefusal(t *testing.T) {
	var l requestLog
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		l.add(r)
		redirectTo(w, http.StatusTemporaryRedirect, "/to")
	})
	err := refusal(t, install(srv.Client(), client.Config{MaxReconnectionAttempts: 3, Resend: client.ResendAlways}), srv.URL,
		client.WithBody("", onlyReader{strings.NewReader("order")}))
	require.EqualError(t, err, "client: expected status 200 but was 307")
	require.Len(t, l.all(), 1)
}

func TestRedirectWithoutLocationIsARefusal(t *testing.T) {
	var l requestLog
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.add(r)
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		w.WriteHeader(status)
		io.WriteString(w, "moved")
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		c := install(srv.Client(), client.Config{MaxReconnectionAttempts: client.Unlimited})
		for _, status := range redirectStatuses {
			for _, options := range [][]client.Option{nil, {client.WithBody("", strings.NewReader("order"))}} {
				before := len(l.all())
				err := refusal(t, c, fmt.Sprintf("%s?status=%d", srv.URL, status), options...)
				require.EqualError(t, err, fmt.Sprintf("client: expected status 200 but was %d, without a Location to follow", status))
				var statusErr *client.StatusError
				require.ErrorAs(t, err, &statusErr)
				require.Equal(t, status, statusErr.Status)
				require.Equal(t, status, err.Response.StatusCode)
				require.Equal(t, "moved", string(err.Body))
				require.Len(t, l.all(), before+1)
			}
		}
	})
}

// requestsOfBadRedirect returns how many requests a client makes that is redirected to
// location and may reconnect three times. It asserts that the client ends with a url.Error.
func requestsOfBadRedirect(t *testing.T, location string) int {
	t.Helper()
	var l requestLog
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		l.add(r)
		redirectTo(w, http.StatusFound, location)
	})
	err := refusal(t, install(srv.Client(), client.Config{MaxReconnectionAttempts: 3}), srv.URL)
	var urlErr *url.Error
	require.ErrorAs(t, err, &urlErr)
	return len(l.all())
}

func TestRedirectToNowhereIsNotTriedAgain(t *testing.T) {
	for name, location := range map[string]string{
		"another scheme": "ftp://a.example.com/",
		"no host":        "http:///x",
		"opaque":         "mailto:ada@example.com",
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, 1, requestsOfBadRedirect(t, location), "the client tried again, and would be redirected again")
		})
	}
}

// If net/http cannot parse a Location, it reports a failed request like any other. So the
// client tries again as often as it may.
func TestRedirectThatCannotBeParsedIsAFailure(t *testing.T) {
	for _, location := range []string{"http://%zz/", "http://a.example.com:port/"} {
		require.Equal(t, 4, requestsOfBadRedirect(t, location))
	}
}

func TestEndlessRedirectsEnd(t *testing.T) {
	var l requestLog
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		redirectTo(w, http.StatusFound, fmt.Sprintf("/%d", l.add(r)))
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		before := len(l.all())
		err := refusal(t, install(srv.Client(), client.Config{MaxReconnectionAttempts: client.Unlimited}), srv.URL)
		require.ErrorContains(t, err, "stopped after 10 redirects")
		require.Len(t, l.all()[before:], 10)
		require.Equal(t, http.StatusFound, err.Response.StatusCode)
	})
}

func TestManyRedirectsAreFollowed(t *testing.T) {
	var l requestLog
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n := l.add(r); n < 10 {
			redirectTo(w, http.StatusFound, fmt.Sprintf("/%d", n))
			return
		}
		streamOf("data: x\n\n")(w, r)
	})
	_, err := collect(session(t, install(srv.Client(), client.Config{}), srv.URL))
	require.NoError(t, err)
	require.Len(t, l.all(), 10)
}

func TestCheckRedirectOfTheCallerIsKept(t *testing.T) {
	answer := func(w http.ResponseWriter, r *http.Request, _ string, n int) {
		if n == 1 {
			w.Header().Set("Location", "http://b.example.com/1")
			w.WriteHeader(http.StatusFound)
			io.WriteString(w, "over there")
			return
		}
		streamOf("data: x\n\n")(w, r)
	}
	const from = "http://a.example.com/0"
	t.Run("ErrUseLastResponse", func(t *testing.T) {
		n := newRedirectNet(t, answer)
		n.hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		err := refusal(t, install(n.hc, client.Config{MaxReconnectionAttempts: 3}), from)
		require.EqualError(t, err, "client: expected status 200 but was 302")
		require.Equal(t, "http://b.example.com/1", err.Response.Header.Get("Location"))
		require.Equal(t, "over there", string(err.Body))
		require.Len(t, n.requests(), 1)
	})
	t.Run("an error of its own", func(t *testing.T) {
		n := newRedirectNet(t, answer)
		mine := errors.New("not there")
		n.hc.CheckRedirect = func(*http.Request, []*http.Request) error { return mine }
		err := refusal(t, install(n.hc, client.Config{MaxReconnectionAttempts: client.Unlimited}), from)
		require.ErrorIs(t, err, mine)
		require.Equal(t, http.StatusFound, err.Response.StatusCode)
		body, readErr := io.ReadAll(err.Response.Body)
		require.NoError(t, readErr, "the body of the error cannot be read")
		require.Empty(t, body)
		require.Len(t, n.requests(), 1)
	})
	t.Run("a header added back", func(t *testing.T) {
		n := newRedirectNet(t, answer)
		n.hc.CheckRedirect = func(r *http.Request, via []*http.Request) error {
			assert.Empty(t, r.Header["Authorization"], "CheckRedirect was called before the header was cleaned")
			assert.Empty(t, r.Header["Referer"])
			assert.Len(t, via, 1)
			r.Header.Set("Authorization", via[0].Header.Get("Authorization"))
			return nil
		}
		_, err := collect(session(t, install(n.hc, client.Config{}), from, headerOptions(secrets)...))
		require.NoError(t, err)
		hops := n.requests()
		require.Len(t, hops, 2)
		require.Equal(t, []string{"Bearer hunter2"}, hops[1].Header["Authorization"])
		require.Empty(t, hops[1].Header["X-Api-Key"])
	})
	t.Run("a bound of its own", func(t *testing.T) {
		n := newRedirectNet(t, func(w http.ResponseWriter, r *http.Request, _ string, n int) {
			if n <= 20 {
				redirectTo(w, 307, fmt.Sprintf("/%d", n))
				return
			}
			streamOf("data: x\n\n")(w, r)
		})
		n.hc.CheckRedirect = func(*http.Request, []*http.Request) error { return nil }
		_, err := collect(session(t, install(n.hc, client.Config{}), from))
		require.NoError(t, err)
		require.Len(t, n.requests(), 21)
	})
}

func TestRedirectKeepsTheHostHeaderOnlyWhereItBelongs(t *testing.T) {
	for location, host := range map[string]string{
		"/1":                     "virtual.test",
		"http://b.example.com/1": "b.example.com",
	} {
		n := newRedirectNet(t, func(w http.ResponseWriter, r *http.Request, _ string, n int) {
			if n == 1 {
				redirectTo(w, 302, location)
				return
			}
			streamOf("data: x\n\n")(w, r)
		})
		_, err := collect(session(t, install(n.hc, client.Config{}), "http://a.example.com/0", client.WithHeader("Host", "virtual.test")))
		require.NoError(t, err)
		hops := n.requests()
		require.Equal(t, "virtual.test", hops[0].Host)
		require.Equal(t, host, hops[1].Host)
	}
}

// redirectOnce redirects requests for the path /0 to the URL to. It answers others with a
// stream of one event, and with 204 from the request with the number last on.
func redirectOnce(status int, to string, last int) func(w http.ResponseWriter, r *http.Request, url string, n int) {
	return func(w http.ResponseWriter, r *http.Request, _ string, n int) {
		switch {
		case r.URL.Path == "/0":
			redirectTo(w, status, to)
		case n >= last:
			w.WriteHeader(http.StatusNoContent)
		default:
			streamOf(fmt.Sprintf("id: %d\ndata: %d\n\n", n, n))(w, r)
		}
	}
}
