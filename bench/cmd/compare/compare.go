//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/report"
)

// comparison collects the figures of all runs.
type comparison struct {
	options
	began   time.Time
	outcome map[cell]*record
	bad     map[ability]string // why a library failed the check of a discipline
	skipped int                // runs that were left out because the budget was used up
}

// cell is one library under one workload.
type cell struct{ workload, library string }

// ability is one library in one discipline.
type ability struct {
	of      *discipline
	library string
}

// record holds the runs of a cell.
type record struct {
	samples []report.Samples // for each column
	trouble []string         // what went wrong, for each run with trouble
	failed  int              // runs without figures
}

// compare runs every workload with every library, interleaved, and prints the tables. If o
// names a folder for results, it writes RESULTS.md. It returns an error if ctx is done or
// if it cannot write; a run that fails is reported in the tables.
func compare(ctx context.Context, o options) error {
	c := &comparison{options: o, began: time.Now(), outcome: map[cell]*record{}, bad: map[ability]string{}}
	c.check(ctx)
	for rep := range o.reps {
		for _, w := range o.workloads {
			for i := range o.libraries { // each repetition starts with another library
				c.measure(ctx, rep, w, o.libraries[(i+rep)%len(o.libraries)])
			}
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	tables := c.tables()
	for i := range tables {
		if err := tables[i].WriteText(os.Stdout); err != nil {
			return err
		}
		fmt.Println()
	}
	if c.skipped > 0 {
		fmt.Printf("%d runs were left out because the time that -budget allows was over.\n", c.skipped)
	}
	fmt.Printf("It took %v.\n", time.Since(c.began).Round(time.Second))
	if o.results != "" {
		return c.write(o.results, tables)
	}
	return nil
}

// check compares what each library sends, encodes or decodes with what it was given. It
// records the libraries that fail in c.bad.
func (c *comparison) check(ctx context.Context) {
	for _, of := range disciplines {
		if !slices.ContainsFunc(c.workloads, func(w workload) bool { return w.of == of }) {
			continue
		}
		for _, lib := range c.libraries {
			if ctx.Err() != nil {
				return
			}
			if !of.can(lib) {
				continue
			}
			err := within(ctx, time.Minute, func(ctx context.Context) error { return of.check(ctx, lib) })
			if err != nil {
				c.bad[ability{of, lib.Name}] = err.Error()
				progress("check %s, %s: %v", of.name, lib.Name, err)
			}
		}
	}
	progress("checked that every library has the right bytes in the right order: %v", time.Since(c.began).Round(time.Second))
}

// measure does one run of w with lib and records its figures. It does nothing if lib does
// not take part in w, has failed the check, or has failed in two runs of w; nor if the
// budget is used up or ctx is done.
func (c *comparison) measure(ctx context.Context, rep int, w workload, lib library.Library) {
	if !w.takes(lib) || c.bad[ability{w.of, lib.Name}] != "" || ctx.Err() != nil {
		return
	}
	key := cell{w.name, lib.Name}
	r := c.outcome[key]
	if r == nil {
		r = &record{samples: make([]report.Samples, len(w.columns))}
		c.outcome[key] = r
	}
	if r.failed >= 2 {
		return
	}
	if c.budget > 0 && time.Since(c.began) > c.budget {
		c.skipped++
		return
	}
	if c.profiles != "" {
		ctx = withProfile(ctx, c.profiles, key)
	}
	began := time.Now()
	var out outcome
	err := within(ctx, w.limit, func(ctx context.Context) (err error) {
		out, err = w.run(ctx, lib)
		return err
	})
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		r.failed++
		out.trouble = "failed: " + err.Error()
	}
	if out.trouble != "" {
		r.trouble = append(r.trouble, out.trouble)
	}
	var figures []string
	for i, v := range out.figures {
		r.samples[i] = append(r.samples[i], v)
		figures = append(figures, report.Format(v))
	}
	progress("%d/%d %-10s %-24s %4.1fs  %s  %s", rep+1, c.reps, w.name, lib.Name, time.Since(began).Seconds(), strings.Join(figures, "  "), out.trouble)
}

// within calls f with a context that ends after limit. It returns f's error, or says that
// f took too long.
func within(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := f(ctx)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("not done in %v", limit)
	}
	return err
}

// progress prints a line to standard error.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// tables returns the outcome of each workload.
func (c *comparison) tables() (tables []report.Table) {
	for _, w := range c.workloads {
		t := report.Table{Name: w.name, Title: w.title, Columns: w.columns}
		for _, lib := range c.libraries {
			if !w.takes(lib) {
				continue
			}
			row := report.Row{Name: lib.Name, Kind: report.Kind(lib.Kind)}
			if r := c.outcome[cell{w.name, lib.Name}]; r != nil {
				row.Samples = r.samples
				row.Trouble = r.summary(c.reps)
			}
			if why := c.bad[ability{w.of, lib.Name}]; why != "" {
				row.Trouble = []string{"not measured: " + why}
			}
			t.Rows = append(t.Rows, row)
		}
		tables = append(tables, t)
	}
	return tables
}

// summary returns a line for each kind of trouble, with the number of runs that had it.
func (r *record) summary(reps int) (lines []string) {
	for _, text := range r.trouble {
		n := 0
		for _, other := range r.trouble {
			if other == text {
				n++
			}
		}
		if reps > 1 {
			text = fmt.Sprintf("%d of %d runs: %s", n, reps, text)
		}
		if !slices.Contains(lines, text) {
			lines = append(lines, text)
		}
	}
	return lines
}
