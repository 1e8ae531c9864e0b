package main

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each style has a contrast of at least 3 to 1 to black and to white.
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

// luminance returns the relative luminance, as WCAG 2 defines it, of one of the 256 colors.
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
