package hub

import (
	"encoding"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	_ encoding.TextAppender    = Position{}
	_ encoding.TextMarshaler   = Position{}
	_ encoding.TextUnmarshaler = (*Position)(nil)
)

var positionTests = []struct {
	text string
	pos  Position
}{
	{"0-0", Position{}},
	{"0-1", Position{0, 1}},
	{"z-10", Position{35, 10}},
	{"10-9", Position{36, 9}},
	{"k3f9x2ab-1024", Position{1574737280723, 1024}},
	{"3w5e11264sgsf-18446744073709551615", Position{math.MaxUint64, math.MaxUint64}},
}

func TestPositionText(t *testing.T) {
	for _, tt := range positionTests {
		assert.Equal(t, tt.text, tt.pos.String())
		pos, err := ParsePosition(tt.text)
		require.NoError(t, err, tt.text)
		assert.Equal(t, tt.pos, pos, tt.text)

		text, err := tt.pos.AppendText([]byte("x"))
		require.NoError(t, err)
		assert.Equal(t, "x"+tt.text, string(text))

		object, err := json.Marshal(map[Position]Position{tt.pos: tt.pos})
		require.NoError(t, err)
		assert.JSONEq(t, `{"`+tt.text+`":"`+tt.text+`"}`, string(object))
		back := make(map[Position]Position)
		require.NoError(t, json.Unmarshal(object, &back))
		assert.Equal(t, map[Position]Position{tt.pos: tt.pos}, back)
		assert.Equal(t, tt.text == "0-0", tt.pos.IsZero())
	}
}

// A position has one spelling. ParsePosition refuses every other.
func TestPositionCanonical(t *testing.T) {
	for _, text := range []string{
		"", "-", "0", "0-", "-0", "a", "a1", "1-2-3", "1--2", "--", "a-b", "a-1b", "a-1 ", " a-1", "a -1", "a- 1",
		"A-1", "aB-1", "00-1", "0a-1", "a-00", "a-01", "+a-1", "a-+1", "-a-1", "a--1", "a_b-1", "a-1_0", "0x1-1", "a-0x1",
		"é-1", "a-١", "a-1\n", "a-1\x00", "3w5e11264sgsg-1", "a-18446744073709551616", "a-1.0", "a-1e3", "a–1",
	} {
		pos, err := ParsePosition(text)
		require.Error(t, err, text)
		assert.True(t, strings.HasPrefix(err.Error(), "hub: "), err)
		assert.Equal(t, Position{}, pos, text)
		p := Position{1, 1}
		require.Error(t, p.UnmarshalText([]byte(text)), text)
	}
}

func TestEpoch(t *testing.T) {
	seen := make(map[uint64]bool)
	for range 1000 {
		epoch := newEpoch()
		seen[epoch] = true
		text := Position{Epoch: epoch}.String()
		require.Len(t, text, len("k3f9x2ab-0"), text)
	}
	assert.Len(t, seen, 1000)
}

func FuzzParsePosition(f *testing.F) {
	for _, tt := range positionTests {
		f.Add(tt.text)
	}
	for _, text := range []string{"", "-", "A-1", "00-1", "a-01", "a--1", "+a-1", "a_b-1", "3w5e11264sgsg-1", "a-1\n", "\xff-1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		pos, err := ParsePosition(text)
		if err != nil {
			require.Equal(t, Position{}, pos)
			return
		}
		require.Equal(t, text, pos.String())
		var back Position
		require.NoError(t, back.UnmarshalText([]byte(text)))
		require.Equal(t, pos, back)
		require.NotContains(t, text, "\n")
	})
}
