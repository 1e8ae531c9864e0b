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

// profileEnv is the variable that tells a server's process where to write the CPU
// profile of what it measures. It costs some percent of the figures.
const profileEnv = "COMPARE_PROFILE"

type profileKey struct{}

// withProfile has the servers that are started in ctx write a profile for the run of a
// workload, in folder.
func withProfile(ctx context.Context, folder string, key cell) context.Context {
	name := strings.NewReplacer("/", "-", " ", "-", ",", "").Replace(key.workload + "-" + key.library)
	return context.WithValue(ctx, profileKey{}, filepath.Join(folder, name+".pprof"))
}

// profileOf is the environment of a child in ctx, beside its parent's.
func profileOf(ctx context.Context) []string {
	if file, ok := ctx.Value(profileKey{}).(string); ok {
		return append(os.Environ(), profileEnv+"="+file)
	}
	return nil
}

// profiled is an operation that writes its profile, if that is wanted.
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
