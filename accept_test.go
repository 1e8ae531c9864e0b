package sse_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

func TestNegotiate(t *testing.T) {
	t.Parallel()
	const (
		json   = "application/json"
		stream = "text/event-stream"
	)
	for name, tt := range map[string]struct {
		accept []string
		want   string // of json and stream, in this order
		turned string // of stream and json
	}{
		"absent":                         {nil, json, stream},
		"empty":                          {[]string{""}, json, stream},
		"only commas":                    {[]string{" , ,"}, json, stream},
		"anything":                       {[]string{"*/*"}, json, stream},
		"a stream":                       {[]string{stream}, stream, stream},
		"JSON":                           {[]string{json}, json, json},
		"another case":                   {[]string{"TEXT/Event-Stream"}, stream, stream},
		"both":                           {[]string{"application/json, text/event-stream"}, json, stream},
		"both, in another order":         {[]string{"text/event-stream,application/json"}, json, stream},
		"a lower quality":                {[]string{"application/json;q=0.9, text/event-stream"}, stream, stream},
		"a lower quality of a stream":    {[]string{"text/event-stream;q=0.9, application/json"}, json, json},
		"three digits":                   {[]string{"text/event-stream;q=0.501, application/json;q=0.5"}, stream, stream},
		"q in upper case":                {[]string{"text/event-stream;Q=0.5, application/json"}, json, json},
		"space around the semicolon":     {[]string{"text/event-stream ;\tq=0.5 , application/json"}, json, json},
		"one of many":                    {[]string{"text/html, image/*;q=0.8, text/event-stream;q=0.1"}, stream, stream},
		"two lines":                      {[]string{"application/json;q=0.1", "text/event-stream;q=0.2"}, stream, stream},
		"a type wildcard":                {[]string{"text/*"}, stream, stream},
		"a type wildcard, lower":         {[]string{"text/*;q=0.3, application/*"}, json, json},
		"not acceptable":                 {[]string{"application/json;q=0, */*"}, stream, stream},
		"not acceptable, with zeros":     {[]string{"text/event-stream;q=0.000, */*;q=0.1"}, json, json},
		"neither":                        {[]string{"text/html"}, "", ""},
		"neither by q":                   {[]string{"*/*;q=0"}, "", ""},
		"neither, in part by a wildcard": {[]string{"text/*;q=0, image/png"}, "", ""},
		"the exact range has the say":    {[]string{"text/event-stream;q=0.1, text/*;q=0.9, application/json;q=0.5"}, json, json},
		"the type wildcard has the say":  {[]string{"text/*;q=0.9, */*;q=0.1"}, stream, stream},
		"named beats a wildcard":         {[]string{"text/event-stream, */*"}, stream, stream},
		"named beats a type wildcard":    {[]string{"application/json, text/*"}, json, json},
		"twice":                          {[]string{"application/json;q=0.2, text/event-stream;q=0.5, application/json;q=0.8"}, json, json},
		"charset":                        {[]string{"application/json;q=0.5, text/event-stream; charset=UTF-8"}, stream, stream},
		"charset in quotes":              {[]string{`application/json;q=0.5, text/event-stream;charset="utf-8"`}, stream, stream},
		"another charset":                {[]string{"application/json;q=0.5, text/event-stream;charset=latin1"}, json, json},
		"a parameter":                    {[]string{"application/json;v=2, text/event-stream;q=0.1"}, stream, stream},
		"a comma in quotes":              {[]string{`text/html;x="a,text/event-stream,b", application/json;q=0.1`}, json, json},
		"a quote in quotes":              {[]string{`text/html;x="a\",text/event-stream", application/json;q=0.1`}, json, json},
		"an extension after q":           {[]string{"text/event-stream;q=0.9;level=1, application/json;q=0.5"}, stream, stream},
		"an empty parameter":             {[]string{"text/event-stream;;q=0.9, application/json;q=0.5"}, stream, stream},
		"malformed q":                    {[]string{"text/event-stream;q=high, application/json;q=0.1"}, json, json},
		"q above 1":                      {[]string{"text/event-stream;q=1.1, application/json;q=0.1"}, json, json},
		"q below 0":                      {[]string{"text/event-stream;q=-1, application/json;q=0.1"}, json, json},
		"q with four digits":             {[]string{"text/event-stream;q=0.1234, application/json;q=0.1"}, json, json},
		"q without a whole part":         {[]string{"text/event-stream;q=.9, application/json;q=0.1"}, json, json},
		"q with a point only":            {[]string{"text/event-stream;q=1., application/json;q=0.1"}, stream, stream},
		"no subtype":                     {[]string{"text, application/json;q=0.1"}, json, json},
		"a wildcard of no form":          {[]string{"*/event-stream, application/json;q=0.1"}, json, json},
		"a quote that does not end":      {[]string{`application/json;q=0.1, text/event-stream;x="a`}, json, json},
		"nothing that is well formed":    {[]string{"text, q=1, /"}, json, stream},
		"EventSource":                    {[]string{stream}, stream, stream},
		"a browser's page":               {[]string{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, json, stream},
	} {
		for _, offers := range [][]string{{json, stream}, {stream, json}} {
			r := httptest.NewRequest(http.MethodPost, "/", http.NoBody)
			r.Header["Accept"] = tt.accept
			want := tt.want
			if offers[0] == stream {
				want = tt.turned
			}
			rec := httptest.NewRecorder()
			require.Equal(t, want, sse.Negotiate(rec, r, offers...), "%s: %v of %v", name, tt.accept, offers)
			require.Equal(t, []string{"Accept"}, rec.Header()["Vary"], name)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/", http.NoBody)
	r.Header.Set("Accept", "application/json;v=2")
	require.Equal(t, "application/json; V=2", sse.Negotiate(httptest.NewRecorder(), r, json, "application/json; V=2"))
	r.Header.Set("Accept", "application/json;v=2;q=0.1, application/json, text/event-stream;q=0.5")
	require.Equal(t, stream, sse.Negotiate(httptest.NewRecorder(), r, stream, "application/json;v=2"), "more parameters have the say")
	require.Empty(t, sse.Negotiate(httptest.NewRecorder(), r))
	require.Empty(t, sse.Negotiate(httptest.NewRecorder(), r, "json"), "no media type")
}

func TestNegotiateAddsToVary(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ before, after []string }{
		{nil, []string{"Accept"}},
		{[]string{"Origin"}, []string{"Origin", "Accept"}},
		{[]string{"Accept-Encoding"}, []string{"Accept-Encoding", "Accept"}},
		{[]string{"Origin, accept"}, []string{"Origin, accept"}},
		{[]string{"Origin", "Accept"}, []string{"Origin", "Accept"}},
		{[]string{"*"}, []string{"*"}},
	} {
		rec := httptest.NewRecorder()
		rec.Header()["Vary"] = tt.before
		for range 2 {
			sse.Negotiate(rec, httptest.NewRequest(http.MethodGet, "/", http.NoBody), "text/event-stream")
			require.Equal(t, tt.after, rec.Header()["Vary"])
		}
	}
}

// The stream that follows keeps Vary.
func TestNegotiateBeforeAStream(t *testing.T) {
	t.Parallel()
	rec := record(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "text/event-stream", sse.Negotiate(w, r, "application/json", "text/event-stream"))
		sse.Serve(w, r, func(s *sse.ServerSession) error { return s.SendData("x") })
	}), http.MethodPost, "/", "Accept", "text/event-stream")
	require.Equal(t, "Accept", rec.Header().Get("Vary"))
	require.Equal(t, "text/event-stream", rec.Header().Get("Content-Type"))
}

func FuzzNegotiate(f *testing.F) {
	for _, seed := range []string{"", "*/*", "text/event-stream;q=0.5, application/json", `a/b;x="\",", ;`, `a/b;x="\`, "q=1;/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		r := httptest.NewRequest(http.MethodPost, "/", http.NoBody)
		r.Header.Set("Accept", accept+", text/event-stream;q=0.001")
		got := sse.Negotiate(httptest.NewRecorder(), r, "application/json", "text/event-stream")
		require.Contains(t, []string{"", "application/json", "text/event-stream"}, got)
	})
}
