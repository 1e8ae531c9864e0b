package main

import (
	"archive/zip"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// "go install github.com/chi-sse/sse/cmd/sse@VERSION" works once a version of both modules is
// published. The test publishes one to a module proxy that is a folder.
func TestInstall(t *testing.T) {
	t.Parallel()
	proxy, bin := t.TempDir(), t.TempDir()
	publish(t, proxy, "github.com/chi-sse/sse", "v0.0.0", "../..", "go.mod", "client", "event")
	publish(t, proxy, "github.com/chi-sse/sse/cmd/sse", "v0.0.1", ".", ".")
	modCache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	require.NoError(t, err)

	install := exec.Command("go", "install", "-modcacherw", "-trimpath", "github.com/chi-sse/sse/cmd/sse@v0.0.1")
	install.Dir = bin
	install.Env = append(
		os.Environ(), "GOBIN="+bin, "GOMODCACHE="+t.TempDir(), "GOSUMDB=off", "GOWORK=",
		// The second proxy is what the go command has downloaded to compile this test.
		"GOPROXY=file://"+filepath.ToSlash(proxy)+",file://"+strings.TrimSpace(string(modCache))+"/cache/download",
	)
	out, err := install.CombinedOutput()
	require.NoError(t, err, "%s", out)
	help, err := exec.Command(filepath.Join(bin, "sse"), "follow", "-h").Output()
	require.NoError(t, err)
	assert.Equal(t, usage, string(help))
}

// publish adds a version of the module in dir to a proxy. The version has only what is below
// the paths.
func publish(t *testing.T, proxy, module, version, dir string, paths ...string) {
	t.Helper()
	versions := filepath.Join(proxy, filepath.FromSlash(module), "@v")
	require.NoError(t, os.MkdirAll(versions, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(versions, "list"), []byte(version+"\n"), 0o600))
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(versions, version+name), []byte(text), 0o600))
	}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	require.NoError(t, err)
	write(".mod", string(mod))
	write(".info", `{"Version":"`+version+`"}`)

	var buf strings.Builder
	archive := zip.NewWriter(&buf)
	for _, path := range paths {
		err := filepath.WalkDir(filepath.Join(dir, path), func(file string, entry fs.DirEntry, err error) error {
			name := entry.Name()
			if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") && name != "go.mod" {
				return err
			}
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			inside, err := filepath.Rel(dir, file)
			require.NoError(t, err)
			w, err := archive.Create(module + "@" + version + "/" + filepath.ToSlash(inside))
			require.NoError(t, err)
			_, err = w.Write(text)
			require.NoError(t, err)
			return nil
		})
		require.NoError(t, err)
	}
	require.NoError(t, archive.Close())
	write(".zip", buf.String())
}
