//go:build linux

package main

import (
	"strings"
	"testing"
	"time"
)

func TestFullRateFailsWhenAStreamEnds(t *testing.T) {
	_, err := full(10, time.Minute).run(t.Context(), find(t, "fake closes"))
	if err == nil || !strings.Contains(err.Error(), "1 streams ended") {
		t.Errorf("got %v", err)
	}
}
