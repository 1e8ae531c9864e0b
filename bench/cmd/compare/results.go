//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/chi-sse/sse/bench/internal/report"
)

// Beside RESULTS.md are a folder for the plots, and in it the figures of all runs.
const (
	plotFolder = "results"
	figureFile = "figures.json"
)

// write writes RESULTS.md, its plots and figures to folder. If there were figures of an
// earlier time, it says how many of them are reproduced.
func (c *comparison) write(folder string, tables []report.Table) error {
	if err := os.MkdirAll(filepath.Join(folder, plotFolder), 0o755); err != nil {
		return err
	}
	again, err := reproduced(filepath.Join(folder, plotFolder, figureFile), tables)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("# Side by side\n\n")
	fmt.Fprintf(&b, "Written by `%s` on %s, in %v. %s\n\n", c.command, c.began.Format(time.DateOnly), time.Since(c.began).Round(time.Minute), machine())
	b.WriteString(explanation)
	fmt.Fprintf(&b, "Each figure is the median of %d runs; the runs of all libraries are interleaved. \"Spread\" is by how much the\n", c.reps)
	b.WriteString("highest run of a library exceeds its lowest, in the row in the middle of each column.\n\n")
	b.WriteString(again)
	c.writeLibraries(&b)
	for i := range tables {
		t := &tables[i]
		fmt.Fprintf(&b, "## %s\n\n```text\n", t.Heading())
		if err := t.WriteText(&b); err != nil {
			return err
		}
		b.WriteString("```\n\n")
		for col, column := range t.Columns {
			if !column.Plot {
				continue
			}
			name := t.Name + ".svg"
			if err := os.WriteFile(filepath.Join(folder, plotFolder, name), []byte(t.Plot(col)), 0o644); err != nil {
				return err
			}
			fmt.Fprintf(&b, "![%s](%s/%s)\n\n", column.Title, plotFolder, name)
		}
	}
	return os.WriteFile(filepath.Join(folder, "RESULTS.md"), []byte(strings.TrimRight(b.String(), "\n")+"\n"), 0o644)
}

// writeLibraries writes what is compared, and who takes part in what.
func (c *comparison) writeLibraries(b *strings.Builder) {
	b.WriteString("| | version |")
	for _, of := range disciplines {
		b.WriteString(" " + of.name + " |")
	}
	b.WriteString(" |\n|---|---|" + strings.Repeat(":-:|", len(disciplines)) + "---|\n")
	versions := moduleVersions()
	for _, lib := range c.libraries {
		version := versions[lib.Module]
		if lib.Module == "" {
			version = runtime.Version()
		}
		fmt.Fprintf(b, "| %s | %s |", lib.Name, version)
		for _, of := range disciplines {
			mark := ""
			if of.can(lib) {
				mark = "✓"
			}
			b.WriteString(" " + mark + " |")
		}
		b.WriteString(" " + lib.Note + " |\n")
	}
	b.WriteByte('\n')
}

// reproduced compares the tables with those whose figures are in file, if there is one,
// and writes theirs there.
func reproduced(file string, tables []report.Table) (text string, err error) {
	var earlier []report.Table
	old, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(old, &earlier)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("the figures of an earlier run: %w", err)
	}
	compared, not := 0, []string(nil)
	for i := range tables {
		j := slices.IndexFunc(earlier, func(t report.Table) bool { return t.Name == tables[i].Name })
		if j < 0 {
			continue
		}
		n, lines := tables[i].Reproduced(&earlier[j])
		compared += n
		not = append(not, lines...)
	}
	if compared > 0 {
		text = fmt.Sprintf("There was a run before this one. Of %d medians, %d differ by no more than the spread, of one or the other.\n", compared, compared-len(not))
		if len(not) > 0 {
			text += "The others:\n\n- " + strings.Join(not, "\n- ") + "\n"
		}
		text += "\n"
	}
	figures, err := json.Marshal(tables)
	if err != nil {
		return "", err
	}
	return text, os.WriteFile(file, append(figures, '\n'), 0o644)
}

const explanation = `A server and a load generator are two processes on one machine, and talk over
loopback. The generator is one thread with an epoll loop; what it costs itself is in
the last column of some tables, and on a small machine it takes that from the server.
CPU is user and system time of the measured process: the server, or for "client" the
client. Over loopback that of a server includes most of the kernel's work to receive.
"vs best peer" is how many times better a figure is than that of the best other library
in its column; a line with "!" says where another library is better than one of ours.
Before it is timed, what each library sends, encodes or decodes is compared with what it
was given. Each is set up as its documentation shows; the notes say what differs. The
last rows are no libraries: they are what remains if nearly everything is left out.
Who is not in a table has no such thing (✓ says who has).

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
