package sse_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/render"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/testkit"
)

// sentBy returns the stream that h sends.
func sentBy(t *testing.T, h sse.Handler, options ...sse.RouteOption) string {
	t.Helper()
	r := newRouter(sse.Config{})
	r.SSE("/rooms/{room}", h, options...)
	rec := record(r, "GET", "/rooms/7")
	require.Equal(t, http.StatusOK, rec.Code)
	return rec.Body.String()
}

// dataOf returns the data that SendData sends for v, without "data: " and the blank line.
func dataOf(t *testing.T, v any, options ...sse.RouteOption) string {
	t.Helper()
	text := sentBy(t, func(s *sse.ServerSession) error {
		assert.NoError(t, s.SendData(v))
		return nil
	}, options...)
	data, ok := strings.CutPrefix(text, "data: ")
	require.True(t, ok, text)
	data, ok = strings.CutSuffix(data, "\n\n")
	require.True(t, ok, text)
	return data
}

func TestSerializeJSON(t *testing.T) {
	t.Parallel()
	type point struct {
		X, Y int
		Note string `json:"note,omitempty"`
	}
	html := map[string]string{"html": `<a href="/?a=1&b=2">`}
	for _, tt := range []struct {
		v    any
		want string
	}{
		{point{1, 2, ""}, `{"X":1,"Y":2}`},
		{&point{1, 2, "line\nbreak"}, `{"X":1,"Y":2,"note":"line\nbreak"}`},
		{html, `{"html":"<a href=\"/?a=1&b=2\">"}`},
		{"unquoted", `unquoted`},
		{[]byte("unquoted"), `unquoted`},
		{7, `7`},
		{-0.5, `-0.5`},
		{true, `true`},
		{nil, `null`},
		{(*point)(nil), `null`},
		{[]string{"a", "é", "\u2028"}, `["a","é","\u2028"]`},
		{json.RawMessage(`{ "a" : 1 }`), `{"a":1}`},
		{time.Second, `1000000000`},
		{[]byte{}, ``},
		{"", ``},
		{errName("x"), `"x"`},
	} {
		require.Equal(t, tt.want, dataOf(t, tt.v), "%T", tt.v)
		require.Equal(t, tt.want, dataOf(t, tt.v, sse.WithSerializer(sse.JSON)), "%T", tt.v)
	}
	escaped := `{"html":"\u003ca href=\"/?a=1\u0026b=2\"\u003e"}`
	require.Equal(t, escaped, dataOf(t, html, sse.WithSerializer(sse.JSONSerializer{EscapeHTML: true})))

	dst := []byte("before ")
	for range 3 { // with and without EscapeHTML by turns
		out, err := sse.JSONSerializer{EscapeHTML: true}.AppendData(dst, "<")
		require.NoError(t, err)
		require.Equal(t, `before "\u003c"`, string(out))
		out, err = sse.JSON.AppendData(dst, "<")
		require.NoError(t, err)
		require.Equal(t, `before "<"`, string(out))
		out, err = sse.JSON.AppendData(dst, math.NaN())
		require.Error(t, err)
		require.Equal(t, "before ", string(out))
	}
}

type errName string

func TestSerializeJSONConcurrently(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 300 {
				v := map[string]any{"g": g, "i": i, "text": strings.Repeat("<", i)}
				want := fmt.Sprintf(`> {"g":%d,"i":%d,"text":%q}`, g, i, strings.Repeat("<", i))
				got, err := sse.JSON.AppendData([]byte("> "), v)
				testkit.NoError(t, err)
				assert.Equal(t, want, string(got))
				if _, err = sse.JSON.AppendData(nil, func() {}); err == nil {
					assert.Fail(t, "a function was encoded as JSON")
				}
				assert.Panics(t, func() { _, _ = sse.JSON.AppendData(nil, panicking{}) })
			}
		})
	}
	wg.Wait()
}

type panicking struct{}

func (panicking) MarshalJSON() ([]byte, error) { panic("in MarshalJSON") }

func TestSerializeLinesBecomeDataLines(t *testing.T) {
	t.Parallel()
	indented := sse.SerializerFunc(func(dst []byte, v any) ([]byte, error) {
		b, err := json.MarshalIndent(v, "", "  ")
		return append(dst, b...), err
	})
	require.Equal(t, "data: {\ndata:   \"a\": 1\ndata: }\nid: 7\n\n",
		sentBy(t, func(s *sse.ServerSession) error {
			return s.SendTyped(sse.TypedEvent{ID: "7", Data: map[string]int{"a": 1}})
		}, sse.WithSerializer(indented)))
	require.Equal(t, "data: a\ndata: b\ndata: \ndata: c\n\n", sentBy(t, func(s *sse.ServerSession) error {
		return s.SendData(1)
	}, sse.WithSerializer(sse.SerializerFunc(func(dst []byte, _ any) ([]byte, error) { return append(dst, "a\r\nb\r\rc"...), nil }))))
	require.Equal(t, "data: a\ndata: ü\n\n", sentBy(t, func(s *sse.ServerSession) error { return s.SendData("a\nü") }))
	require.Equal(t, "data: a\ndata: ü\n\n", sentBy(t, func(s *sse.ServerSession) error { return s.SendData([]byte("a\rü")) }))
}

func TestSerializeSerializerOfPluginAndRoute(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{Serializer: sse.XML})
	send := func(s *sse.ServerSession) error {
		return errors.Join(s.SendData(7), s.SendData(true), s.SendData("as it is"))
	}
	r.SSE("/plugin", send)
	r.SSE("/json", send, sse.WithSerializer(sse.JSON))
	r.SSE("/fields", send, sse.WithSerializer(fields))
	r.Handle("/pathless", r.SSEHandler(send, sse.WithSerializer(sse.Text)))
	for path, want := range map[string]string{
		"/plugin":   "data: <int>7</int>\n\ndata: <bool>true</bool>\n\n",
		"/json":     "data: 7\n\ndata: true\n\n",
		"/fields":   "data: int 7\n\ndata: bool true\n\n",
		"/pathless": "data: 7\n\ndata: true\n\n",
	} {
		require.Equal(t, want+"data: as it is\n\n", record(r, "GET", path).Body.String(), path)
	}
}

type (
	textName     string
	textAppend   struct{}
	textMarshal  struct{ err error }
	textStringer struct{ n int }
)

func (textAppend) AppendText(dst []byte) ([]byte, error) { return append(dst, "appended"...), nil }

func (m textMarshal) MarshalText() ([]byte, error) { return []byte("marshaled"), m.err }
func (s textStringer) String() string              { return fmt.Sprint("stringer ", s.n) }

func TestSerializeText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		v    any
		want string
	}{
		{"string", "string"},
		{[]byte("bytes"), "bytes"},
		{textName("named"), "named"},
		{textAppend{}, "appended"},
		{netip.MustParseAddr("::1"), "::1"},
		{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "2026-01-02T03:04:05Z"},
		{textMarshal{}, "marshaled"},
		{errors.New("an error"), "an error"},
		{textStringer{7}, "stringer 7"},
		{time.Minute, "1m0s"},
		{true, "true"},
		{-7, "-7"},
		{uint8(7), "7"},
		{int64(math.MinInt64), "-9223372036854775808"},
		{uintptr(7), "7"},
		{1.5, "1.5"},
		{float32(0.1), "0.1"},
		{complex(1, -1), "(1-1i)"},
		{'x', "120"},
	} {
		got, err := sse.Text.AppendData([]byte("> "), tt.v)
		require.NoError(t, err, "%T", tt.v)
		require.Equal(t, "> "+tt.want, string(got), "%T", tt.v)
		require.Equal(t, tt.want, dataOf(t, tt.v, sse.WithSerializer(sse.Text)), "%T", tt.v)
	}
	for _, v := range []any{
		nil, struct{ A int }{1}, &struct{ A int }{1}, []int{1}, []string{"a"}, map[string]int{}, make(chan int), func() {}, [2]byte{1, 2},
	} {
		got, err := sse.Text.AppendData([]byte("> "), v)
		require.EqualError(t, err, fmt.Sprintf("%T is not text", v))
		require.Equal(t, "> ", string(got))
	}
	_, err := sse.Text.AppendData(nil, textMarshal{errOwn})
	require.ErrorIs(t, err, errOwn)
}

func TestSerializeXML(t *testing.T) {
	t.Parallel()
	type room struct {
		XMLName xml.Name `xml:"room"`
		ID      int      `xml:"id,attr"`
		Name    string   `xml:"name"`
	}
	require.Equal(t, `<room id="7"><name>&lt;b&gt; &amp; c</name></room>`,
		dataOf(t, room{ID: 7, Name: "<b> & c"}, sse.WithSerializer(sse.XML)))
	got, err := sse.XML.AppendData([]byte("> "), map[string]int{"no": 1})
	require.Error(t, err)
	require.Equal(t, "> ", string(got))
}

// rendered is a payload that implements render.Renderer.
type rendered struct {
	Room   string          `json:"room,omitempty"`
	Author *renderedAuthor `json:"author,omitempty"`
	Value  renderedValue   `json:"value"`
	Any    render.Renderer `json:"any,omitempty"`
	hidden *renderedAuthor
	err    error
}

func (p *rendered) Render(w http.ResponseWriter, r *http.Request) error {
	p.Room = chi.URLParam(r, "room")
	render.Status(r, http.StatusTeapot)
	w.Header().Set("X-From-Render", "no")
	w.WriteHeader(http.StatusTeapot)
	if _, err := w.Write([]byte("no")); !errors.Is(err, http.ErrBodyNotAllowed) {
		return fmt.Errorf("a write in Render: %w", err)
	}
	return p.err
}

type renderedAuthor struct {
	Name string `json:"name"`
	err  error
}

func (a *renderedAuthor) Render(http.ResponseWriter, *http.Request) error {
	a.Name = strings.ToUpper(a.Name)
	return a.err
}

type renderedValue struct {
	Calls *int `json:"calls,omitempty"`
}

func (v renderedValue) Render(http.ResponseWriter, *http.Request) error {
	if v.Calls != nil {
		*v.Calls++
	}
	return nil
}

func TestSerializeRenderers(t *testing.T) {
	t.Parallel()
	calls := func() *int { return new(int) }
	hidden := &renderedAuthor{Name: "hidden"}
	for name, tt := range map[string]struct {
		v    any
		want string
	}{
		"no fields":             {&rendered{}, `{"room":"7","value":{}}`},
		"nested pointer":        {&rendered{Author: &renderedAuthor{Name: "ann"}}, `{"room":"7","author":{"name":"ANN"},"value":{}}`},
		"nested value":          {&rendered{Value: renderedValue{calls()}}, `{"room":"7","value":{"calls":1}}`},
		"nested in two":         {&rendered{Any: &rendered{Author: &renderedAuthor{Name: "bo"}}}, `{"room":"7","value":{},"any":{"room":"7","author":{"name":"BO"},"value":{}}}`},
		"nil in an interface":   {&rendered{Any: (*renderedAuthor)(nil)}, `{"room":"7","value":{},"any":null}`},
		"unexported":            {&rendered{hidden: hidden}, `{"room":"7","value":{}}`},
		"a value":               {renderedValue{calls()}, `{"calls":1}`},
		"nil":                   {(*rendered)(nil), `null`},
		"a pointer to a value":  {&renderedValue{calls()}, `{"calls":1}`},
		"no renderer but holds": {struct{ A *renderedAuthor }{&renderedAuthor{Name: "cy"}}, `{"A":{"name":"cy"}}`},
		"a kind of its own":     {renderedInt(7), `7`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, dataOf(t, tt.v))
		})
	}
	require.Equal(t, "hidden", hidden.Name, "an unexported field was rendered")
}

type renderedInt int

func (renderedInt) Render(http.ResponseWriter, *http.Request) error { return nil }

func TestSerializeRenderersChangeNothingOfTheResponse(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.SSE("/{room}", func(s *sse.ServerSession) error {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 50 {
					assert.NoError(t, s.SendTyped(sse.TypedEvent{Name: "n", Data: &rendered{}}))
				}
			})
		}
		wg.Wait()
		assert.Nil(t, s.Call().Context().Value(render.StatusCtxKey))
		return nil
	})
	rec := record(r, "GET", "/7")
	require.Equal(t, http.StatusOK, rec.Code)
	require.NotContains(t, rec.Header(), "X-From-Render")
	require.Equal(t, strings.Repeat("event: n\ndata: {\"room\":\"7\",\"value\":{}}\n\n", 200), rec.Body.String())
}

// If a payload cannot be serialized, the handler gets the error, nothing is sent, and the
// session stays open.
func TestSerializeErrors(t *testing.T) {
	t.Parallel()
	broken := sse.SerializerFunc(func(dst []byte, _ any) ([]byte, error) { return append(dst, "half of"...), errOwn })
	garbage := sse.SerializerFunc(func(dst []byte, _ any) ([]byte, error) { return append(dst, "a\xffb"...), nil })
	for name, tt := range map[string]struct {
		v      func() any
		s      sse.Serializer
		is     error
		field  bool
		phrase string
	}{
		"serializer":           {func() any { return 7 }, broken, errOwn, false, "sse: send: serialize int: an error of the handler"},
		"JSON":                 {func() any { return make(chan int) }, sse.JSON, nil, false, "sse: send: serialize chan int: json: unsupported type: chan int"},
		"Text":                 {func() any { return struct{}{} }, sse.Text, nil, false, "sse: send: serialize struct {}: struct {} is not text"},
		"XML":                  {func() any { return func() {} }, sse.XML, nil, false, "sse: send: serialize func(): xml: unsupported type: func()"},
		"invalid UTF-8":        {func() any { return 7 }, garbage, nil, true, "sse: send: event: Data is not valid UTF-8 at byte 1"},
		"renderer":             {func() any { return &rendered{err: errOwn} }, sse.JSON, errOwn, false, "sse: render *sse_test.rendered: an error of the handler"},
		"renderer of a field":  {func() any { return &rendered{Author: &renderedAuthor{err: errOwn}} }, sse.JSON, errOwn, false, "sse: render *sse_test.rendered: an error of the handler"},
		"invalid string":       {func() any { return "a\xff" }, sse.JSON, nil, true, "sse: send: event: Data is not valid UTF-8 at byte 1"},
		"invalid bytes":        {func() any { return []byte("a\xff") }, sse.JSON, nil, true, "sse: send: event: Data is not valid UTF-8 at byte 1"},
		"renderer, serializer": {func() any { return &rendered{} }, broken, errOwn, false, "sse: send: serialize *sse_test.rendered: an error of the handler"},
	} {
		for _, opened := range []bool{true, false} {
			t.Run(fmt.Sprint(name, " opened ", opened), func(t *testing.T) {
				t.Parallel()
				var want bytes.Buffer
				got := sentBy(t, func(s *sse.ServerSession) error {
					if opened {
						require.NoError(t, s.SendData("before"))
						want.WriteString("data: before\n\n")
					}
					for _, send := range []func() error{
						func() error { return s.SendData(tt.v()) },
						func() error { return s.SendTyped(sse.TypedEvent{ID: "1", Name: "n", Data: tt.v()}) },
					} {
						err := send()
						require.EqualError(t, err, tt.phrase)
						if tt.is != nil {
							require.ErrorIs(t, err, tt.is)
						}
						var field *event.FieldError
						assert.Equal(t, tt.field, errors.As(err, &field))
						require.NotErrorIs(t, err, sse.ErrClosed)
						require.NoError(t, s.Context().Err())
					}
					require.NoError(t, s.SendData("after"))
					want.WriteString("data: after\n\n")
					return nil
				}, sse.WithSerializer(tt.s))
				require.Equal(t, want.String(), got)
			})
		}
	}
}

func TestSerializeTypedEvent(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		e    sse.TypedEvent
		want string
	}{
		"all fields": {
			sse.TypedEvent{ID: "7", Name: "n", Data: []int{1}, Comment: "c", Retry: time.Second},
			"event: n\ndata: [1]\nid: 7\nretry: 1000\n: c\n\n",
		},
		"all fields, a string": {
			sse.TypedEvent{ID: "7", Name: "n", Data: "text", Comment: "c", Retry: time.Second},
			"event: n\ndata: text\nid: 7\nretry: 1000\n: c\n\n",
		},
		"reset":                   {sse.TypedEvent{Data: 1, ResetID: true}, "data: 1\nid:\n\n"},
		"at once":                 {sse.TypedEvent{Data: 1, Retry: sse.RetryImmediately}, "data: 1\nretry: 0\n\n"},
		"nothing":                 {sse.TypedEvent{}, "data: \n\n"},
		"no data, a name":         {sse.TypedEvent{Name: "n"}, "event: n\ndata: \n\n"},
		"no data, an id":          {sse.TypedEvent{ID: "7"}, "id: 7\n\n"},
		"no data, a comment":      {sse.TypedEvent{Comment: "c"}, ": c\n\n"},
		"no data, a retry":        {sse.TypedEvent{Retry: time.Second}, "retry: 1000\n\n"},
		"empty string and an id":  {sse.TypedEvent{ID: "7", Data: ""}, "data: \nid: 7\n\n"},
		"empty bytes and an id":   {sse.TypedEvent{ID: "7", Data: []byte(nil)}, "data: \nid: 7\n\n"},
		"a nil that is a value":   {sse.TypedEvent{ID: "7", Data: (*int)(nil)}, "data: null\nid: 7\n\n"},
		"a string of lines":       {sse.TypedEvent{Name: "n", Data: "a\nb"}, "event: n\ndata: a\ndata: b\n\n"},
		"bytes of lines":          {sse.TypedEvent{Name: "n", Data: []byte("a\nb")}, "event: n\ndata: a\ndata: b\n\n"},
		"data like another event": {sse.TypedEvent{Data: []byte("x\n\nevent: forged")}, "data: x\ndata: \ndata: event: forged\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, sentBy(t, func(s *sse.ServerSession) error { return s.SendTyped(tt.e) }))
		})
	}
}
