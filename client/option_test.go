// The options of a session, except the URL (address_test.go) and Last-Event-ID
// (last_event_id_test.go).

package client_test

import (
	"bytes"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

// refusedOption asserts that a session with these arguments fails with a ConfigError before
// the client sends anything. It returns the error.
func refusedOption(t *testing.T, url string, options ...client.Option) *client.ConfigError {
	t.Helper()
	hc, log, d := anyURL(t)
	c := install(hc, client.Config{MaxReconnectionAttempts: 3})
	s, err := c.Session(t.Context(), url, options...)
	require.Nil(t, s, "there is a session and an error: %v", err)
	var configErr *client.ConfigError
	require.ErrorAs(t, err, &configErr)
	ran := false
	err = c.SSE(t.Context(), url, func(*client.Session) error { ran = true; return nil }, options...)
	require.ErrorAs(t, err, &configErr)
	require.False(t, ran, "SSE called the block")
	require.Empty(t, log.all())
	require.Empty(t, d.dialed)
	require.NotEmpty(t, configErr.Problem)
	require.True(t, strings.HasPrefix(err.Error(), "client: "+configErr.Option+" "), err)
	return configErr
}

func TestWithConfigAffectsOnlyItsCall(t *testing.T) {
	hc, _, _ := anyURL(t)
	var opened []string
	open := func(name string) func(*http.Response) {
		return func(*http.Response) { opened = append(opened, name) }
	}
	c := install(hc, client.Config{OnOpen: open("installed"), MaxEventSize: 1 << 20})
	local := client.WithConfig(func(cfg *client.Config) {
		assert.Equal(t, 1<<20, cfg.MaxEventSize, "the option does not see what Install was given")
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
			require.Error(t, err, "the MaxEventSize of the call does not apply")
		} else {
			require.NoError(t, err)
		}
		require.Equal(t, []string{want}, opened)
	}
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
	require.Equal(t, 100*time.Millisecond, got.MinRetry)
	require.Equal(t, 24*time.Hour, got.MaxRetry)
	require.Zero(t, got.OpenTimeout, "its default depends on the request")
	require.Zero(t, got.IdleTimeout)
	require.Zero(t, got.EventTimeout)
	require.Equal(t, 64<<20, got.MaxEventSize)
	require.Equal(t, client.Off, got.BufferPolicy)
	require.NotNil(t, got.OnFailure)
	require.NotNil(t, got.CheckResponse)
	require.Equal(t, 4<<10, got.MaxLastEventID)
	require.NotNil(t, got.Deserializer)
	require.NotNil(t, got.Logger)
	require.False(t, got.ShowCommentEvents || got.ShowRetryEvents || got.KeepRedirect || got.AcceptGzip)
	require.Equal(t, client.ResendNever, got.Resend)
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
	require.Equal(t, time.Second, got.OpenTimeout, "the Config must go before the http.Client")
}

func TestWithConfigMayLeaveOutWhatHasADefault(t *testing.T) {
	hc, _, _ := anyURL(t)
	hc.Timeout = time.Hour
	c := install(hc, client.Config{ReconnectionTime: time.Minute})
	var got client.Config
	_, err := collect(session(t, c, "http://api.test/",
		client.WithConfig(func(cfg *client.Config) { *cfg = client.Config{} }),
		// Defaults are set after the last option, so only a hook can see them.
		client.WithConfig(func(cfg *client.Config) { cfg.OnRequest = func(*http.Request) error { got = *cfg; return nil } }),
	))
	require.NoError(t, err)
	require.Equal(t, 3*time.Second, got.ReconnectionTime, "it must be the default, not what Install was given")
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

// senseless lists invalid Configs by the field at fault.
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
	{"EventTimeout", func(c *client.Config) { c.EventTimeout = -1 }},
	{"MaxLastEventID", func(c *client.Config) { c.MaxLastEventID = -1 }},
	{"Resend", func(c *client.Config) { c.Resend = 3 }},
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

			events, err := collect(client.Read(t.Context(), strings.NewReader("data: x\n\n"), client.WithConfig(tt.edit)))
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
		"Cache-Control by default":      {nil, "Cache-Control", []string{"no-cache"}},
		"Cache-Control of the caller":   {fields{"cache-control", "no-cache"}, "Cache-Control", []string{"no-cache"}},
		"Accept-Encoding by default":    {nil, "Accept-Encoding", []string{"identity"}},
		"Accept-Encoding of the caller": {fields{"Accept-Encoding", "br"}, "Accept-Encoding", []string{"br"}},
		"no Last-Event-ID by default":   {nil, "Last-Event-Id", nil},
		"Last-Event-ID":                 {fields{"last-event-id", "7"}, "Last-Event-Id", []string{"7"}},
		"Last-Event-ID twice":           {fields{"Last-Event-ID", "7", "Last-Event-Id", "8"}, "Last-Event-Id", []string{"8"}},
		"empty Last-Event-ID":           {fields{"Last-Event-ID", ""}, "Last-Event-Id", nil},
		"empty Last-Event-ID after one": {fields{"Last-Event-ID", "7", "Last-Event-ID", ""}, "Last-Event-Id", nil},
		"Last-Event-ID with spaces":     {fields{"Last-Event-ID", " 7 "}, "Last-Event-Id", []string{"7"}},
		"Last-Event-ID of 4 KiB":        {fields{"Last-Event-ID", strings.Repeat("7", 4<<10)}, "Last-Event-Id", []string{strings.Repeat("7", 4<<10)}},
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
