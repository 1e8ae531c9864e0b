package main

import (
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
)

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
			assert.Equal(t, tt.want, unpaint(t, printed(t, printer{color: true, terminal: true}, tt.ev)), "colors must not change the text")
		})
	}
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
	assert.Len(t, colors, len(nameStyles), "each style must be used for some names")
}

func TestData(t *testing.T) {
	ev := client.Event{ID: "7", Name: "n", Comment: "c", Data: "a\x1b[31m\u009b\u202e\n{\"b\":  1}\x00"}
	assert.Equal(t, ev.Data+"\n", printed(t, printer{format: dataLines}, ev), "to a pipe the data must be unchanged")
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
