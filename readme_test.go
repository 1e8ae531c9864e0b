package sse_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every Go block of README.md compiles. A block that is not a whole program becomes the body
// of a function that has what readmeNames declares, unless it is a function itself.
func TestReadmeCompiles(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(blocks), 10)
	var bodies strings.Builder
	sources := map[string]string{}
	for i, block := range blocks {
		code := block[1]
		if strings.HasPrefix(code, "package main\n") {
			sources[fmt.Sprintf("program%d", i)] = code
			continue
		}
		if name, ok := strings.CutPrefix(code, "func "); ok { // it has another name here: others call a function of that name
			fmt.Fprintf(&bodies, "func declared%d_%s", i, name)
			continue
		}
		fmt.Fprintf(&bodies, "func block%d(%s) error {\n{\n%s", i, readmeParams, code)
		for _, names := range regexp.MustCompile(`(?m)^(\w+(?:, \w+)*) :=`).FindAllStringSubmatch(code, -1) {
			for name := range strings.SplitSeq(names[1], ", ") {
				fmt.Fprintf(&bodies, "_ = %s\n", name)
			}
		}
		bodies.WriteString("}\nreturn nil\n}\n")
	}
	sources["blocks"] = readmeNames + bodies.String()

	// The overlay lets go build see the programs as packages of this module.
	dir := t.TempDir()
	overlay := map[string]map[string]string{"Replace": {}}
	args := []string{"build", "-o", os.DevNull, "-overlay", filepath.Join(dir, "overlay.json")}
	for name, code := range sources {
		file := filepath.Join(dir, name+".go")
		require.NoError(t, os.WriteFile(file, []byte(code), 0o600))
		pkg := filepath.Join("internal", "readme", name)
		seen, err := filepath.Abs(filepath.Join(pkg, "main.go"))
		require.NoError(t, err)
		overlay["Replace"][seen] = file
		args = append(args, "./"+filepath.ToSlash(pkg))
	}
	list, err := json.Marshal(overlay)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "overlay.json"), list, 0o600))
	out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

const readmeParams = "r *sse.Router, s *sse.ServerSession, ctx context.Context, srv *http.Server, cfg *sse.Config"

// readmeNames declares what the blocks of README.md use without declaring it.
const readmeNames = `package main

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/middleware"
)

var (
	_ = chimiddleware.Throttle
	_ = client.Unlimited
	_ = errors.New
	_ = fmt.Println
	_ = hub.New
	_ = io.EOF
	_ = middleware.Except
	_ = slog.Info
	_ = strings.NewReader
	_ = time.Second
	_ = chi.URLParam
	_ = os.Interrupt
	_ = signal.NotifyContext
	_ = syscall.SIGTERM

	h *hub.Hub

	url, prompt string
	rows        *template.Template
	row         struct{ Name string }
	customer    struct{ Name string }
	eventLog    hub.Log

	token           struct{ Expiry time.Time }
	errTokenExpired = errors.New("expired")
)

func chat(*sse.ServerSession) error          { return nil }
func room(*sse.ServerSession) error          { return nil }
func watch(*sse.ServerSession) error         { return nil }
func feed(*sse.ServerSession) error          { return nil }
func printChunks(*client.Session) error      { return nil }
func load() string                           { return "" }
func respond(http.ResponseWriter, string)     {}
func answer(*sse.ServerSession, string) error { return nil }
func userOf(*http.Request) string            { return "" }
func auth(next http.Handler) http.Handler    { return next }
func stillAllowed(*sse.ServerSession) error  { return nil }
func messagesAfter(string) []struct{ ID, Text string } { return nil }

func main() {}

`
