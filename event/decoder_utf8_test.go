package event_test

// This file tests how the Decoder replaces ill-formed UTF-8.

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDecodeIllFormed decodes every sequence of up to four bytes from the edges of the table
// of well-formed UTF-8, each in a value by itself. The bytes include every kind that can
// begin a sequence, and every kind that can continue or break one.
func TestDecodeIllFormed(t *testing.T) {
	var sequences []string
	for _, b := range []byte("A\x7F\x80\xBF\xC0\xC1\xC2\xDF\xE0\xE1\xEC\xED\xEE\xEF\xF0\xF1\xF3\xF4\xF5\xFF") {
		sequences = append(sequences, string([]byte{b}))
	}
	for shorter, n := sequences, 2; n <= 4; n++ {
		var longer []string
		for _, head := range shorter {
			for _, b := range []byte("A\x7F\x80\x8F\x90\x9F\xA0\xBF\xC0\xC2\xE1\xF1") {
				longer = append(longer, head+string([]byte{b}))
			}
		}
		sequences, shorter = append(sequences, longer...), longer
	}
	var stream bytes.Buffer
	for _, sequence := range sequences {
		stream.WriteString("data:" + sequence + "\n\n")
	}
	want := readNaively(stream.Bytes(), false, false).events
	require.Len(t, want, len(sequences))
	got := decodeAll(t, &stream, nil)
	require.Len(t, got, len(want))
	for i := range got {
		if got[i] != want[i] {
			require.Equal(t, want[i], got[i], "%q", sequences[i])
		}
	}
}
