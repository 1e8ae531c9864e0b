package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

// requestSeen is a request as a server got it.
type requestSeen struct {
	Method, URI, Host, Body string
	Proto                   string
	Length                  int64
	Header                  http.Header
}

// requestLog keeps the requests that a server got.
type requestLog struct {
	mu   sync.Mutex
	seen []requestSeen
}

// add reads r to its end and keeps it. It returns the number of the request, from 1.
func (l *requestLog) add(r *http.Request) int {
	body, _ := io.ReadAll(r.Body)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, requestSeen{r.Method, r.RequestURI, r.Host, string(body), r.Proto, r.ContentLength, r.Header.Clone()})
	return len(l.seen)
}

func (l *requestLog) all() []requestSeen {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]requestSeen(nil), l.seen...)
}

// last returns the latest request.
func (l *requestLog) last(t testing.TB) requestSeen {
	t.Helper()
	all := l.all()
	require.NotEmpty(t, all, "no request was made")
	return all[len(all)-1]
}

// bodies returns the body of each request.
func (l *requestLog) bodies() []string {
	var bodies []string
	for _, r := range l.all() {
		bodies = append(bodies, r.Body)
	}
	return bodies
}

// values returns the values of a header field in each request.
func (l *requestLog) values(key string) [][]string {
	var values [][]string
	for _, r := range l.all() {
		values = append(values, r.Header.Values(key))
	}
	return values
}

// requestDialer reaches servers under any name.
type requestDialer struct {
	servers map[string]string // address of a server by host:port; "" is that of all others
	mu      sync.Mutex
	dialed  []string
}

func (d *requestDialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d.mu.Lock()
	d.dialed = append(d.dialed, address)
	d.mu.Unlock()
	to, ok := d.servers[address]
	if !ok {
		to = d.servers[""]
	}
	if to == "" {
		return nil, errors.New("the test has no server for " + address)
	}
	return new(net.Dialer).DialContext(ctx, network, to)
}

// client returns a client that dials by d. It trusts the servers of httptest, whose
// certificate is for example.com and its subdomains.
func (d *requestDialer) client(t testing.TB) *http.Client {
	t.Helper()
	trusting := httptest.NewTLSServer(nil)
	defer trusting.Close()
	transport := trusting.Client().Transport.(*http.Transport).Clone()
	transport.DialContext = d.dial
	transport.ForceAttemptHTTP2 = false
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func requestAddr(srv *httptest.Server) string { return srv.Listener.Addr().String() }

// anyURL serves an event stream under any name, and returns what was requested and
// dialed.
func anyURL(t testing.TB) (*http.Client, *requestLog, *requestDialer) {
	t.Helper()
	log := new(requestLog)
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		log.add(r)
		streamOf("data: x\n\n")(w, r)
	})
	d := &requestDialer{servers: map[string]string{"": requestAddr(srv)}}
	hc := d.client(t)
	return hc, log, d
}

func TestURLIsRequestedAsItStands(t *testing.T) {
	for name, tt := range map[string]struct {
		url, dialed, host, uri string
	}{
		"path and query":    {"http://api.test/a/b?x=1&y=%20z", "api.test:80", "api.test", "/a/b?x=1&y=%20z"},
		"no path":           {"http://api.test", "api.test:80", "api.test", "/"},
		"query alone":       {"http://api.test?x", "api.test:80", "api.test", "/?x"},
		"port":              {"http://api.test:8080/x", "api.test:8080", "api.test:8080", "/x"},
		"default port":      {"http://api.test:80/x", "api.test:80", "api.test:80", "/x"},
		"empty port":        {"http://api.test:/x", "api.test:80", "api.test", "/x"},
		"fragment":          {"http://api.test/x?y#secret", "api.test:80", "api.test", "/x?y"},
		"upper-case scheme": {"HTTP://api.test/x", "api.test:80", "api.test", "/x"},
		"escapes":           {"http://api.test/a%2Fb/%25/%C3%A4", "api.test:80", "api.test", "/a%2Fb/%25/%C3%A4"},
		"no escapes":        {"http://api.test/ä b", "api.test:80", "api.test", "/%C3%A4%20b"},
		"IPv4":              {"http://192.0.2.1/x", "192.0.2.1:80", "192.0.2.1", "/x"},
		"IPv6":              {"http://[2001:db8::1]/x", "[2001:db8::1]:80", "[2001:db8::1]", "/x"},
		"IPv6 with port":    {"http://[2001:db8::1]:81/x", "[2001:db8::1]:81", "[2001:db8::1]:81", "/x"},
		"IPv6 with zone":    {"http://[fe80::1%25eth0]:81/x", "[fe80::1%eth0]:81", "[fe80::1]:81", "/x"},
		"name in Unicode":   {"http://bücher.test/x", "xn--bcher-kva.test:80", "xn--bcher-kva.test", "/x"},
	} {
		t.Run(name, func(t *testing.T) {
			hc, log, d := anyURL(t)
			events, err := collect(session(t, install(hc, client.Config{}), tt.url))
			require.NoError(t, err)
			require.Equal(t, []string{"x"}, dataOf(events))
			require.Len(t, log.all(), 1)
			got := log.last(t)
			require.Equal(t, []string{tt.dialed}, d.dialed)
			require.Equal(t, tt.host, got.Host)
			require.Equal(t, tt.uri, got.URI)
		})
	}
}

func TestUserinfoOfTheURLIsSentAsAuthorization(t *testing.T) {
	hc, log, _ := anyURL(t)
	_, err := collect(session(t, install(hc, client.Config{}), "http://ada:s%20cret@api.test/x"))
	require.NoError(t, err)
	r := http.Request{Header: log.last(t).Header}
	user, password, ok := r.BasicAuth()
	require.True(t, ok)
	require.Equal(t, "ada", user)
	require.Equal(t, "s cret", password)
}

type addressParts struct {
	scheme, host string
	port         int
	path         string
}

func (a addressParts) option() client.Option {
	return client.WithAddress(a.scheme, a.host, a.port, a.path)
}

func TestWithAddressReplacesTheGivenParts(t *testing.T) {
	const whole = "http://api.test:8080/a%2Fb?x=1"
	for name, tt := range map[string]struct {
		url               string
		parts             []addressParts
		dialed, host, uri string
	}{
		"all, of no URL":            {"", []addressParts{{"http", "other.test", 81, "/c?y"}}, "other.test:81", "other.test:81", "/c?y"},
		"no port":                   {"", []addressParts{{"http", "other.test", 0, "/c"}}, "other.test:80", "other.test", "/c"},
		"no path":                   {"", []addressParts{{"http", "other.test", 0, ""}}, "other.test:80", "other.test", "/"},
		"none":                      {whole, []addressParts{{}}, "api.test:8080", "api.test:8080", "/a%2Fb?x=1"},
		"scheme":                    {"https://api.test:8080/a", []addressParts{{"http", "", 0, ""}}, "api.test:8080", "api.test:8080", "/a"},
		"host":                      {whole, []addressParts{{"", "other.test", 0, ""}}, "other.test:80", "other.test", "/a%2Fb?x=1"},
		"port":                      {whole, []addressParts{{"", "", 81, ""}}, "api.test:81", "api.test:81", "/a%2Fb?x=1"},
		"port, where there is none": {"http://api.test/a", []addressParts{{"", "", 65535, ""}}, "api.test:65535", "api.test:65535", "/a"},
		"path":                      {whole, []addressParts{{"", "", 0, "/c"}}, "api.test:8080", "api.test:8080", "/c"},
		"path without slash":        {whole, []addressParts{{"", "", 0, "c%2Fd/e"}}, "api.test:8080", "api.test:8080", "/c%2Fd/e"},
		"path and query":            {whole, []addressParts{{"", "", 0, "/c?y=%20&z"}}, "api.test:8080", "api.test:8080", "/c?y=%20&z"},
		"path and fragment":         {whole, []addressParts{{"", "", 0, "/c#d"}}, "api.test:8080", "api.test:8080", "/c"},
		"query":                     {whole, []addressParts{{"", "", 0, "?y"}}, "api.test:8080", "api.test:8080", "/?y"},
		"path with a space":         {whole, []addressParts{{"", "", 0, "/c d"}}, "api.test:8080", "api.test:8080", "/c%20d"},
		"path with an umlaut":       {whole, []addressParts{{"", "", 0, "/ä"}}, "api.test:8080", "api.test:8080", "/%C3%A4"},
		"path of the URL alone":     {"/a?x=1", []addressParts{{"http", "other.test", 0, ""}}, "other.test:80", "other.test", "/a?x=1"},
		"IPv4":                      {whole, []addressParts{{"", "192.0.2.1", 81, ""}}, "192.0.2.1:81", "192.0.2.1:81", "/a%2Fb?x=1"},
		"IPv6":                      {whole, []addressParts{{"", "2001:db8::1", 0, ""}}, "[2001:db8::1]:80", "[2001:db8::1]", "/a%2Fb?x=1"},
		"IPv6 and port":             {whole, []addressParts{{"", "::1", 81, ""}}, "[::1]:81", "[::1]:81", "/a%2Fb?x=1"},
		"IPv6 with zone":            {whole, []addressParts{{"", "fe80::1%eth0", 81, ""}}, "[fe80::1%eth0]:81", "[fe80::1]:81", "/a%2Fb?x=1"},
		"port of an IPv6 URL":       {"http://[::1]/a", []addressParts{{"", "", 81, ""}}, "[::1]:81", "[::1]:81", "/a"},
		"path of an IPv6 URL":       {"http://[::1]/a", []addressParts{{"", "", 0, "/c"}}, "[::1]:80", "[::1]", "/c"},
		"in two options":            {whole, []addressParts{{"", "other.test", 0, ""}, {"", "", 81, "/c"}}, "other.test:81", "other.test:81", "/c"},
		"the last counts":           {whole, []addressParts{{"", "one.test", 82, "/c"}, {"", "two.test", 83, "/d"}}, "two.test:83", "two.test:83", "/d"},
		"of an opaque URL":          {"mailto:ada", []addressParts{{"http", "other.test", 0, "/c"}}, "other.test:80", "other.test", "/c"},
		"of host:port as a URL":     {"api.test:8080", []addressParts{{"http", "other.test", 0, "/c"}}, "other.test:80", "other.test", "/c"},
	} {
		t.Run(name, func(t *testing.T) {
			hc, log, d := anyURL(t)
			var options []client.Option
			for _, parts := range tt.parts {
				options = append(options, parts.option())
			}
			events, err := collect(session(t, install(hc, client.Config{}), tt.url, options...))
			require.NoError(t, err)
			require.Equal(t, []string{"x"}, dataOf(events))
			require.Len(t, log.all(), 1)
			got := log.last(t)
			require.Equal(t, []string{tt.dialed}, d.dialed)
			require.Equal(t, tt.host, got.Host)
			require.Equal(t, tt.uri, got.URI)
		})
	}
}

func TestOneAddressOptionServesSeveralCalls(t *testing.T) {
	hc, log, _ := anyURL(t)
	c := install(hc, client.Config{})
	to := client.WithAddress("", "", 0, "/b")
	for _, url := range []string{"http://one.test/a", "http://two.test/a", "http://one.test/a"} {
		_, err := collect(session(t, c, url, to))
		require.NoError(t, err)
		require.Equal(t, "/b", log.last(t).URI)
		require.Contains(t, url, log.last(t).Host)
	}
}

// refusedOption asserts that a session with these arguments is refused as a
// ConfigError before anything is sent, and returns it.
func refusedOption(t *testing.T, url string, options ...client.Option) *client.ConfigError {
	t.Helper()
	hc, log, d := anyURL(t)
	c := install(hc, client.Config{MaxReconnectionAttempts: 3})
	s, err := c.Session(t.Context(), url, options...)
	require.Nil(t, s, "there is a session beside the error %v", err)
	var configErr *client.ConfigError
	require.ErrorAs(t, err, &configErr)
	ran := false
	err = c.SSE(t.Context(), url, func(*client.Session) error { ran = true; return nil }, options...)
	require.ErrorAs(t, err, &configErr)
	require.False(t, ran, "the block was run")
	require.Empty(t, log.all())
	require.Empty(t, d.dialed)
	require.NotEmpty(t, configErr.Problem)
	require.True(t, strings.HasPrefix(err.Error(), "client: "+configErr.Option+" "), err)
	return configErr
}

func TestURLThatMakesNoSenseIsAConfigError(t *testing.T) {
	for name, url := range map[string]string{
		"empty":             "",
		"no scheme":         "//api.test/x",
		"path":              "/x",
		"host and port":     "localhost:8080/x",
		"another scheme":    "ftp://api.test/x",
		"WebSocket":         "ws://api.test/x",
		"no host":           "http:///x",
		"port without host": "http://:8080/x",
		"opaque":            "http:api.test",
		"bad port":          "http://api.test:http/x",
		"bad escape":        "http://api.test/%zz",
		"space in the host": "http://api test/x",
		"control character": "http://api.test/\n",
		"bad IPv6":          "http://[::1/x",
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, "url", refusedOption(t, url).Option)
		})
	}
}

func TestErrorOfABadURLKeepsItsSecrets(t *testing.T) {
	for name, url := range map[string]string{
		"that cannot be parsed": "http://ada:hunter2@api.test/\x7f?token=hunter2",
		"of another scheme":     "ftp://ada:hunter2@api.test/?token=hunter2",
		"without a host":        "http:///?token=hunter2",
	} {
		t.Run(name, func(t *testing.T) {
			require.NotContains(t, refusedOption(t, url).Error(), "hunter2")
		})
	}
}

func TestAddressThatMakesNoSenseIsAConfigError(t *testing.T) {
	const url = "http://api.test/x"
	for name, tt := range map[string]struct {
		url    string
		parts  addressParts
		option string
	}{
		"another scheme":           {url, addressParts{scheme: "ftp"}, "url"},
		"scheme with colon":        {url, addressParts{scheme: "http:"}, "url"},
		"no host":                  {"", addressParts{scheme: "http", port: 80, path: "/x"}, "url"},
		"nothing":                  {"", addressParts{}, "url"},
		"host with port":           {url, addressParts{host: "other.test:80"}, "WithAddress"},
		"host with user":           {url, addressParts{host: "ada@other.test"}, "WithAddress"},
		"host with path":           {url, addressParts{host: "other.test/x"}, "WithAddress"},
		"host with query":          {url, addressParts{host: "other.test?x"}, "WithAddress"},
		"host with fragment":       {url, addressParts{host: "other.test#x"}, "WithAddress"},
		"host with space":          {url, addressParts{host: "other test"}, "WithAddress"},
		"host with line break":     {url, addressParts{host: "other.test\r\n"}, "WithAddress"},
		"host in brackets":         {url, addressParts{host: "[::1]"}, "WithAddress"},
		"negative port":            {url, addressParts{port: -1}, "WithAddress"},
		"port beyond 16 bits":      {url, addressParts{port: 65536}, "WithAddress"},
		"path with a bad escape":   {url, addressParts{path: "/%zz"}, "WithAddress"},
		"path with a line break":   {url, addressParts{path: "/x\n"}, "WithAddress"},
		"path that is a URL":       {url, addressParts{path: "http://other.test/x"}, "WithAddress"},
		"path with a host":         {url, addressParts{path: "//other.test/x"}, "WithAddress"},
		"path with another scheme": {url, addressParts{path: "mailto:ada"}, "WithAddress"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tt.option, refusedOption(t, tt.url, tt.parts.option()).Option)
		})
	}
}

func TestWithConfigAffectsOnlyItsCall(t *testing.T) {
	hc, _, _ := anyURL(t)
	var opened []string
	open := func(name string) func(*http.Response) {
		return func(*http.Response) { opened = append(opened, name) }
	}
	c := install(hc, client.Config{OnOpen: open("installed"), MaxEventSize: 1 << 20})
	local := client.WithConfig(func(cfg *client.Config) {
		assert.Equal(t, 1<<20, cfg.MaxEventSize, "what was installed")
		cfg.OnOpen, cfg.MaxEventSize = open("local"), 2
	})
	const url = "http://api.test/"
	for _, want := range []string{"installed", "local", "installed", "local"} {
		opened = nil
		var options []client.Option
		if want == "local" {
			options = append(options, local)
		}
		_, err := collect(session(t, c, url, options...))
		if want == "local" {
			require.Error(t, err, "the bound of the call")
		} else {
			require.NoError(t, err)
		}
		require.Equal(t, []string{want}, opened)
	}
}

func TestInstallCopiesItsConfig(t *testing.T) {
	hc, log, _ := anyURL(t)
	cfg := client.Config{OnRequest: func(r *http.Request) error { r.Header.Set("X", "first"); return nil }}
	c := install(hc, cfg)
	cfg.OnRequest = func(*http.Request) error { return errors.New("changed later") }
	_, err := collect(session(t, c, "http://api.test/"))
	require.NoError(t, err)
	require.Equal(t, "first", log.last(t).Header.Get("X"))
}

func TestWithConfigGetsTheDefaults(t *testing.T) {
	hc, _, _ := anyURL(t)
	var got client.Config
	look := client.WithConfig(func(cfg *client.Config) { got = *cfg })
	_, err := collect(session(t, client.Install(hc, client.Config{}), "http://api.test/", look))
	require.NoError(t, err)

	require.Zero(t, got.MaxReconnectionAttempts)
	require.Equal(t, 3*time.Second, got.ReconnectionTime)
	require.Equal(t, 30*time.Second, got.MaxBackoff)
	require.InDelta(t, 0.5, got.Jitter, 0)
	require.Equal(t, time.Minute, got.HealthyAfter)
	require.Equal(t, 100*time.Millisecond, got.MinRetry)
	require.Equal(t, 24*time.Hour, got.MaxRetry)
	require.Equal(t, 30*time.Second, got.OpenTimeout)
	require.Zero(t, got.IdleTimeout)
	require.Equal(t, 64<<20, got.MaxEventSize)
	require.Equal(t, client.Off, got.BufferPolicy)
	require.NotNil(t, got.RetryStatus)
	require.NotNil(t, got.Deserializer)
	require.NotNil(t, got.Logger)
	require.False(t, got.ShowCommentEvents || got.ShowRetryEvents || got.Resend || got.KeepRedirect)
	require.Nil(t, got.Terminal)
	require.Nil(t, got.OnRequest)
	require.Nil(t, got.OnOpen)
	require.Nil(t, got.OnRetry)

	hc.Timeout = time.Hour
	_, err = collect(session(t, client.Install(hc, client.Config{}), "http://api.test/", look))
	require.NoError(t, err)
	require.Equal(t, time.Hour, got.OpenTimeout, "the Timeout of the http.Client")
	_, err = collect(session(t, client.Install(hc, client.Config{OpenTimeout: time.Second}), "http://api.test/", look))
	require.NoError(t, err)
	require.Equal(t, time.Second, got.OpenTimeout, "what the config says goes before")
}

func TestWithConfigMayLeaveOutWhatHasADefault(t *testing.T) {
	hc, _, _ := anyURL(t)
	hc.Timeout = time.Hour
	c := install(hc, client.Config{ReconnectionTime: time.Minute})
	var got client.Config
	_, err := collect(session(t, c, "http://api.test/",
		client.WithConfig(func(cfg *client.Config) { *cfg = client.Config{} }),
		// An option can't see the defaults that are set after the last of them.
		client.WithConfig(func(cfg *client.Config) { cfg.OnRequest = func(*http.Request) error { got = *cfg; return nil } }),
	))
	require.NoError(t, err)
	require.Equal(t, 3*time.Second, got.ReconnectionTime, "not what was installed")
	require.Equal(t, 64<<20, got.MaxEventSize)
	require.Equal(t, time.Hour, got.OpenTimeout, "the Timeout of the http.Client")
}

func TestSeveralWithConfigApplyInOrder(t *testing.T) {
	hc, log, _ := anyURL(t)
	name := func(s string) client.Option {
		return client.WithConfig(func(cfg *client.Config) {
			before := cfg.OnRequest
			cfg.OnRequest = func(r *http.Request) error {
				if before != nil {
					if err := before(r); err != nil {
						return err
					}
				}
				r.Header.Add("X", s)
				return nil
			}
		})
	}
	_, err := collect(session(t, install(hc, client.Config{}), "http://api.test/", name("one"), name("two")))
	require.NoError(t, err)
	require.Equal(t, []string{"one", "two"}, log.last(t).Header["X"])
}

// senseless are configs that make no sense, by the field at fault.
var senseless = []struct {
	field string
	edit  func(*client.Config)
}{
	{"MaxReconnectionAttempts", func(c *client.Config) { c.MaxReconnectionAttempts = -2 }},
	{"ReconnectionTime", func(c *client.Config) { c.ReconnectionTime = -1 }},
	{"MaxBackoff", func(c *client.Config) { c.MaxBackoff = -1 }},
	{"Jitter", func(c *client.Config) { c.Jitter = math.NaN() }},
	{"Jitter", func(c *client.Config) { c.Jitter = math.Inf(1) }},
	{"Jitter", func(c *client.Config) { c.Jitter = 101 }},
	{"HealthyAfter", func(c *client.Config) { c.HealthyAfter = -1 }},
	{"MaxRetry", func(c *client.Config) { c.MaxRetry = -1 }},
	{"IdleTimeout", func(c *client.Config) { c.IdleTimeout = -1 }},
	{"MaxEventSize", func(c *client.Config) { c.MaxEventSize = -1 }},
}

func TestConfigThatMakesNoSenseIsRefused(t *testing.T) {
	for _, tt := range senseless {
		t.Run(tt.field, func(t *testing.T) {
			configErr := refusedOption(t, "http://api.test/", client.WithConfig(tt.edit))
			require.Equal(t, tt.field, configErr.Option)

			var cfg client.Config
			tt.edit(&cfg)
			require.PanicsWithValue(t, configErr.Error(), func() { client.Install(http.DefaultClient, cfg) })

			events, err := collect(client.Read(strings.NewReader("data: x\n\n"), client.WithConfig(tt.edit)))
			require.Empty(t, events)
			require.Equal(t, configErr, err)
		})
	}
}

func TestConfigWithNegativeValuesThatMeanNone(t *testing.T) {
	for name, cfg := range map[string]client.Config{
		"Unlimited":   {MaxReconnectionAttempts: client.Unlimited},
		"Jitter":      {Jitter: -1},
		"MinRetry":    {MinRetry: -1},
		"OpenTimeout": {OpenTimeout: -1},
	} {
		t.Run(name, func(t *testing.T) {
			hc, _, _ := anyURL(t)
			s := session(t, install(hc, cfg), "http://api.test/")
			for ev, err := range s.Incoming() {
				require.NoError(t, err)
				require.Equal(t, "x", ev.Data)
				break
			}
		})
	}
}

func TestWithMethod(t *testing.T) {
	for name, tt := range map[string]struct {
		options []client.Option
		method  string
	}{
		"default":              {nil, "GET"},
		"default with a body":  {[]client.Option{client.WithBody("", strings.NewReader("x"))}, "POST"},
		"default with nil":     {[]client.Option{client.WithBody("", nil)}, "GET"},
		"empty":                {[]client.Option{client.WithMethod("")}, "GET"},
		"POST without body":    {[]client.Option{client.WithMethod("POST")}, "POST"},
		"GET with a body":      {[]client.Option{client.WithMethod("GET"), client.WithBody("", strings.NewReader("x"))}, "GET"},
		"after the body":       {[]client.Option{client.WithBody("", strings.NewReader("x")), client.WithMethod("PUT")}, "PUT"},
		"QUERY":                {[]client.Option{client.WithMethod("QUERY"), client.WithBody("", strings.NewReader("x"))}, "QUERY"},
		"DELETE":               {[]client.Option{client.WithMethod("DELETE")}, "DELETE"},
		"lower case, as given": {[]client.Option{client.WithMethod("patch")}, "patch"},
		"the last counts":      {[]client.Option{client.WithMethod("PUT"), client.WithMethod("PATCH")}, "PATCH"},
	} {
		t.Run(name, func(t *testing.T) {
			hc, log, _ := anyURL(t)
			events, err := collect(session(t, install(hc, client.Config{}), "http://api.test/", tt.options...))
			require.NoError(t, err)
			require.Equal(t, []string{"x"}, dataOf(events))
			require.Equal(t, tt.method, log.last(t).Method)
		})
	}
}

func TestMethodThatMakesNoSenseIsAConfigError(t *testing.T) {
	for _, method := range []string{"G ET", "GET\r\nX: y", "GET ", "GÄT", "GET/", "\x00"} {
		t.Run(method, func(t *testing.T) {
			require.Equal(t, "WithMethod", refusedOption(t, "http://api.test/", client.WithMethod(method)).Option)
		})
	}
}

func TestWithHeader(t *testing.T) {
	type fields = []string // key, value, key, value, …
	for name, tt := range map[string]struct {
		set  fields
		key  string
		want []string
	}{
		"one":                           {fields{"X-Api-Key", "k"}, "X-Api-Key", []string{"k"}},
		"in another case":               {fields{"x-api-KEY", "k"}, "X-Api-Key", []string{"k"}},
		"several times":                 {fields{"X", "1", "x", "2", "X", "3"}, "X", []string{"1", "2", "3"}},
		"empty value":                   {fields{"X", ""}, "X", []string{""}},
		"tab within":                    {fields{"X", "a\tb"}, "X", []string{"a\tb"}},
		"non-ASCII":                     {fields{"X", "bücher"}, "X", []string{"bücher"}},
		"token of every kind":           {fields{"!#$%&'*+-.^_`|~09azAZ", "v"}, "!#$%&'*+-.^_`|~09azaz", []string{"v"}},
		"User-Agent":                    {fields{"User-Agent", "me/1"}, "User-Agent", []string{"me/1"}},
		"Accept by default":             {nil, "Accept", []string{"text/event-stream"}},
		"Accept of the caller":          {fields{"Accept", "application/json"}, "Accept", []string{"application/json"}},
		"Accept twice":                  {fields{"accept", "a/b", "Accept", "c/d"}, "Accept", []string{"a/b", "c/d"}},
		"empty Accept":                  {fields{"Accept", ""}, "Accept", []string{""}},
		"Cache-Control by default":      {nil, "Cache-Control", []string{"no-store"}},
		"Cache-Control of the caller":   {fields{"cache-control", "no-cache"}, "Cache-Control", []string{"no-cache"}},
		"no Last-Event-ID by default":   {nil, "Last-Event-Id", nil},
		"Last-Event-ID":                 {fields{"last-event-id", "7"}, "Last-Event-Id", []string{"7"}},
		"Last-Event-ID twice":           {fields{"Last-Event-ID", "7", "Last-Event-Id", "8"}, "Last-Event-Id", []string{"8"}},
		"empty Last-Event-ID":           {fields{"Last-Event-ID", ""}, "Last-Event-Id", nil},
		"empty Last-Event-ID after one": {fields{"Last-Event-ID", "7", "Last-Event-ID", ""}, "Last-Event-Id", nil},
		"Last-Event-ID with spaces":     {fields{"Last-Event-ID", " 7 "}, "Last-Event-Id", []string{"7"}},
		"Last-Event-ID beyond 4 KiB":    {fields{"Last-Event-ID", strings.Repeat("7", 5<<10)}, "Last-Event-Id", nil},
		"Content-Type twice":            {fields{"Content-Type", "a/b", "content-type", "c/d"}, "Content-Type", []string{"c/d"}},
		"Host is no field of its own":   {fields{"Host", "other.test"}, "Host", nil},
	} {
		t.Run(name, func(t *testing.T) {
			hc, log, _ := anyURL(t)
			var options []client.Option
			for i := 0; i < len(tt.set); i += 2 {
				options = append(options, client.WithHeader(tt.set[i], tt.set[i+1]))
			}
			events, err := collect(session(t, install(hc, client.Config{}), "http://api.test/", options...))
			require.NoError(t, err)
			require.Equal(t, []string{"x"}, dataOf(events))
			require.Equal(t, tt.want, log.last(t).Header[tt.key])
		})
	}
}

func TestHeaderHostIsTheHostOfTheRequest(t *testing.T) {
	hc, log, d := anyURL(t)
	_, err := collect(session(t, install(hc, client.Config{}), "http://api.test/", client.WithHeader("host", "other.test:81")))
	require.NoError(t, err)
	require.Equal(t, "other.test:81", log.last(t).Host)
	require.Equal(t, []string{"api.test:80"}, d.dialed)
}

func TestHeaderThatMakesNoSenseIsAConfigError(t *testing.T) {
	for name, tt := range map[string]struct{ key, value, option string }{
		"empty name":            {"", "v", "WithHeader"},
		"name with space":       {"X Y", "v", "WithHeader"},
		"name with colon":       {"X:", "v", "WithHeader"},
		"name with line break":  {"X\r\nY", "v", "WithHeader"},
		"name in Unicode":       {"Ä", "v", "WithHeader"},
		"name with DEL":         {"X\x7f", "v", "WithHeader"},
		"value with line feed":  {"X", "a\nY: b", "WithHeader"},
		"value with CR":         {"X", "a\rb", "WithHeader"},
		"value with NUL":        {"X", "a\x00", "WithHeader"},
		"value with DEL":        {"X", "a\x7f", "WithHeader"},
		"value with escape":     {"X", "\x1b[0m", "WithHeader"},
		"Host with line break":  {"Host", "a\r\nY: b", "WithHeader"},
		"Last-Event-ID with CR": {"Last-Event-ID", "a\rb", "WithHeader"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tt.option, refusedOption(t, "http://api.test/", client.WithHeader(tt.key, tt.value)).Option)
		})
	}
}

func TestContentTypeThatMakesNoSenseIsAConfigError(t *testing.T) {
	err := refusedOption(t, "http://api.test/", client.WithBody("text/plain\r\nX: y", strings.NewReader("x")))
	require.Equal(t, "WithBody", err.Option)
}

func TestErrorOfABadHeaderKeepsItsSecret(t *testing.T) {
	err := refusedOption(t, "http://api.test/", client.WithHeader("Authorization", "Bearer hunter2\n"))
	require.NotContains(t, err.Error(), "hunter2")
	require.Contains(t, err.Error(), "Authorization")
}

func TestWithBodySetsTheContentType(t *testing.T) {
	for name, tt := range map[string]struct {
		options []client.Option
		want    []string
	}{
		"given":             {[]client.Option{client.WithBody("text/plain", strings.NewReader("x"))}, []string{"text/plain"}},
		"none":              {[]client.Option{client.WithBody("", strings.NewReader("x"))}, nil},
		"by a header":       {[]client.Option{client.WithHeader("Content-Type", "a/b"), client.WithBody("", strings.NewReader("x"))}, []string{"a/b"}},
		"instead of header": {[]client.Option{client.WithHeader("Content-Type", "a/b"), client.WithBody("c/d", strings.NewReader("x"))}, []string{"c/d"}},
	} {
		t.Run(name, func(t *testing.T) {
			hc, log, _ := anyURL(t)
			_, err := collect(session(t, install(hc, client.Config{}), "http://api.test/", tt.options...))
			require.NoError(t, err)
			require.Equal(t, tt.want, log.last(t).Header["Content-Type"])
			require.Equal(t, "x", log.last(t).Body)
		})
	}
}

// onlyReader hides what else a reader can do.
type onlyReader struct{ io.Reader }

func TestBodyIsSentAsItStands(t *testing.T) {
	text := strings.Repeat("0123456789", 10_000)
	for name, tt := range map[string]struct {
		body   io.Reader
		length int64
		want   string
	}{
		"strings.Reader":       {strings.NewReader(text), int64(len(text)), text},
		"bytes.Reader":         {bytes.NewReader([]byte(text)), int64(len(text)), text},
		"bytes.Buffer":         {bytes.NewBufferString(text), int64(len(text)), text},
		"empty strings.Reader": {strings.NewReader(""), 0, ""},
		"any other reader":     {onlyReader{strings.NewReader(text)}, -1, text},
		"NoBody":               {http.NoBody, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			hc, log, _ := anyURL(t)
			events, err := collect(session(t, install(hc, client.Config{}), "http://api.test/", client.WithBody("text/plain", tt.body)))
			require.NoError(t, err)
			require.Equal(t, []string{"x"}, dataOf(events))
			require.Equal(t, "POST", log.last(t).Method)
			require.Equal(t, tt.want, log.last(t).Body)
			require.Equal(t, tt.length, log.last(t).Length)
		})
	}
}

func TestWithLastEventIDIsSent(t *testing.T) {
	long := strings.Repeat("a", 4<<10)
	for name, tt := range map[string]struct {
		ids  []string
		want []string
	}{
		"none":            {nil, nil},
		"one":             {[]string{"42"}, []string{"42"}},
		"empty":           {[]string{""}, nil},
		"the last counts": {[]string{"1", "2"}, []string{"2"}},
		"reset":           {[]string{"1", ""}, nil},
		"inner spaces":    {[]string{"a b\tc"}, []string{"a b\tc"}},
		"non-ASCII":       {[]string{"é日本🙂"}, []string{"é日本🙂"}},
		"invalid UTF-8":   {[]string{"\xff\x80"}, []string{"\xff\x80"}},
		"punctuation":     {[]string{`",;:=\%`}, []string{`",;:=\%`}},
		"4 KiB":           {[]string{long}, []string{long}},
	} {
		t.Run(name, func(t *testing.T) {
			hc, log, _ := anyURL(t)
			var options []client.Option
			for _, id := range tt.ids {
				options = append(options, client.WithLastEventID(id))
			}
			s := session(t, install(hc, client.Config{}), "http://api.test/", options...)
			if len(tt.want) > 0 {
				require.Equal(t, tt.want[0], s.LastEventID())
			}
			_, err := collect(s)
			require.NoError(t, err)
			require.Equal(t, tt.want, log.last(t).Header["Last-Event-Id"])
		})
	}
}

func TestStartIDThatCannotBeSentIsNot(t *testing.T) {
	for name, tt := range map[string]struct {
		id   string
		want []string
	}{
		"spaces at the ends": {" a b\t", []string{"a b"}},
		"only spaces":        {"  ", nil},
		"DEL":                {"a\x7fb", nil},
		"escape":             {"\x1b", nil},
		"beyond 4 KiB":       {strings.Repeat("a", 4<<10+1), nil},
		"10 MB":              {strings.Repeat("a", 10<<20), nil},
	} {
		t.Run(name, func(t *testing.T) {
			hc, log, _ := anyURL(t)
			events, err := collect(session(t, install(hc, client.Config{}), "http://api.test/", client.WithLastEventID(tt.id)))
			require.NoError(t, err)
			require.Equal(t, []string{"x"}, dataOf(events))
			require.Equal(t, tt.want, log.last(t).Header["Last-Event-Id"])
		})
	}
}

func TestStartIDThatNoEventCanHaveIsAConfigError(t *testing.T) {
	for name, id := range map[string]string{
		"line feed":            "a\nb",
		"carriage return":      "a\rb",
		"NUL":                  "a\x00b",
		"header injection":     "1\r\nX-Admin: yes",
		"line feed and 100 KB": "\n" + strings.Repeat("a", 100_000),
	} {
		t.Run(name, func(t *testing.T) {
			err := refusedOption(t, "http://api.test/", client.WithLastEventID(id))
			require.Equal(t, "WithLastEventID", err.Option)
			require.Less(t, len(err.Error()), 1<<10, "an error message should not be as long as the id")
		})
	}
}

func TestLastEventIDOfASessionCanBeGivenToTheNext(t *testing.T) {
	for name, stream := range map[string]string{
		"plain":             "id: 7\ndata: x\n\n",
		"spaces at its end": "id:  7 \ndata: x\n\n",
		"tab at its end":    "id: 7\t\ndata: x\n\n",
		"only a space":      "id:  \ndata: x\n\n",
		"control character": "id: 7\x01\ndata: x\n\n",
		"beyond 4 KiB":      "id: " + strings.Repeat("7", 5<<10) + "\ndata: x\n\n",
		"non-ASCII":         "id: é\ndata: x\n\n",
		"none":              "data: x\n\n",
		"reset":             "id: 7\ndata: x\n\nid\ndata: y\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, streamOf(stream))
			c := install(srv.Client(), client.Config{})
			first := session(t, c, srv.URL)
			_, err := collect(first)
			require.NoError(t, err)
			second, err := c.Session(t.Context(), srv.URL, client.WithLastEventID(first.LastEventID()))
			require.NoError(t, err)
			require.NoError(t, second.Close())
		})
	}
}
