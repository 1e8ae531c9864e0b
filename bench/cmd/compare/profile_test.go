//go:build linux

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestProfile(t *testing.T) {
	folder := t.TempDir()
	w := encode(small, 20*time.Millisecond)
	ctx := withProfile(t.Context(), folder, cell{w.name, "fake right"})
	if _, err := w.run(ctx, find(t, "fake right")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(folder, "encode-100-fake-right.pprof")); err != nil || info.Size() == 0 {
		t.Errorf("profile: got %v, %v", info, err)
	}
}
