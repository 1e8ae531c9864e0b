package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want options
	}{
		{"URL alone", []string{"a.example/x"}, options{url: "https://a.example/x"}},
		{
			"all",
			[]string{
				"-H", "A: 1", "-H", "b:2 : 3 ", "-d", "x", "-X", "PUT", "-id", "7", "-k",
				"-retries", "2", "-retry-refused", "-resend", "-open-timeout", "1s", "-idle-timeout", "1m", "-event-timeout", "1h", "-type", "any",
				"-n", "3", "-done", "[DONE]", "-done-event", "end", "-checkpoint", "file",
				"-e", "a", "-event", "b", "-comments", "-json", "-no-color", "-s", "http://a",
			},
			options{
				url: "http://a", method: "PUT", header: []field{{"A", "1"}, {"b", "2 : 3"}}, data: new("x"), lastID: "7", insecure: true,
				retries: 2, firstRetried: true, retryRefused: true, resend: true,
				openTimeout: time.Second, idleTimeout: time.Minute, eventTimeout: time.Hour, mediaType: "any",
				count: 3, done: new("[DONE]"), doneEvent: new("end"), checkpoint: "file",
				names: []string{"a", "b"}, format: jsonObjects, comments: true, noColor: true, silent: true,
			},
		},
		{
			"flags around the URL",
			[]string{"-n", "3", "http://a", "-data", "-e", "b"},
			options{url: "http://a", count: 3, format: dataLines, names: []string{"b"}},
		},
		{"two dashes", []string{"--data", "--", "http://a"}, options{url: "http://a", format: dataLines}},
		{"for ever", []string{"-retries", "-1", "http://a"}, options{url: "http://a", firstRetried: true}},
		{"never", []string{"http://a", "-retries=0"}, options{url: "http://a", retries: 0, firstRetried: true}},
		{"empty body", []string{"-d", "", "http://a"}, options{url: "http://a", data: new("")}},
		{"events without a name", []string{"-e", "message", "http://a"}, options{url: "http://a", names: []string{"message"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parse(tt.args)
			require.NoError(t, err)
			if !strings.Contains(strings.Join(tt.args, " "), "-retries") || tt.name == "for ever" {
				tt.want.retries = client.Unlimited
			}
			assert.Equal(t, &tt.want, got)
		})
	}
}

func TestWrongUsage(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	tests := []struct {
		args []string
		want string
	}{
		{nil, "the URL is missing"},
		{[]string{""}, "the URL is missing"},
		{[]string{"-n", "1"}, "the URL is missing"},
		{[]string{"a", "-n", "1", "b"}, "there must be only one URL, but there is a second: b"},
		{[]string{"a", "\x1b[2Jb"}, `there must be only one URL, but there is a second: \x1b[2Jb`},
		{[]string{"-x", "a"}, "flag provided but not defined: -x"},
		{[]string{"a", "-H"}, "flag needs an argument: -H"},
		{[]string{"-H", "A", "a"}, `invalid value "A" for flag -H: a header field must have a colon, as in "Name: value"`},
		{[]string{"-n", "x", "a"}, `invalid value "x" for flag -n: parse error`},
		{[]string{"-n", "-1", "a"}, "-n must not be negative"},
		{[]string{"-idle-timeout", "5", "a"}, `invalid value "5" for flag -idle-timeout: parse error`},
		{[]string{"-open-timeout", "-5s", "a"}, "-open-timeout must not be negative"},
		{[]string{"-idle-timeout", "-5s", "a"}, "-idle-timeout must not be negative"},
		{[]string{"-event-timeout", "-5s", "a"}, "-event-timeout must not be negative"},
		{[]string{"-retries", "-2", "a"}, "-retries must be -1 (forever), 0 (never), or a positive number"},
		{[]string{"-done", "", "a"}, "-done must not be empty"},
		{[]string{"-done-event", "", "a"}, "-done-event must not be empty"},
		{[]string{"-d", "1", "-d", "2", "a"}, `invalid value "2" for flag -d: the flag can be used only once`},
		{[]string{"-data", "-json", "a"}, "-data and -json cannot be used together"},
		{[]string{"-data", "-comments", "a"}, "-data and -comments cannot be used together"},
		{[]string{"-d", "@" + missing, "a"}, "-d: open " + missing},
		{[]string{"\x1b[2J://"}, `the URL cannot be parsed`},
		{[]string{"://a"}, "the URL cannot be parsed"},
		{[]string{"ftp://a"}, `the URL has the scheme "ftp"; it must be http or https`},
		{[]string{"/path"}, "the URL has no host"},
		{[]string{"-H", "a b: c", "a"}, `-H has the name "a b", which is not a valid header name`},
		{[]string{"-H", "a: \x1b", "a"}, "-H must not have control characters in the value of a"},
		{[]string{"-X", "a b", "a"}, `-X has the method "a b", which is not a valid HTTP method`},
		{[]string{"-id", "a\nb", "a"}, `-id must not have control characters in the id, but has "a\nb"`},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			var stdout, stderr strings.Builder
			assert.Equal(t, 2, run(t.Context(), append([]string{"follow"}, tt.args...), strings.NewReader(""), &stdout, &stderr))
			assert.Empty(t, stdout.String())
			said, help, _ := strings.Cut(stderr.String(), "\n")
			assert.True(t, strings.HasPrefix(said, "sse follow: "+tt.want), "%s", said)
			assert.NotContains(t, said, "\x1b")
			assert.Equal(t, "For help: sse follow -h\n", help)
		})
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"-h"}, {"-help"}, {"--help"}, {"a", "-h"}} {
		var stdout, stderr strings.Builder
		assert.Equal(t, 0, run(t.Context(), append([]string{"follow"}, args...), strings.NewReader(""), &stdout, &stderr))
		assert.Equal(t, usage, stdout.String())
		assert.Empty(t, stderr.String())
	}
	for line := range strings.SplitSeq(usage, "\n") {
		assert.LessOrEqual(t, utf8.RuneCountInString(line), 80, "%s", line)
		assert.NotContains(t, line, "\t")
	}
	for _, name := range []string{"H", "d", "X", "id", "k", "retries", "retry-refused", "resend", "open-timeout", "idle-timeout", "event-timeout", "type", "n", "done", "done-event", "checkpoint", "e, -event", "data", "json", "comments", "no-color", "s"} {
		assert.Contains(t, usage, "\n  -"+name+" ", "the flag must be explained")
	}
}

func TestWithScheme(t *testing.T) {
	for address, want := range map[string]string{
		"a.example":             "https://a.example",
		"a.example:8080/x?y=1":  "https://a.example:8080/x?y=1",
		"http://a.example":      "http://a.example",
		"HTTPS://a.example":     "HTTPS://a.example",
		"localhost":             "http://localhost",
		"LocalHost:8080/x":      "http://LocalHost:8080/x",
		"127.0.0.1:8080":        "http://127.0.0.1:8080",
		"127.1.2.3":             "http://127.1.2.3",
		"[::1]:8080/x":          "http://[::1]:8080/x",
		"localhost.example":     "https://localhost.example",
		"user@localhost:1":      "http://user@localhost:1",
		"localhost@a.example":   "https://localhost@a.example",
		"10.0.0.1":              "https://10.0.0.1",
		"a.example/?to=http://": "https://a.example/?to=http://",
		"localhost?u=https://b": "http://localhost?u=https://b",
		"a.example#http://b":    "https://a.example#http://b",
	} {
		assert.Equal(t, want, withScheme(address), "%s", address)
	}
}

func TestBody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "body")
	require.NoError(t, os.WriteFile(path, []byte("of a\nfile"), 0o600))
	tests := []struct {
		name     string
		data     *string
		header   []field
		want     string
		wantType string
	}{
		{"none", nil, nil, "", ""},
		{"empty", new(""), nil, "", ""},
		{"text", new("a=b"), nil, "a=b", "text/plain"},
		{"JSON", new(` {"a": 1}` + "\n"), nil, ` {"a": 1}` + "\n", "application/json"},
		{"nearly JSON", new(`{"a": 1`), nil, `{"a": 1`, "text/plain"},
		{"file", new("@" + path), nil, "of a\nfile", "text/plain"},
		{"stdin", new("@-"), nil, "[1]", "application/json"},
		{"other header", new("x"), []field{{"Accept", "text/html"}}, "x", "text/plain"},
		{"own type", new("[]"), []field{{"content-TYPE", "text/html"}}, "[]", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options{data: tt.data, header: tt.header}
			require.NoError(t, o.readBody(t.Context(), strings.NewReader("[1]")))
			assert.Equal(t, tt.want, string(o.body))
			assert.Equal(t, tt.wantType, o.bodyType())
		})
	}
}

func TestReadBodyEndsWithItsContext(t *testing.T) {
	stdin, typing := io.Pipe()
	defer typing.Close()
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	o := options{data: new("@-")}
	require.ErrorIs(t, o.readBody(ctx, stdin), context.Canceled)

	typing.CloseWithError(os.ErrPermission)
	o = options{data: new("@-")}
	require.ErrorIs(t, o.readBody(t.Context(), stdin), os.ErrPermission)
}
