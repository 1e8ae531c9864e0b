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
	"github.com/chi-sse/sse/bench/internal/machine"
	"github.com/chi-sse/sse/bench/internal/report"
)

// growthOptions says which series to measure, how often, and where to write the outcome.
type growthOptions struct {
	short    bool   // leave out the largest sizes, and take less time for each
	reps     int    // runs of everything; 0 means 3, or 1 if short is set
	series   string // a regular expression that matches the names of the series
	results  string // the folder for GROWTH.md and its plots; empty: write none
	profiles string // the folder for the servers' CPU profiles; empty: write none
	command  string // the command line, which GROWTH.md names
}

// series is one kind of work that is measured at several sizes.
type series struct {
	name      string
	title     string
	axis      string   // what the sizes count
	libraries []string // the names of the libraries that are measured
	sizes     []int
	workload  func(size int) workload
	curves    []curve // the costs whose growth is reported; the first one is also drawn
}

// The libraries whose growth is measured.
const (
	ordinary = "sse hub"
	detached = "sse hub, detached"
)

// growth measures how the costs of this module's hub grow with the work. It prints the
// tables and, if o names a folder for results, writes GROWTH.md. It returns an error if a
// series or a library does not exist, if ctx is done, or if it cannot write.
func growth(ctx context.Context, o growthOptions) error {
	all, err := choose(growthSeries(o.short), o.series, func(s series) string { return s.name })
	if err != nil {
		return fmt.Errorf("-growth: %w", err)
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

// cell returns the name of the series' workload at size n.
func (s series) cell(n int) string { return fmt.Sprintf("%s-%d", s.name, n) }

// rows returns the figures of a library, one row for each size.
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

// text returns the table of a series, followed by a table of how its curves grow.
func (s series) text(c *comparison) (string, error) {
	t := report.Table{Title: s.title, Columns: s.workload(s.sizes[0]).columns}
	fits := [][]string{growthHeading}
	for _, lib := range s.libraries {
		rows := s.rows(c, lib)
		t.Rows = append(t.Rows, rows...)
		for _, curve := range s.curves {
			line := curve.growth(curve.dots(s.sizes, rows))
			if len(s.libraries) > 1 {
				line[0] = lib + ": " + line[0]
			}
			fits = append(fits, line)
		}
	}
	var b strings.Builder
	if err := t.WriteText(&b); err != nil {
		return "", err
	}
	return b.String() + "\n" + report.Grid(fits), nil
}

// plot returns an SVG that draws the series' first curve.
func (s series) plot(c *comparison) string {
	var lines []plotLine
	for _, lib := range s.libraries {
		lines = append(lines, plotLine{lib, s.curves[0].dots(s.sizes, s.rows(c, lib))})
	}
	return growthPlot(heading(s.title), s.axis, s.curves[0].what+", "+s.curves[0].unit, lines)
}

// heading returns the part of title that heads a section.
func heading(title string) string { return (&report.Table{Title: title}).Heading() }

// writeGrowth writes GROWTH.md and its plots to o.results.
func writeGrowth(o growthOptions, c *comparison, all []series) error {
	if err := os.MkdirAll(filepath.Join(o.results, plotFolder), 0o755); err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("# How costs grow\n\n")
	fmt.Fprintf(&b, "Written by `%s` on %s. %s\n\n", o.command, c.began.Format(time.DateOnly), machine.Describe())
	b.WriteString(growthExplanation)
	if c.reps > 1 {
		fmt.Fprintf(&b, "Each figure is the median of %d runs. The runs are interleaved.\n\n", c.reps)
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

const growthExplanation = `Every run has a new process.

The lines at the end of each table say how a cost grows with n, the number in the first
column. The growth is the power of n that fits best, by least squares of the logarithms:
n^1.00 is linear and n^0.00 is constant. The largest deviation is that of a point from the
fit. "Each" marks a cost that is fitted as the total of all n and printed for one of them.

Series "in process" use no sockets. Their sessions belong to an http.Handler whose
ResponseWriter accepts all bytes at once, so they show the module's own part of a cost. Each
of these sessions keeps the goroutine of its handler, because a session without a socket
cannot be detached. Memory is given from n = 1,000 on. For fewer, it cannot be told from what
a process uses anyway.

`

// growthSeries returns all series; with short, without their largest sizes.
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
			title:     fmt.Sprintf("Subscribers over sockets; events of about 100 bytes, one at a time (single) and %d in flight (full rate)", window),
			axis:      "subscribers",
			libraries: both,
			sizes:     sizes(5, 100, 300, 1000, 3000, 10_000, 18_000),
			workload:  func(n int) workload { return subscribers(n, d) },
			curves: []curve{
				{what: "CPU of a single event", unit: "µs", column: 0, each: true},
				{what: "p99 of a single event", unit: "ms", column: 2},
				{what: "CPU of an event at full rate", unit: "µs", column: 3, each: true},
				{what: "memory of idle subscribers", unit: "KiB", column: 5, each: true},
			},
		},
		{
			name:      "inprocess",
			title:     "Subscribers in process; an event is published when all subscribers have received the one before",
			axis:      "subscribers",
			libraries: one,
			sizes:     sizes(3, 1000, 10_000, 100_000, 1_000_000),
			workload:  func(n int) workload { return subscribersInProcess(n, events) },
			curves: []curve{
				{what: "time until all have an event", unit: "ns", column: 1, each: true},
				{what: "CPU of an event", unit: "ns", column: 2, each: true},
				{what: "memory of subscribers", unit: "bytes", column: 3, each: true},
				{what: "time to join", unit: "ns", column: 5, each: true},
			},
		},
		{
			name:      "topics",
			title:     "Topics in process, each with one follower; for comparison, one topic with as many followers",
			axis:      "topics",
			libraries: one,
			sizes:     sizes(5, 1, 10, 100, 1000, 10_000, 100_000),
			workload:  func(n int) workload { return topics(n, events/100) },
			curves: []curve{
				{what: "time of a publish call to each topic", unit: "ns", column: 0, each: true},
				{what: "time until an event of each topic is delivered", unit: "ns", column: 1, each: true},
				{what: "memory of topics with their followers", unit: "bytes", column: 3, each: true},
				{what: "time to join", unit: "ns", column: 2, each: true, from: 100},
			},
		},
		{
			name:      "sizes",
			title:     fmt.Sprintf("Event size over sockets: %d subscribers at full rate; %d events are in flight, or as many as %d MiB holds, but at least 2", sizedFor, window, sizedInFlight>>20),
			axis:      "bytes of data",
			libraries: both,
			sizes:     sizes(5, 50, 500, 5<<10, 50<<10, 500<<10, 1<<20),
			workload:  func(n int) workload { return eventSizes(n, d/2) },
			curves: []curve{
				{what: "CPU per delivery", unit: "µs", column: 0},
				{what: "CPU per delivery", unit: "µs", column: 0, from: 5 << 10},
			},
		},
		{
			name:      "log",
			title:     "Log in process; n is Config.LogEvents (default 65,536) and the log is full; a session replays all of it or starts without replay",
			axis:      "events in the log",
			libraries: one,
			sizes:     sizes(6, 1, 10, 100, 1000, 10_000, 100_000, 1_000_000),
			workload:  logSizes,
			curves: []curve{
				{what: "memory of the log", unit: "bytes", column: 1, each: true},
				{what: "time to replay the whole log", unit: "ns", column: 3, each: true, from: 1000},
				{what: "time to start without replay", unit: "µs", column: 4},
				{what: "time to publish as many events as the log holds", unit: "ns", column: 0, each: true},
			},
		},
		{
			name:      "publishers",
			title:     "Publishers at once, in process: one topic, 100 followers",
			axis:      "publishers",
			libraries: one,
			sizes:     sizes(3, 1, 2, 8),
			workload:  func(n int) workload { return publishers(n, events/20) },
			curves:    []curve{{what: "time of a publish call", unit: "ns", column: 0}, {what: "CPU of an event", unit: "ns", column: 2}},
		},
	}
}

// subscribers measures n subscribers by three of the workloads that compare libraries: a
// fixed rate of single events for d, full rate for half of d, and idle. The fixed rate is
// low, so that each event is one write: about 30,000 deliveries a second, where a core
// carries 100,000.
func subscribers(n int, d time.Duration) workload {
	const deliveries = 30_000
	parts := []workload{rate(n, max(2, min(50, deliveries/n)), d), full(n, d/2), idle(n)}
	return workload{
		columns: []report.Column{
			{Title: "single: CPU, µs", Better: report.Lower},
			{Title: "single: p50, ms", Better: report.Lower},
			{Title: "single: p99, ms", Better: report.Lower},
			{Title: "full rate: CPU, µs", Better: report.Lower},
			{Title: "full rate: deliveries/s", Better: report.Higher},
			{Title: "idle: KiB each", Better: report.Lower},
			{Title: "single: generator CPU, µs"},
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
				out.trouble = fmt.Sprintf("%.0f single events came seconds late or were lost", lost)
			}
			out.figures = []float64{single[2], single[0], single[1], all[1], all[0], memoryOf(idle[0], n), single[4]}
			return out, nil
		},
	}
}

// memoryOf returns one, the memory of each of n things, or NaN if n is below 1,000. With
// fewer, the process's other use of memory varies by more than theirs.
func memoryOf(one float64, n int) float64 {
	if n < 1000 {
		return math.NaN()
	}
	return one
}

// inServer starts a new server process and calls op, one of its growthOps.
func inServer(ctx context.Context, lib library.Library, op string, args, result any) error {
	p, err := startPair(ctx, lib.Name, window)
	if err != nil {
		return err
	}
	defer p.end()
	return p.server.call(op, args, result)
}

// subscribersInProcess measures n subscribers without sockets with about that many
// deliveries, but at least five events.
func subscribersInProcess(n, deliveries int) workload {
	return workload{
		columns: []report.Column{
			{Title: "publish call, ns", Better: report.Lower},
			{Title: "delivery, ns", Better: report.Lower},
			{Title: "CPU per delivery, ns", Better: report.Lower},
			{Title: "RSS, bytes each", Better: report.Lower},
			{Title: "heap and stacks, bytes each", Better: report.Lower},
			{Title: "join, ns", Better: report.Lower},
		},
		limit: 3 * time.Minute,
		run: func(ctx context.Context, lib library.Library) (out outcome, err error) {
			var r localResult
			if err := inServer(ctx, lib, "subscribers", localArgs{Topics: 1, Followers: n, Events: max(5, deliveries/n)}, &r); err != nil {
				return out, err
			}
			each := float64(n)
			out.figures = []float64{r.Publish, r.Delivered / each, r.CPU / each, memoryOf(float64(r.RSS)/each, n), memoryOf(float64(r.Own)/each, n), r.Join}
			return out, nil
		},
	}
}

// topics measures n topics with one follower each, with that many events, each to another
// topic than the one before. For comparison it also measures one topic with n followers.
func topics(n, events int) workload {
	return workload{
		columns: []report.Column{
			{Title: "publish call, ns", Better: report.Lower},
			{Title: "until delivered, ns", Better: report.Lower},
			{Title: "join, ns", Better: report.Lower},
			{Title: "bytes each, with the follower", Better: report.Lower},
			{Title: "one topic: bytes per follower", Better: report.Lower},
			{Title: "one topic: join, ns", Better: report.Lower},
			{Title: "one topic: publish call, ns", Better: report.Lower},
			{Title: "one topic: delivery, ns", Better: report.Lower},
		},
		limit: 2 * time.Minute,
		run: func(ctx context.Context, lib library.Library) (out outcome, err error) {
			var many, one localResult
			if err := inServer(ctx, lib, "subscribers", localArgs{Topics: n, Followers: 1, Events: events}, &many); err != nil {
				return out, err
			}
			if err := inServer(ctx, lib, "subscribers", localArgs{Topics: 1, Followers: n, Events: max(5, min(events, 10*events/n))}, &one); err != nil {
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
	sizedInFlight = 4 << 20 // bytes, as much as the system may buffer for one connection
)

// eventSizes measures events of size bytes at full rate for d. All events in flight must
// fit into the log of 64 MiB, where an event of 1 MiB takes 2 MiB: its data and its frame.
func eventSizes(size int, d time.Duration) workload {
	inFlight := max(2, min(window, sizedInFlight/size))
	return workload{
		columns: []report.Column{
			{Title: "CPU per delivery, µs", Better: report.Lower},
			{Title: "CPU per KiB, µs", Better: report.Lower},
			{Title: "deliveries/s", Better: report.Higher},
			{Title: "MiB/s", Better: report.Higher},
			{Title: "events in flight"},
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

// logSizes measures a full log of n events.
func logSizes(n int) workload {
	return workload{
		columns: []report.Column{
			{Title: "publish call, ns", Better: report.Lower},
			{Title: "bytes per event", Better: report.Lower},
			{Title: "bytes as LogSize counts", Better: report.Lower},
			{Title: "replay, ns per event", Better: report.Lower},
			{Title: "start without replay, µs", Better: report.Lower},
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

// publishers measures n publishers at once that publish that many events in all.
func publishers(n, events int) workload {
	return workload{
		columns: []report.Column{
			{Title: "publish call, ns", Better: report.Lower},
			{Title: "event to all, ns", Better: report.Lower},
			{Title: "CPU per event, ns", Better: report.Lower},
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
