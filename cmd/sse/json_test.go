package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
		assert.Less(t, len(text), 3*len(compact), "indentation must be bounded")
		again, _ := asJSON(string(text))
		assert.Equal(t, compact, again)
	})
}

// The layout must not change the JSON.
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
