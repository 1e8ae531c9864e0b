// The URL of a session, and the parts that WithAddress replaces.

package client_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

// requireAddress opens a session, and asserts which address the client dialed, and the Host
// and the URI of its only request.
func requireAddress(t *testing.T, url string, options []client.Option, dialed, host, uri string) {
	t.Helper()
	hc, log, d := anyURL(t)
	events, err := collect(session(t, install(hc, client.Config{}), url, options...))
	require.NoError(t, err)
	require.Equal(t, []string{"x"}, dataOf(events))
	require.Len(t, log.all(), 1)
	got := log.last(t)
	require.Equal(t, []string{dialed}, d.dialed)
	require.Equal(t, host, got.Host)
	require.Equal(t, uri, got.URI)
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
			requireAddress(t, tt.url, nil, tt.dialed, tt.host, tt.uri)
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
			var options []client.Option
			for _, parts := range tt.parts {
				options = append(options, parts.option())
			}
			requireAddress(t, tt.url, options, tt.dialed, tt.host, tt.uri)
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
