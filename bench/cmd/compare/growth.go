//go:build linux

package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/report"
)

// growthOptions say how much of the growth is measured.
type growthOptions struct {
	short    bool   // smaller sizes, and less time for each
	reps     int    // runs of everything; 0 means 3, or 1 of the short form
	series   string // a regular expression of their names
	results  string // a folder for GROWTH.md and plots; empty for none
	profiles string // a folder for the profiles of servers; empty for none
	command  string
}

// series is one kind of work, of several sizes.
type series struct {
	name      string
	title     string
	axis      string
	libraries []string // the sessions that are measured
	sizes     []int
	workload  func(size int) workload
	curves    []curve // the first is drawn
}

// The names of what grows.
const (
	ordinary = "sse hub"
	detached = "sse hub, detached"
)

// growth measures how this module's hub behaves as work grows, and reports.
func growth(ctx context.Context, o growthOptions) error {
	all, err := choose(growthSeries(o.short), o.series, func(s series) string { return s.name })
	if err != nil {
		return fmt.Errorf("the series: %w", err)
	}
	if o.reps == 0 {
		if o.reps = 3; o.short {
			o.reps = 1
		}
	}
	c := &comparison{options: options{reps: o.reps, profiles: o.profiles}, began: time.Now(), outcome: map[cell]*record{}}
	for rep := range o.reps {
		for _, s := range all {
			for _, n := range s.sizes {
				w := s.workload(n)
				w.name, w.of = s.cell(n), fanOut
				for i := range s.libraries {
					name := s.libraries[(i+rep)%len(s.libraries)]
					lib, ok := library.Find(name)
					if !ok {
						return fmt.Errorf("no library %q", name)
					}
					c.measure(ctx, rep, w, lib)
				}
			}
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, s := range all {
		text, err := s.text(c)
		if err != nil {
			return err
		}
		fmt.Println(text)
	}
	fmt.Printf("It took %v.\n", time.Since(c.began).Round(time.Second))
	if o.results != "" {
		return writeGrowth(o, c, all)
	}
	return nil
}

// cell is the name of what is measured at a size.
func (s series) cell(n int) string { return fmt.Sprintf("%s-%d", s.name, n) }

// rows are the outcome of a library, one for each size.
func (s series) rows(c *comparison, lib string) (rows []report.Row) {
	for _, n := range s.sizes {
		row := report.Row{Name: whole(float64(n))}
		if len(s.libraries) > 1 {
			row.Name = lib + ": " + row.Name
		}
		if r := c.outcome[cell{s.cell(n), lib}]; r != nil {
			row.Samples, row.Trouble = r.samples, r.summary(c.reps)
		}
		rows = append(rows, row)
	}
	return rows
}

// text is the table of a series, and how its curves grow.
func (s series) text(c *comparison) (string, error) {
	t := report.Table{Title: s.title, Columns: s.workload(s.sizes[0]).columns}
	var laws strings.Builder
	for _, lib := range s.libraries {
		rows := s.rows(c, lib)
		t.Rows = append(t.Rows, rows...)
		for _, curve := range s.curves {
			prefix := ""
			if len(s.libraries) > 1 {
				prefix = lib + ": "
			}
			laws.WriteString("  " + prefix + curve.law(curve.dots(s.sizes, rows)) + "\n")
		}
	}
	var b strings.Builder
	if err := t.WriteText(&b); err != nil {
		return "", err
	}
	return b.String() + "\n" + laws.String(), nil
}

// plot draws the first curve of a series.
func (s series) plot(c *comparison) string {
	var lines []plotLine
	for _, lib := range s.libraries {
		lines = append(lines, plotLine{lib, s.curves[0].dots(s.sizes, s.rows(c, lib))})
	}
	return growthPlot(heading(s.title), s.axis, s.curves[0].what+", "+s.curves[0].unit, lines)
}

func heading(title string) string { return (&report.Table{Title: title}).Heading() }

// writeGrowth writes GROWTH.md and its plots to the folder.
func writeGrowth(o growthOptions, c *comparison, all []series) error {
	if err := os.MkdirAll(filepath.Join(o.results, plotFolder), 0o755); err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("# How it grows\n\n")
	fmt.Fprintf(&b, "Written by `%s` on %s. %s\n\n", o.command, c.began.Format(time.DateOnly), machine())
	b.WriteString(growthExplanation)
	if c.reps > 1 {
		fmt.Fprintf(&b, "Each figure is the median of %d runs, which are interleaved.\n\n", c.reps)
	}
	for _, s := range all {
		text, err := s.text(c)
		if err != nil {
			return err
		}
		name := "growth-" + s.name + ".svg"
		if err := os.WriteFile(filepath.Join(o.results, plotFolder, name), []byte(s.plot(c)), 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&b, "## %s\n\n```text\n%s```\n\n![%s](%s/%s)\n\n", heading(s.title), text, s.curves[0].what, plotFolder, name)
	}
	return os.WriteFile(filepath.Join(o.results, "GROWTH.md"), []byte(strings.TrimRight(b.String(), "\n")+"\n"), 0o644)
}

const growthExplanation = `Each figure is of a process of its own. Under each table are the laws of its growth:
the exponent of n that fits best by least squares of the logarithms, where n^1.00 is
linear and n^0.00 constant. Series "in process" have no sockets: the sessions are those
of an http.Handler whose ResponseWriter takes all at once, each with the goroutine of its
handler, since only a socket can be detached. What they cost is the module's own part.
Memory is given from 1,000 on; for fewer it is lost in what a process has anyway.

`

// growthSeries are all series.
func growthSeries(short bool) []series {
	sizes := func(few int, all ...int) []int {
		if short {
			return all[:few]
		}
		return all
	}
	d, events := 2*time.Second, 2_000_000
	if short {
		d, events = time.Second, 500_000
	}
	both, one := []string{ordinary, detached}, []string{ordinary}
	return []series{
		{
			name:      "subscribers",
			title:     fmt.Sprintf("Subscribers over sockets; events of about 100 bytes: single ones, with their latency, and %d in flight", window),
			axis:      "subscribers",
			libraries: both,
			sizes:     sizes(5, 100, 300, 1000, 3000, 10_000, 18_000),
			workload:  func(n int) workload { return subscribers(n, d) },
			curves: []curve{
				{what: "CPU of a single event to all", unit: "µs", column: 0, each: true},
				{what: "p99 of a single event", unit: "ms", column: 2},
				{what: "CPU of an event at full rate to all", unit: "µs", column: 3, each: true},
				{what: "memory of all", unit: "KiB", column: 5, each: true},
			},
		},
		{
			name:      "inprocess",
			title:     "Subscribers in process; each event is published when all have had the one before",
			axis:      "subscribers",
			libraries: one,
			sizes:     sizes(3, 1000, 10_000, 100_000, 1_000_000),
			workload:  func(n int) workload { return subscribersInProcess(n, events) },
			curves: []curve{
				{what: "the time until all have an event", unit: "ns", column: 1, each: true},
				{what: "CPU of an event to all", unit: "ns", column: 2, each: true},
				{what: "memory of all", unit: "bytes", column: 3, each: true},
				{what: "the time of all to join", unit: "ns", column: 5, each: true},
			},
		},
		{
			name:      "topics",
			title:     "Topics in process, with a follower each; beside one topic with as many followers",
			axis:      "topics",
			libraries: one,
			sizes:     sizes(5, 1, 10, 100, 1000, 10_000, 100_000),
			workload:  func(n int) workload { return topics(n, events/100) },
			curves: []curve{
				{what: "the time of a publish call for each topic", unit: "ns", column: 0, each: true},
				{what: "the time until an event for each topic is delivered", unit: "ns", column: 1, each: true},
				{what: "memory of all, with their followers", unit: "bytes", column: 3, each: true},
				{what: "the time of all followers to join", unit: "ns", column: 2, each: true, from: 100},
			},
		},
		{
			name:      "sizes",
			title:     fmt.Sprintf("Event size over sockets: %d subscribers at full rate; in flight are %d events, or as many as make %d MiB, and 2 at least", sizedFor, window, sizedInFlight>>20),
			axis:      "bytes of data",
			libraries: both,
			sizes:     sizes(5, 50, 500, 5<<10, 50<<10, 500<<10, 1<<20),
			workload:  func(n int) workload { return eventSizes(n, d/2) },
			curves: []curve{
				{what: "CPU of a delivery", unit: "µs", column: 0},
				{what: "CPU of a delivery", unit: "µs", column: 0, from: 5 << 10},
			},
		},
		{
			name:      "log",
			title:     "Log in process; a full log of so many events (Config.LogEvents, where 0 is its default of 65,536), and a client that comes back from its far end",
			axis:      "events in the log",
			libraries: one,
			sizes:     sizes(6, 1, 10, 100, 1000, 10_000, 100_000, 1_000_000),
			workload:  logSizes,
			curves: []curve{
				{what: "memory of the log", unit: "bytes", column: 1, each: true},
				{what: "the time to get all of it, beside that to start", unit: "ns", column: 3, each: true, from: 1000},
				{what: "the time to start at its near end", unit: "µs", column: 4},
				{what: "the time to publish as many events as it has", unit: "ns", column: 0, each: true},
			},
		},
		{
			name:      "publishers",
			title:     "Publishers at once, in process: one topic, 100 followers",
			axis:      "publishers",
			libraries: one,
			sizes:     sizes(3, 1, 2, 8),
			workload:  func(n int) workload { return publishers(n, events/20) },
			curves:    []curve{{what: "the time of a publish call", unit: "ns", column: 0}, {what: "CPU of an event to all", unit: "ns", column: 2}},
		},
	}
}

// subscribers is n subscribers that wait, have single events, and as many as there can
// be, by the workloads that compare libraries. The single ones are so seldom that each is
// a write of its own: about 30,000 deliveries a second, of the 100,000 that a core carries.
func subscribers(n int, d time.Duration) workload {
	const deliveries = 30_000
	parts := []workload{rate(n, max(2, min(50, deliveries/n)), d), full(n, d/2), idle(n)}
	return workload{
		columns: []report.Column{
			{Title: "single: CPU, µs", Better: report.Lower},
			{Title: "p50, ms", Better: report.Lower},
			{Title: "p99, ms", Better: report.Lower},
			{Title: "full rate: CPU, µs", Better: report.Lower},
			{Title: "deliveries/s", Better: report.Higher},
			{Title: "idle: KiB each", Better: report.Lower},
			{Title: "generator CPU, µs"},
		},
		limit: 5 * time.Minute,
		run: func(ctx context.Context, lib library.Library) (out outcome, err error) {
			var figures [3][]float64
			for i, w := range parts {
				part, err := w.run(ctx, lib)
				if err != nil {
					return out, fmt.Errorf("%s: %w", w.name, err)
				}
				if figures[i] = part.figures; part.trouble != "" {
					out.trouble = w.name + ": " + part.trouble
				}
			}
			single, all, idle := figures[0], figures[1], figures[2]
			if lost := single[3]; lost > 0 {
				out.trouble = fmt.Sprintf("%.0f single events were late by seconds, or lost", lost)
			}
			out.figures = []float64{single[2], single[0], single[1], all[1], all[0], memoryOf(idle[0], n), single[4]}
			return out, nil
		},
	}
}

// memoryOf is what one of n takes, which is not known where they are few: what else a
// process does with memory is more than that.
func memoryOf(one float64, n int) float64 {
	if n < 1000 {
		return math.NaN()
	}
	return one
}

// inServer has a new server's process carry out one of its growthOps.
func inServer(ctx context.Context, lib library.Library, op string, args, result any) error {
	p, err := startPair(ctx, lib.Name, window)
	if err != nil {
		return err
	}
	defer p.end()
	return p.server.call(op, args, result)
}

// subscribersInProcess is n of them, and about so many deliveries.
func subscribersInProcess(n, deliveries int) workload {
	return workload{
		columns: []report.Column{
			{Title: "publish, ns", Better: report.Lower},
			{Title: "delivery, ns", Better: report.Lower},
			{Title: "its CPU, ns", Better: report.Lower},
			{Title: "RSS, bytes each", Better: report.Lower},
			{Title: "of that heap and stack", Better: report.Lower},
			{Title: "join, ns", Better: report.Lower},
		},
		limit: 3 * time.Minute,
		run: func(ctx context.Context, lib library.Library) (out outcome, err error) {
			var r hallResult
			if err := inServer(ctx, lib, "hall", hallArgs{Topics: 1, Followers: n, Events: max(5, deliveries/n)}, &r); err != nil {
				return out, err
			}
			each := float64(n)
			out.figures = []float64{r.Publish, r.Delivered / each, r.CPU / each, memoryOf(float64(r.RSS)/each, n), memoryOf(float64(r.Own)/each, n), r.Join}
			return out, nil
		},
	}
}

// topics is n of them, and so many events to one after the other.
func topics(n, events int) workload {
	return workload{
		columns: []report.Column{
			{Title: "publish, ns", Better: report.Lower},
			{Title: "until delivered, ns", Better: report.Lower},
			{Title: "join, ns", Better: report.Lower},
			{Title: "bytes each, with the follower", Better: report.Lower},
			{Title: "one topic: bytes a follower", Better: report.Lower},
			{Title: "its join, ns", Better: report.Lower},
			{Title: "its publish, ns", Better: report.Lower},
			{Title: "its delivery, ns", Better: report.Lower},
		},
		limit: 2 * time.Minute,
		run: func(ctx context.Context, lib library.Library) (out outcome, err error) {
			var many, one hallResult
			if err := inServer(ctx, lib, "hall", hallArgs{Topics: n, Followers: 1, Events: events}, &many); err != nil {
				return out, err
			}
			if err := inServer(ctx, lib, "hall", hallArgs{Topics: 1, Followers: n, Events: max(5, min(events, 10*events/n))}, &one); err != nil {
				return out, err
			}
			each := float64(n)
			out.figures = []float64{
				many.Publish, many.Delivered, many.Join, memoryOf(float64(many.Own)/each, n),
				memoryOf(float64(one.Own)/each, n), one.Join, one.Publish, one.Delivered / each,
			}
			return out, nil
		},
	}
}

const (
	sizedFor      = 100     // subscribers
	sizedInFlight = 4 << 20 // bytes: what the system may hold for one connection
)

// eventSizes is events of a size at full rate. The log, of 64 MiB, must have all that is in
// flight: an event of 1 MiB takes twice that of it, for its data and its frame.
func eventSizes(size int, d time.Duration) workload {
	inFlight := max(2, min(window, sizedInFlight/size))
	return workload{
		columns: []report.Column{
			{Title: "CPU per delivery, µs", Better: report.Lower},
			{Title: "per KiB", Better: report.Lower},
			{Title: "deliveries/s", Better: report.Higher},
			{Title: "MiB/s", Better: report.Higher},
			{Title: "in flight"},
			{Title: "generator CPU, µs"},
		},
		limit: 2 * time.Minute,
		run: func(ctx context.Context, lib library.Library) (out outcome, err error) {
			pub, got, err := fullRate(ctx, lib, sizedFor, inFlight, size, d)
			if err != nil {
				return out, err
			}
			out.trouble = got.complaint(pub)
			deliveries := pub.Events * sizedFor
			cpu, perSecond := micros(pub.Usage.CPU, deliveries), float64(deliveries)/pub.Duration.Seconds()
			out.figures = []float64{
				cpu, cpu / float64(size) * 1024, perSecond, perSecond * float64(size) / (1 << 20),
				float64(inFlight), micros(got.CPU, got.Received),
			}
			return out, nil
		},
	}
}

// logSizes is a log of so many events.
func logSizes(n int) workload {
	return workload{
		columns: []report.Column{
			{Title: "publish, ns", Better: report.Lower},
			{Title: "bytes per event", Better: report.Lower},
			{Title: "as LogSize counts", Better: report.Lower},
			{Title: "resume, ns per event", Better: report.Lower},
			{Title: "start at the end, µs", Better: report.Lower},
		},
		limit: 2 * time.Minute,
		run: func(ctx context.Context, lib library.Library) (out outcome, err error) {
			var r logResult
			if err := inServer(ctx, lib, "log", logArgs{Events: n}, &r); err != nil {
				return out, err
			}
			each := float64(n)
			out.figures = []float64{r.Publish, memoryOf(float64(r.Heap)/each, n), float64(r.Counted) / each, max(0, r.Resume-r.Now) / each, r.Now / 1000}
			return out, nil
		},
	}
}

// publishers is n of them at once, and so many events in all.
func publishers(n, events int) workload {
	return workload{
		columns: []report.Column{
			{Title: "publish, ns", Better: report.Lower},
			{Title: "event to all, ns", Better: report.Lower},
			{Title: "its CPU, ns", Better: report.Lower},
			{Title: "events/s", Better: report.Higher},
		},
		limit: time.Minute,
		run: func(ctx context.Context, lib library.Library) (out outcome, err error) {
			var r publishersResult
			if err := inServer(ctx, lib, "publishers", publishersArgs{Publishers: n, Followers: 100, Events: events}, &r); err != nil {
				return out, err
			}
			out.figures = []float64{r.Publish, r.Event, r.CPU, 1e9 / r.Event}
			return out, nil
		},
	}
}
