// The Last-Event-ID that the client sends: from WithLastEventID and from the stream.

package client_test

import (
	"net/http"
	"net/http/httptest"
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
			require.Less(t, len(err.Error()), 1<<10, "the error text is as long as the id")
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
		"control byte":             {"", []string{"id: a\x01b\ndata: a\n\n", ""}, [][]string{nil, nil}},
		"DEL":                      {"", []string{"id: a\x7fb\ndata: a\n\n", ""}, [][]string{nil, nil}},
		"escape":                   {"", []string{"id: \x1b[0m\ndata: a\n\n", ""}, [][]string{nil, nil}},
		"beyond 4 KiB":             {"", []string{"id: " + long + "x\ndata: a\n\n", ""}, [][]string{nil, nil}},
		"10 MB":                    {"", []string{"id: " + strings.Repeat("x", 10<<20) + "\ndata: a\n\n", ""}, [][]string{nil, nil}},
		"control byte, then fine":  {"", []string{"id: a\x01b\ndata: a\n\n", "id: 2\ndata: b\n\n", ""}, [][]string{nil, nil, {"2"}}},
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

func TestLastEventIDIsSentOverEachTransport(t *testing.T) {
	var l requestLog
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch l.add(r) % 4 {
		case 1:
			send(w, "id: é 1\ndata: a\n\n")
		case 2:
			send(w, "id: a\x01b\ndata: b\n\n")
		case 3:
			send(w, "id: 3\ndata: c\n\n")
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		before := len(l.all())
		events, err := collect(session(t, install(srv.Client(), client.Config{MaxReconnectionAttempts: 1}), srv.URL))
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b", "c"}, dataOf(events))
		require.Equal(t, [][]string{nil, {"é 1"}, nil, {"3"}}, l.values("Last-Event-ID")[before:])
	})
}
