package event

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// The functions in ascii.go look at many bytes at once, so they have edge cases at every
// few lengths and positions. This test tries all of them, and compares the results with
// those of a loop over single bytes.
func TestLeadingLengths(t *testing.T) {
	naive := func(b []byte, is func(byte) bool) int {
		for i, c := range b {
			if !is(c) {
				return i
			}
		}
		return len(b)
	}
	isPlain := func(c byte) bool { return c >= ' ' && c <= 0x7F }
	isASCII := func(c byte) bool { return c <= 0x7F }
	isPrintable := func(c byte) bool { return c >= ' ' && c < 0x7F }
	check := func(b []byte) {
		t.Helper()
		want := naive(b, isPlain)
		if plainLen(b) != want || plainLen(string(b)) != want {
			require.Equal(t, want, plainLen(b), "plainLen of %q", b)
			require.Equal(t, want, plainLen(string(b)), "plainLen of the string %q", b)
		}
		if want = naive(b, isASCII); asciiLen(b) != want {
			require.Equal(t, want, asciiLen(b), "asciiLen of %q", b)
		}
		if want := naive(b, isPrintable) == len(b); printable(string(b)) != want {
			require.Equal(t, want, printable(string(b)), "printable of %q", b)
		}
	}

	odd := []byte{0, '\n', 0x1F, 0x7F, 0x80, 0xFF}
	for length := range 201 {
		plain := make([]byte, length)
		for i := range plain {
			plain[i] = ' ' + byte(i*7%95) // from the space to the tilde
		}
		check(plain)
		for at := range length {
			for _, c := range odd {
				was := plain[at]
				plain[at] = c
				check(plain)
				plain[at] = was
			}
		}
	}
	for c := range 256 { // every byte value, at each position in a word, among each kind of neighbor
		for _, filler := range []byte{' ', 'x', 0x7F} {
			for length := range 19 {
				for at := range length {
					b := bytes.Repeat([]byte{filler}, length)
					b[at] = byte(c)
					check(b)
				}
			}
		}
	}
}
