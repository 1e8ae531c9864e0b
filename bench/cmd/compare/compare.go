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
	bad     map[ability]string // what failed the check, and why
	skipped int                // runs for which there was no time
}

// cell is one library under one workload.
type cell struct{ workload, library string }

// ability is a library in one of its disciplines.
type ability struct {
	of      *discipline
	library string
}

// record is the runs of a cell.
type record struct {
	samples []report.Samples
	trouble []string
	failed  int
}

// compare runs everything, interleaved, and reports.
func compare(ctx context.Context, o options) error {
	c := &comparison{options: o, began: time.Now(), outcome: map[cell]*record{}, bad: map[ability]string{}}
	c.check(ctx)
	for rep := range o.reps {
		for _, w := range o.workloads {
			for i := range o.libraries { // each time another one first
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
		fmt.Printf("%d runs were left out, since the time (-budget) was over.\n", c.skipped)
	}
	fmt.Printf("It took %v.\n", time.Since(c.began).Round(time.Second))
	if o.results != "" {
		return c.write(o.results, tables)
	}
	return nil
}

// check has each library compared with what was published, before anything is timed.
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
	progress("checked that all have the right bytes, in order: %v", time.Since(c.began).Round(time.Second))
}

// measure does one run.
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

// within runs f, which ends when its context does, for no longer than limit.
func within(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := f(ctx)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("not done in %v", limit)
	}
	return err
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// tables are the outcome of each workload.
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

// summary says what went wrong, and how often.
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
