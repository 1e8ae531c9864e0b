//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
)

// profileEnv is the environment variable that tells the measured process where to write its
// CPU profile. Profiling makes the figures a few percent worse.
const profileEnv = "COMPARE_PROFILE"

// profileKey is the context key of the profile's file name.
type profileKey struct{}

// withProfile returns a context in which the measured process of a run writes its CPU
// profile to folder. key names the file.
func withProfile(ctx context.Context, folder string, key cell) context.Context {
	name := strings.NewReplacer("/", "-", " ", "-", ",", "").Replace(key.workload + "-" + key.library)
	return context.WithValue(ctx, profileKey{}, filepath.Join(folder, name+".pprof"))
}

// profileOf returns the environment of a child that is started in ctx. It is nil, which
// means the parent's, if no profile is wanted.
func profileOf(ctx context.Context) []string {
	if file, ok := ctx.Value(profileKey{}).(string); ok {
		return append(os.Environ(), profileEnv+"="+file)
	}
	return nil
}

// profiled returns f, or an operation that calls f and writes its CPU profile if the parent
// asks for it.
func profiled(f operation) operation {
	file := os.Getenv(profileEnv)
	if file == "" {
		return f
	}
	return func(args json.RawMessage) (result any, err error) {
		out, err := os.Create(file)
		if err != nil {
			return nil, err
		}
		if err := pprof.StartCPUProfile(out); err != nil {
			return nil, errors.Join(err, out.Close())
		}
		result, err = f(args)
		pprof.StopCPUProfile()
		return result, errors.Join(err, out.Close())
	}
}
