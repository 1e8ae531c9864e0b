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

	"github.com/chi-sse/sse/bench/internal/machine"
	"github.com/chi-sse/sse/bench/internal/report"
)

const (
	plotFolder = "results"      // the folder next to RESULTS.md that holds the plots and figures
	figureFile = "figures.json" // the file in plotFolder that holds the figures of all runs
)

// write writes RESULTS.md, its plots and its figures to folder. If folder has the figures
// of an earlier run, the page says how many of them are reproduced.
func (c *comparison) write(folder string, tables []report.Table) error {
	if err := os.MkdirAll(filepath.Join(folder, plotFolder), 0o755); err != nil {
		return err
	}
	again, err := reproduced(filepath.Join(folder, plotFolder, figureFile), tables)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("# Comparison with other libraries\n\n")
	fmt.Fprintf(&b, "Written by `%s` on %s, in %v. %s\n\n", c.command, c.began.Format(time.DateOnly), time.Since(c.began).Round(time.Minute), machine.Describe())
	b.WriteString(explanation)
	fmt.Fprintf(&b, "Each figure is the median of %d runs. The runs of all libraries are interleaved.\n\n", c.reps)
	b.WriteString(again)
	c.writeLibraries(&b)
	for i := range tables {
		t := &tables[i]
		if err := writeTable(&b, t); err != nil {
			return err
		}
		for col, column := range t.Columns {
			if !column.Plot {
				continue
			}
			if err := os.WriteFile(filepath.Join(folder, plotFile(t)), []byte(t.Plot(col)), 0o644); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(folder, "RESULTS.md"), []byte(strings.TrimRight(b.String(), "\n")+"\n"), 0o644)
}

// plotFile returns the path of the table's plot, relative to RESULTS.md.
func plotFile(t *report.Table) string { return plotFolder + "/" + t.Name + ".svg" }

// writeTable writes the section of a table: its heading, its text, and a link to its plot.
func writeTable(b *strings.Builder, t *report.Table) error {
	fmt.Fprintf(b, "## %s\n\n```text\n", t.Heading())
	if err := t.WriteText(b); err != nil {
		return err
	}
	b.WriteString("```\n\n")
	for _, column := range t.Columns {
		if column.Plot {
			fmt.Fprintf(b, "![%s](%s)\n\n", column.Title, plotFile(t))
		}
	}
	return nil
}

// writeLibraries writes the list of libraries, with the versions, what each of them can do,
// and the notes.
func (c *comparison) writeLibraries(b *strings.Builder) {
	b.WriteString("| library | version |")
	for _, of := range disciplines {
		b.WriteString(" " + of.name + " |")
	}
	b.WriteString(" note |\n|---|---|" + strings.Repeat(":-:|", len(disciplines)) + "---|\n")
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

// reproduced compares the tables with the figures of an earlier run in file and then
// writes the tables' figures to file. It returns a text for RESULTS.md that says which
// medians differ, or an empty text if there are no earlier figures.
func reproduced(file string, tables []report.Table) (text string, err error) {
	var earlier []report.Table
	old, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(old, &earlier)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("the figures of an earlier run cannot be read: %w", err)
	}
	compared, not := 0, []string(nil) // not reproduced
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
		text = fmt.Sprintf("Compared with the run before this one, %d of %d medians differ by no more than the largest\n"+
			"spread of their row or column in either run.\n", compared-len(not), compared)
		if len(not) > 0 {
			text += fmt.Sprintf("These %d differ by more:\n\n", len(not)) +
				"| table | library | figure | this run | run before | largest spread |\n|---|---|---|--:|--:|--:|\n" +
				strings.Join(not, "\n") + "\n"
		}
		text += "\n"
	}
	figures, err := json.Marshal(tables)
	if err != nil {
		return "", err
	}
	return text, os.WriteFile(file, append(figures, '\n'), 0o644)
}

const explanation = `The server and the load generator are two processes on one machine and talk over loopback.
The generator is one thread with an epoll loop. Some tables give its own CPU time in their
last column. On a small machine, that time is taken from the server.

- **CPU** is the user and system time of the measured process: the server, or for "client"
  the client. Over loopback, the server's CPU includes most of the kernel's work to receive.
- **min–max** are the lowest and the highest run.
- **vs best peer** says how many times better a figure is than the best figure that another
  library has in the same column.
- A line that begins with **!** names a figure in which another library is better than one
  of ours.
- **Median spread** is the spread of the middle row. A row's spread is the percentage by
  which its highest run exceeds its lowest.

Before anything is timed, what each library sends, encodes or decodes is compared with what
it was given. Each library is set up as its documentation shows; the notes say what differs.
The last rows of a table are not libraries. They show what remains when nearly everything is
left out. A library is missing from the tables of what it cannot do; ✓ marks what it can.

`

// moduleVersions returns the version of each module in this program, by its path. A module
// that go.mod replaces has the version "this commit".
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
