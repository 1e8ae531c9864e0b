//go:build linux

package main

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/chi-sse/sse/bench/internal/library"
)

func TestCheckFindsWhatIsWrong(t *testing.T) {
	for name, want := range map[string]string{
		"fake alters": "abd",
		"fake swaps":  "in place of",
		"fake dies":   "of its own accord",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := checkFanOut(t.Context(), find(t, name)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestEachCheckFindsAWrongEvent(t *testing.T) {
	for _, of := range []*discipline{encoding, decoding, reading, oneByOne} {
		t.Run(of.name, func(t *testing.T) {
			t.Parallel()
			err := of.check(t.Context(), find(t, "fake alters"))
			if err == nil || !strings.Contains(err.Error(), "abd") {
				t.Errorf("got %v", err)
			}
		})
	}
	err := checkEncode(library.Library{NewEncode: func() library.Encode {
		return func(m library.Message) ([]byte, error) {
			return fmt.Appendf(nil, "id: %s\nevent: %s\ndata: %s\n\ndata: x\n\n", m.ID, m.Name, m.Data), nil
		}
	}})
	if err == nil || !strings.Contains(err.Error(), "which is 2 events") {
		t.Errorf("an encoder that adds an event: got %v", err)
	}
	err = checkDecode(library.Library{Decode: func(io.Reader, library.Sink) error { return nil }})
	if err == nil || err.Error() != "0 of 200 events came" {
		t.Errorf("a decoder without events: got %v", err)
	}
}
