// The Last-Event-ID that the client sends: from WithLastEventID and from the stream.

package client_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

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

func TestSpacesAtTheEndsOfAStartIDAreNotSent(t *testing.T) {
	for name, tt := range map[string]struct {
		id   string
		want []string
	}{
		"spaces at the ends": {" a b\t", []string{"a b"}},
		"only spaces":        {"  ", nil},
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

func TestStartIDThatCannotBeSentIsAConfigError(t *testing.T) {
	for name, id := range map[string]string{
		"DEL":                  "a\x7fb",
		"escape":               "\x1b",
		"line feed":            "a\nb",
		"carriage return":      "a\rb",
		"NUL":                  "a\x00b",
		"header injection":     "1\r\nX-Admin: yes",
		"line feed and 100 KB": "\n" + strings.Repeat("a", 100_000),
		"beyond 4 KiB":         strings.Repeat("a", 4<<10+1),
		"10 MB":                strings.Repeat("a", 10<<20),
	} {
		t.Run(name, func(t *testing.T) {
			for _, option := range []client.Option{client.WithLastEventID(id), client.WithHeader("last-event-id", id)} {
				err := refusedOption(t, "http://api.test/", option)
				require.Contains(t, []string{"WithLastEventID", "WithHeader"}, err.Option)
				require.Less(t, len(err.Error()), 1<<10, "the error text is as long as the id")
			}
		})
	}
}

// The bound is one that the caller can set, for the option and for the stream.
func TestMaxLastEventID(t *testing.T) {
	id := strings.Repeat("a", 5000)
	var l requestLog
	srv := serve(t, loggedStreams(&l, "id: "+id+"\ndata: x\n\n", ""))
	c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 1, MaxLastEventID: 5000})
	_, err := collect(session(t, c, srv.URL, client.WithLastEventID(id)))
	require.NoError(t, err)
	require.Equal(t, [][]string{{id}, {id}}, l.values("Last-Event-ID"))
	srv = serve(t, streamOf("id: "+id+"\ndata: x\n\n"))
	c = install(srv.Client(), client.Config{MaxReconnectionAttempts: 1})
	smaller := client.WithConfig(func(cfg *client.Config) { cfg.MaxLastEventID = 4999 })
	require.Equal(t, "WithLastEventID", refusedOption(t, srv.URL, client.WithLastEventID(id), smaller).Option)
	_, err = collect(session(t, c, srv.URL, smaller))
	var unsent *client.LastEventIDError
	require.ErrorAs(t, err, &unsent)
	require.Equal(t, client.LastEventIDError{ID: id, Limit: 4999}, *unsent)
}

func TestLastEventIDOfASessionCanBeGivenToTheNext(t *testing.T) {
	for name, stream := range map[string]string{
		"plain":             "id: 7\ndata: x\n\n",
		"spaces at its end": "id:  7 \ndata: x\n\n",
		"tab at its end":    "id: 7\t\ndata: x\n\n",
		"only a space":      "id:  \ndata: x\n\n",
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

func TestLastEventIDIsThatOfTheLastEvent(t *testing.T) {
	long := strings.Repeat("x", 4<<10)
	for name, tt := range map[string]struct {
		start   string
		streams []string
		want    [][]string
	}{
		"none":                     {"", []string{"data: a\n\n", ""}, [][]string{nil, nil}},
		"set":                      {"", []string{"id: 1\ndata: a\n\n", ""}, [][]string{nil, {"1"}}},
		"the last of many":         {"", []string{"id: 1\ndata: a\n\nid: 2\ndata: b\n\n", ""}, [][]string{nil, {"2"}}},
		"sticky":                   {"", []string{"id: 1\ndata: a\n\ndata: b\n\n", ""}, [][]string{nil, {"1"}}},
		"over connections":         {"", []string{"id: 1\ndata: a\n\n", "data: b\n\n", ""}, [][]string{nil, {"1"}, {"1"}}},
		"updated":                  {"", []string{"id: 1\ndata: a\n\n", "id: 2\ndata: b\n\n", ""}, [][]string{nil, {"1"}, {"2"}}},
		"reset":                    {"", []string{"id: 1\ndata: a\n\n", "id:\ndata: b\n\n", ""}, [][]string{nil, {"1"}, nil}},
		"reset without colon":      {"", []string{"id: 1\ndata: a\n\n", "id\ndata: b\n\n", ""}, [][]string{nil, {"1"}, nil}},
		"of a block without data":  {"", []string{"id: 1\n\n", ""}, [][]string{nil, {"1"}}},
		"of a block cut off":       {"", []string{"id: 1\ndata: a\n\nid: 2\ndata: b\n", ""}, [][]string{nil, {"1"}}},
		"start":                    {"0", []string{"data: a\n\n", ""}, [][]string{{"0"}, {"0"}}},
		"start, then updated":      {"0", []string{"id: 1\ndata: a\n\n", ""}, [][]string{{"0"}, {"1"}}},
		"start, then reset":        {"0", []string{"id:\ndata: a\n\n", ""}, [][]string{{"0"}, nil}},
		"spaces at the ends":       {"", []string{"id:   a b  \ndata: a\n\n", ""}, [][]string{nil, {"a b"}}},
		"tabs at the ends":         {"", []string{"id: \ta\tb\t\ndata: a\n\n", ""}, [][]string{nil, {"a\tb"}}},
		"only a space":             {"", []string{"id:  \ndata: a\n\n", ""}, [][]string{nil, nil}},
		"non-ASCII":                {"", []string{"id: é日本🙂\ndata: a\n\n", ""}, [][]string{nil, {"é日本🙂"}}},
		"C1 control characters":    {"", []string{"id: a\u0085b\ndata: a\n\n", ""}, [][]string{nil, {"a\u0085b"}}},
		"NUL, which is ignored":    {"", []string{"id: 1\ndata: a\n\nid: 2\x003\ndata: b\n\n", ""}, [][]string{nil, {"1"}}},
		"4 KiB":                    {"", []string{"id: " + long + "\ndata: a\n\n", ""}, [][]string{nil, {long}}},
		"punctuation":              {"", []string{"id: :;\",=\\%\ndata: a\n\n", ""}, [][]string{nil, {":;\",=\\%"}}},
		"invalid UTF-8, as U+FFFD": {"", []string{"id: a\xffb\ndata: a\n\n", ""}, [][]string{nil, {"a\uFFFDb"}}},
	} {
		t.Run(name, func(t *testing.T) {
			var l requestLog
			srv := serve(t, loggedStreams(&l, tt.streams...))
			c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 3})
			_, err := collect(session(t, c, srv.URL, client.WithLastEventID(tt.start)))
			require.NoError(t, err)
			require.Equal(t, tt.want, l.values("Last-Event-ID"))
		})
	}
}

// unsendable lists ids that a stream can set and no request can carry.
var unsendable = map[string]string{
	"control byte": "a\x01b",
	"DEL":          "a\x7fb",
	"escape":       "\x1b[0m",
	"beyond 4 KiB": strings.Repeat("x", 4<<10+1),
	"10 MB":        strings.Repeat("x", 10<<20),
}

// An id that cannot be sent ends the session by default, before anything is lost.
func TestIDThatCannotBeSentEndsTheSession(t *testing.T) {
	for name, id := range unsendable {
		t.Run(name, func(t *testing.T) {
			var l requestLog
			srv := serve(t, loggedStreams(&l, "id: "+id+"\ndata: a\n\n", "data: b\n\n"))
			c := install(srv.Client(), client.Config{MaxReconnectionAttempts: client.Unlimited})
			s := session(t, c, srv.URL)
			events, err := collect(s)
			require.Equal(t, []string{"a"}, dataOf(events))
			var unsent *client.LastEventIDError
			require.ErrorAs(t, err, &unsent)
			require.Equal(t, id, unsent.ID)
			require.Equal(t, 4<<10, unsent.Limit)
			require.Less(t, len(err.Error()), 1<<10)
			require.Equal(t, id, s.LastEventID())
			require.Len(t, l.all(), 1)
		})
	}
}

// If OnFailure retries, the client connects without the id, once for each id. Being told
// costs no attempt.
func TestIDThatCannotBeSentIsToldToOnFailure(t *testing.T) {
	for name, id := range unsendable {
		t.Run(name, func(t *testing.T) {
			var l requestLog
			srv := serve(t, loggedStreams(&l, "id: "+id+"\ndata: a\n\n", "data: b\n\n", "id: "+id+"x\ndata: c\n\n", "id: 2\ndata: d\n\n", ""))
			type failure struct {
				kind    string
				attempt int
				final   bool
			}
			var told []failure
			c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 1, OnFailure: func(f client.Failure) client.Decision {
				kind := "end"
				if _, ok := errors.AsType[*client.LastEventIDError](f.Err); ok {
					kind = "id"
				}
				told = append(told, failure{kind, f.Attempt, f.Final})
				return client.RetryIn(0)
			}})
			events, err := collect(session(t, c, srv.URL))
			require.NoError(t, err)
			require.Equal(t, []string{"a", "b", "c", "d"}, dataOf(events))
			require.Equal(t, [][]string{nil, nil, nil, nil, {"2"}}, l.values("Last-Event-ID"))
			end := failure{"end", 1, false}
			require.Equal(t, []failure{end, {"id", 1, false}, end, end, {"id", 1, false}, end}, told)
		})
	}
}

// OnRequest may set an id too. Other headers, a method or a URL that no request can have
// are not tried again.
func TestOnRequestThatSetsWhatCannotBeSent(t *testing.T) {
	secret := "top-secret"
	for name, tt := range map[string]struct {
		set func(*http.Request)
		id  bool
	}{
		"id with a line break": {func(r *http.Request) { r.Header.Set("Last-Event-ID", "7\r\nX: y") }, true},
		"long id":              {func(r *http.Request) { r.Header.Set("Last-Event-ID", strings.Repeat("7", 5000)) }, true},
		"second id":            {func(r *http.Request) { r.Header["Last-Event-Id"] = []string{"7", "\x01"} }, true},
		"header value":         {func(r *http.Request) { r.Header.Set("Authorization", secret+"\n") }, false},
		"header name":          {func(r *http.Request) { r.Header["a b"] = []string{secret} }, false},
		"method":               {func(r *http.Request) { r.Method = "G ET" }, false},
		"no URL":               {func(r *http.Request) { r.URL = nil }, false},
		"no host":              {func(r *http.Request) { r.URL = &url.URL{Scheme: "http", Path: "/" + secret} }, false},
		"scheme":               {func(r *http.Request) { r.URL = &url.URL{Scheme: "ftp", Host: "a", Path: "/" + secret} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			var l requestLog
			srv := serve(t, loggedStreams(&l, "data: a\n\n", ""))
			set := func(r *http.Request) error { tt.set(r); return nil }
			err := refusal(t, install(srv.Client(), client.Config{MaxReconnectionAttempts: client.Unlimited, OnRequest: set}), srv.URL)
			require.Empty(t, l.all())
			require.NotContains(t, err.Error(), secret)
			var unsent *client.LastEventIDError
			require.Equal(t, tt.id, errors.As(err, &unsent), "%v", err)

			again := func(client.Failure) client.Decision { return client.RetryIn(0) }
			c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 2, OnRequest: set, OnFailure: again})
			s, openErr := c.Session(t.Context(), srv.URL)
			if !tt.id {
				require.Error(t, openErr)
				require.Empty(t, l.all())
				return
			}
			require.NoError(t, openErr)
			_, openErr = collect(s)
			require.NoError(t, openErr)
			require.Equal(t, [][]string{nil, nil}, l.values("Last-Event-ID"))
		})
	}
}

func TestLastEventIDIsSentOverEachTransport(t *testing.T) {
	var l requestLog
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch l.add(r) % 3 {
		case 1:
			send(w, "id: é 1\ndata: a\n\n")
		case 2:
			send(w, "id: 3\ndata: c\n\n")
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		before := len(l.all())
		events, err := collect(session(t, install(srv.Client(), client.Config{MaxReconnectionAttempts: 1}), srv.URL))
		require.NoError(t, err)
		require.Equal(t, []string{"a", "c"}, dataOf(events))
		require.Equal(t, [][]string{nil, {"é 1"}, {"3"}}, l.values("Last-Event-ID")[before:])
	})
}
