//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/chi-sse/sse/bench/internal/report"
)

// plotFolder is beside RESULTS.md.
const plotFolder = "results"

// write writes RESULTS.md and its plots to folder.
func (c *comparison) write(folder string, tables []report.Table) error {
	if err := os.MkdirAll(filepath.Join(folder, plotFolder), 0o755); err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("# Fan-out, side by side\n\n")
	fmt.Fprintf(&b, "Written by `%s` on %s. %s\n\n", c.command, c.began.Format(time.DateOnly), machine())
	b.WriteString(explanation)
	fmt.Fprintf(&b, "Each figure is the median of %d runs; the runs of all libraries are interleaved.\n\n", c.reps)
	b.WriteString("| | version | |\n|---|---|---|\n")
	versions := moduleVersions()
	for _, lib := range c.libraries {
		version := versions[lib.Module]
		if lib.Module == "" {
			version = runtime.Version()
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", lib.Name, version, lib.Note)
	}
	b.WriteByte('\n')
	for i := range tables {
		t := &tables[i]
		fmt.Fprintf(&b, "## %s\n\n```text\n", t.Heading())
		if err := t.WriteText(&b); err != nil {
			return err
		}
		b.WriteString("```\n\n")
		for col, column := range t.Columns {
			if !column.Ratio {
				continue
			}
			name := fmt.Sprintf("%s-%d.svg", t.Name, col+1)
			if err := os.WriteFile(filepath.Join(folder, plotFolder, name), []byte(t.Plot(col)), 0o644); err != nil {
				return err
			}
			fmt.Fprintf(&b, "![%s](%s/%s)\n\n", column.Title, plotFolder, name)
		}
	}
	return os.WriteFile(filepath.Join(folder, "RESULTS.md"), []byte(strings.TrimRight(b.String(), "\n")+"\n"), 0o644)
}

const explanation = `A server and a load generator are two processes on one machine, and talk over
loopback. The generator is one thread with an epoll loop; what it costs itself is in
the last column of some tables, and on a small machine it takes that from the server.
"Server CPU" is user and system time of the server's process, which over loopback
includes most of the kernel's work to receive. "vs best peer" is how many times
better a figure is than that of the best other library in its column; a line with "!"
says where another library is better than one of ours. Before it is timed, each
library's stream is decoded and compared with what was published. Each is set up as
its documentation shows; the notes say what differs. The last rows are no libraries:
they are what remains if nearly everything is left out.

`

// machine describes where this runs, without naming it.
func machine() string {
	model := "an unknown processor"
	text, _ := os.ReadFile("/proc/cpuinfo") // without it the model is unknown
	if _, rest, ok := strings.Cut(string(text), "model name"); ok {
		line, _, _ := strings.Cut(rest, "\n")
		model = strings.TrimSpace(strings.TrimLeft(line, " \t:"))
	}
	var info unix.Sysinfo_t
	_ = unix.Sysinfo(&info) // it cannot fail with this argument
	var name unix.Utsname
	_ = unix.Uname(&name) // nor can this
	memory := float64(info.Totalram) * float64(info.Unit) / (1 << 30)
	return fmt.Sprintf("%d cores of %s, %.0f GiB, Linux %s, %s.", runtime.NumCPU(), model, memory, unix.ByteSliceToString(name.Release[:]), runtime.Version())
}

// moduleVersions are the versions of the modules in this program.
func moduleVersions() map[string]string {
	versions := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if versions[m.Path] = m.Version; m.Replace != nil {
				versions[m.Path] = "this commit"
			}
		}
	}
	return versions
}
