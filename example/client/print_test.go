package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
)

// printed returns what a printer makes of ev, at noon.
func printed(t *testing.T, p printer, ev client.Event) string {
	t.Helper()
	var out strings.Builder
	p.w = &out
	p.now = func() time.Time { return time.Date(2024, time.May, 6, 12, 0, 0, 5e6, time.UTC) }
	require.NoError(t, p.print(ev))
	return out.String()
}

func TestPretty(t *testing.T) {
	tests := []struct {
		name string
		ev   client.Event
		want string
	}{
		{
			"text",
			client.Event{Data: "hello"},
			"12:00:00.005 message\nhello\n",
		},
		{
			"lines",
			client.Event{Name: "note", Data: "one\n\n\ttwo"},
			"12:00:00.005 note\none\n\n\ttwo\n",
		},
		{
			"no data",
			client.Event{Name: "ping"},
			"12:00:00.005 ping\n",
		},
		{
			"id and retry",
			client.Event{ID: "7 a", Data: "x", Retry: 1500 * time.Millisecond},
			"12:00:00.005 message id 7 a retry 1.5s\nx\n",
		},
		{
			"retry at once",
			client.Event{Data: "x", Retry: event.RetryImmediately},
			"12:00:00.005 message retry 0s\nx\n",
		},
		{
			"comment alone",
			client.Event{Comment: "beat", ID: "7"},
			"12:00:00.005 : beat\n",
		},
		{
			"comment with an event",
			client.Event{Comment: "one\ntwo", Data: "x"},
			"12:00:00.005 : one\n12:00:00.005 : two\n12:00:00.005 message\nx\n",
		},
		{
			"JSON",
			client.Event{Data: `{"a":1,"b":[true,null]}`},
			"12:00:00.005 message\n" + `{"a": 1, "b": [true, null]}` + "\n",
		},
		{
			"nearly JSON",
			client.Event{Data: `{"a":1,}`},
			"12:00:00.005 message\n" + `{"a":1,}` + "\n",
		},
		{
			"a JSON string stays as it is",
			client.Event{Data: `"a\tb"`},
			"12:00:00.005 message\n" + `"a\tb"` + "\n",
		},
		{
			"[DONE]",
			client.Event{Data: "[DONE]"},
			"12:00:00.005 message\n[DONE]\n",
		},
		{
			"escapes",
			client.Event{Name: "n\x1b[2J", ID: "i\x9b\u202e", Data: "a\x1b[31mb\x00\x7f\u0085\u009b\u202e\u2066\u200f\u2028\xff\ufffd", Comment: "c\x1b]0;t\x07"},
			`12:00:00.005 : c\x1b]0;t\x07` + "\n" +
				`12:00:00.005 n\x1b[2J id i\x9b\u202e` + "\n" +
				`a\x1b[31mb\x00\x7f\u0085\u009b\u202e\u2066\u200f\u2028\xff` + "\ufffd\n",
		},
		{
			"escapes in JSON",
			client.Event{Data: "{\"k\u202e\":\"\x7f\u009b\u2069 \\u001b[2J \\\"\"}"},
			"12:00:00.005 message\n" + `{"k\u202e": "\u007f\u009b\u2069 \u001b[2J \""}` + "\n",
		},
		{
			"unicode",
			client.Event{Name: "größe", Data: "日本語 🎉 e\u0301"},
			"12:00:00.005 größe\n日本語 🎉 e\u0301\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, printed(t, printer{}, tt.ev))
			assert.Equal(t, tt.want, unpaint(t, printed(t, printer{color: true, terminal: true}, tt.ev)), "colors add nothing else")
		})
	}
}

var sgr = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// unpaint returns text without colors, of which none may be left at the end of a line.
func unpaint(t *testing.T, text string) string {
	t.Helper()
	for line := range strings.SplitSeq(text, "\n") {
		style := ""
		for _, code := range sgr.FindAllString(line, -1) {
			if code == "\x1b[27m" {
				assert.NotEqual(t, "\x1b[m", style, "%q", line)
				continue
			}
			style = code
		}
		assert.Contains(t, []string{"", "\x1b[m", "\x1b[7m"}, style, "%q", line)
	}
	return sgr.ReplaceAllString(text, "")
}

func TestColors(t *testing.T) {
	p := printer{color: true, terminal: true}
	assert.Equal(t,
		"\x1b[38;5;243m12:00:00.005 \x1b[m"+
			"\x1b[1;38;5;98mmessage\x1b[m"+
			"\x1b[38;5;243m id 7\x1b[m\n"+
			"{\x1b[38;5;31m\"a\"\x1b[m: \x1b[38;5;130m1\x1b[m, \x1b[38;5;31m\"b\"\x1b[m: "+
			"[\x1b[38;5;133mtrue\x1b[m, \x1b[38;5;28m\"x\x1b[7m\\u007f\x1b[27my\"\x1b[m]}\n",
		printed(t, p, client.Event{ID: "7", Data: "{\"a\":1,\"b\":[true,\"x\x7fy\"]}"}))
	assert.Equal(t, "a\x1b[7m\\x1b\x1b[27mb\n", printed(t, printer{format: dataLines, color: true, terminal: true}, client.Event{Data: "a\x1bb"}))

	name := func(name string) string {
		return strings.SplitAfter(printed(t, p, client.Event{Name: name}), "m")[2]
	}
	colors := map[string]bool{}
	for i := range 100 {
		colors[name(strconv.Itoa(i))] = true
	}
	assert.Len(t, colors, len(nameStyles), "names differ")
}

func TestData(t *testing.T) {
	ev := client.Event{ID: "7", Name: "n", Comment: "c", Data: "a\x1b[31m\u009b\u202e\n{\"b\":  1}\x00"}
	assert.Equal(t, ev.Data+"\n", printed(t, printer{format: dataLines}, ev), "to a pipe it is raw")
	assert.Equal(t, `a\x1b[31m\u009b\u202e`+"\n"+`{"b":  1}\x00`+"\n", printed(t, printer{format: dataLines, terminal: true}, ev))
	assert.Equal(t, "\n", printed(t, printer{format: dataLines}, client.Event{Name: "n"}))
}

func TestObject(t *testing.T) {
	const now = `{"time":"2024-05-06T12:00:00.005Z"`
	tests := []struct {
		name string
		ev   client.Event
		want string
	}{
		{"text", client.Event{Data: "a\n\"b\" <&>"}, now + `,"event":"message","data":"a\n\"b\" <&>"}`},
		{"object", client.Event{Name: "n", ID: "7", Data: "{ \"b\": 1.50,\n\"b\": \"<\" }"}, now + `,"event":"n","id":"7","data":{"b":1.50,"b":"<"}}`},
		{"array", client.Event{Data: "[1, 2]"}, now + `,"event":"message","data":[1,2]}`},
		{"number", client.Event{Data: "1"}, now + `,"event":"message","data":"1"}`},
		{"no data", client.Event{Name: "n"}, now + `,"event":"n","data":""}`},
		{"comment", client.Event{Comment: "beat", ID: "7"}, now + `,"comment":"beat"}`},
		{"comment with an event", client.Event{Comment: "c", Data: "x"}, now + `,"event":"message","data":"x","comment":"c"}`},
		{"retry", client.Event{Data: "x", Retry: 2 * time.Second}, now + `,"event":"message","data":"x","retry":2000}`},
		{"retry at once", client.Event{Data: "x", Retry: event.RetryImmediately}, now + `,"event":"message","data":"x","retry":0}`},
		{
			"escapes",
			client.Event{Name: "n\u202e", Data: "\x1b\x7f\u009b\u2028"},
			now + `,"event":"n\u202e","data":"\u001b\u007f\u009b\u2028"}`,
		},
		{"escapes in an object", client.Event{Data: "[\"\x7f\u009b\u202e\"]"}, now + `,"event":"message","data":["\u007f\u009b\u202e"]}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, p := range []printer{{}, {terminal: true}, {terminal: true, color: true}} {
				p.format = jsonObjects
				assert.Equal(t, tt.want+"\n", printed(t, p, tt.ev))
			}
			assert.True(t, json.Valid([]byte(tt.want)))
		})
	}
}

func TestJSONLayout(t *testing.T) {
	nested := func(depth int) string { return strings.Repeat(`[0,`, depth) + "0" + strings.Repeat("]", depth) }
	tests := []struct{ name, data, want string }{
		{"empty", `{}`, `{}`},
		{"empty array", ` [ ] `, `[]`},
		{"short", `{"a":{"b":[1,{}]}}`, `{"a": {"b": [1, {}]}}`},
		{
			"members",
			`{"name":"` + strings.Repeat("x", 70) + `","tags":["a","b"],"none":[],"o":{"k":null}}`,
			"{\n" +
				`  "name": "` + strings.Repeat("x", 70) + `",` + "\n" +
				`  "tags": ["a", "b"],` + "\n" +
				`  "none": [],` + "\n" +
				`  "o": {"k": null}` + "\n}",
		},
		{
			"nesting",
			`[[["` + strings.Repeat("x", 80) + `"]]]`,
			"[\n  [\n    [\n      \"" + strings.Repeat("x", 80) + "\"\n    ]\n  ]\n]",
		},
		{"duplicate keys in their order", `{"b":1,"a":2,"b":3}`, `{"b": 1, "a": 2, "b": 3}`},
		{
			"digits",
			`[1.0,-0,1E+2,0.1000000000000000055511151231257827,12345678901234567890123]`,
			`[1.0, -0, 1E+2, 0.1000000000000000055511151231257827, 12345678901234567890123]`,
		},
		{"strings as they are written", `["\u00e9é\/\"\\","{[,:]}"]`, `["\u00e9é\/\"\\", "{[,:]}"]`},
		{"80 columns fit", `["` + strings.Repeat("é", 75) + `"]`, `["` + strings.Repeat("é", 75) + `"]`},
		{"81 do not", `["` + strings.Repeat("é", 77) + `"]`, "[\n  \"" + strings.Repeat("é", 77) + "\"\n]"},
		{
			"a key counts",
			`{"` + strings.Repeat("é", 60) + `":["` + strings.Repeat("x", 9) + `"],"` + strings.Repeat("é", 60) + `":["` + strings.Repeat("x", 10) + `"]}`,
			"{\n  \"" + strings.Repeat("é", 60) + `": ["` + strings.Repeat("x", 9) + "\"],\n" +
				"  \"" + strings.Repeat("é", 60) + "\": [\n    \"" + strings.Repeat("x", 10) + "\"\n  ]\n}",
		},
		{
			"what is empty stays on its line",
			`{"` + strings.Repeat("x", 90) + `":{},"b":[]}`,
			"{\n  \"" + strings.Repeat("x", 90) + "\": {},\n  \"b\": []\n}",
		},
		{
			"a comma that follows must fit",
			`[["` + strings.Repeat("x", 73) + `"],["` + strings.Repeat("x", 74) + `"]]`,
			"[\n  [\"" + strings.Repeat("x", 73) + "\"],\n  [\n    \"" + strings.Repeat("x", 74) + "\"\n  ]\n]",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			compact, ok := asJSON(tt.data)
			require.True(t, ok)
			assert.Equal(t, tt.want, string(appendJSON(nil, compact, false)))
		})
	}

	t.Run("deep", func(t *testing.T) {
		compact, ok := asJSON(nested(9000))
		require.True(t, ok)
		text := appendJSON(nil, compact, false)
		assert.Less(t, len(text), 3*len(compact), "indentation has an end")
		again, _ := asJSON(string(text))
		assert.Equal(t, compact, again)
	})
}

// However it is laid out, it is the same JSON.
func FuzzJSONLayout(f *testing.F) {
	for _, seed := range []string{
		`{"a":{"b":[1,2,{"c":"` + strings.Repeat("x", 60) + `"}],"d":[]},"e":"\"}"}`,
		`[[[[[[{"a":[1e5,true,"\\"]}]]]]]]`, "[\"\x7f\u202e\"]", `[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28]`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data string) {
		compact, ok := asJSON(strings.ToValidUTF8(data, "?"))
		if !ok {
			return
		}
		text := appendJSON(nil, compact, false)
		var same bytes.Buffer
		require.NoError(t, json.Compact(&same, text))
		require.Equal(t, string(appendVisible(nil, string(compact), inJSON, false)), same.String())
		require.Equal(t, string(text), unpaint(t, string(appendJSON(nil, compact, true))))
	})
}

func TestPrinterWritesAnEventAtOnce(t *testing.T) {
	var writes int
	p := printer{w: writerFunc(func(b []byte) (int, error) {
		writes++
		return len(b), nil
	}), now: time.Now}
	require.NoError(t, p.print(client.Event{Comment: "a\nb", Data: "c\nd"}))
	assert.Equal(t, 1, writes)

	broken := printer{w: writerFunc(func([]byte) (int, error) { return 0, io.ErrShortWrite }), now: time.Now}
	require.ErrorIs(t, broken.print(client.Event{}), io.ErrShortWrite)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestColored(t *testing.T) {
	// What the program takes for a terminal is a character device.
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer device.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer file.Close()
	closed, err := os.Create(filepath.Join(t.TempDir(), "closed"))
	require.NoError(t, err)
	require.NoError(t, closed.Close())

	tests := []struct {
		name    string
		w       io.Writer
		opts    options
		noColor string
		term    string
		want    bool
	}{
		{"terminal", device, options{}, "", "xterm", true},
		{"file", file, options{}, "", "xterm", false},
		{"closed", closed, options{}, "", "xterm", false},
		{"no file", io.Discard, options{}, "", "xterm", false},
		{"-no-color", device, options{noColor: true}, "", "xterm", false},
		{"NO_COLOR", device, options{}, "1", "xterm", false},
		{"dumb", device, options{}, "", "dumb", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("NO_COLOR", tt.noColor)
			t.Setenv("TERM", tt.term)
			assert.Equal(t, tt.want, colored(tt.w, &tt.opts))
		})
	}
}

// Each style stands out against black and against white.
func TestStylesHaveContrast(t *testing.T) {
	for _, s := range append([]style{dim, good, warning, bad, jsonKey, jsonString, jsonNumber, jsonLiteral}, nameStyles...) {
		_, number, ok := strings.Cut(string(s), "38;5;")
		require.True(t, ok)
		n, err := strconv.Atoi(number)
		require.NoError(t, err)
		l := luminance(n)
		assert.GreaterOrEqual(t, 1.05/(l+0.05), 3.0, "%s on white", s)
		assert.GreaterOrEqual(t, (l+0.05)/0.05, 3.0, "%s on black", s)
	}
}

// luminance returns the relative luminance of one of the 256 colors, as WCAG 2 has
// it.
func luminance(n int) float64 {
	level := func(v int) float64 { // of the sRGB value
		c := float64(v) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	if n >= 232 {
		return level(8 + 10*(n-232))
	}
	steps := []int{0, 95, 135, 175, 215, 255}
	n -= 16
	return 0.2126*level(steps[n/36]) + 0.7152*level(steps[n/6%6]) + 0.0722*level(steps[n%6])
}

func TestSizesAndDurations(t *testing.T) {
	for n, want := range map[int]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 1234567: "1.2 MB", 2e9: "2.0 GB"} {
		assert.Equal(t, want, size(n))
	}
	for d, want := range map[time.Duration]string{
		0:                       "0s",
		1234 * time.Microsecond: "1ms",
		1540 * time.Millisecond: "1.5s",
		3723400 * 1e6:           "1h2m3s",
	} {
		assert.Equal(t, want, duration(d))
	}
	for n, want := range map[int]string{0: "0 events", 1: "1 event", 2: "2 events"} {
		assert.Equal(t, want, plural(n, "event"))
	}
	assert.Contains(t, (&tally{seen: 3, shown: 1}).String(), "1 of 3 events, ")
	assert.Equal(t, "3 events, 1.5 kB of data, 0s, 1 reconnection", fmt.Sprint(&tally{seen: 3, shown: 3, bytes: 1500, connections: 2}))
}
