//go:build linux

package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/chi-sse/sse/bench/internal/machine"
	"github.com/chi-sse/sse/bench/internal/report"
)

// section is a table of the page.
type section struct {
	title   string
	text    string
	columns []column
}

type column struct {
	figure int
	title  string
}

// sections returns the tables of the page.
func (sz sizes) sections() []section {
	return []section{
		{
			"100 publications a second", "One publisher publishes every 10 ms, and one client follows. A time begins when `Publish` is called. " +
				"The client can have an event before the publisher has the acknowledgement.",
			[]column{
				{ack50, "acknowledged: p50, ms"},
				{ack99, "p99, ms"},
				{receive50, "received: p50, ms"},
				{receive99, "p99, ms"},
			},
		},
		{
			"Publications at full rate", "Each of 64 publishers publishes as fast as it gets acknowledgements. A batch is one `PublishAll` of 100 events.",
			[]column{
				{single, "events/s"},
				{batched, "in batches: events/s"},
			},
		},
		{
			"Deliveries at full rate", fmt.Sprintf("One publisher publishes %s events in batches, and %s clients get each of them. ", number(sz.delivered), number(sz.clients)) +
				"The last column compares with memory in the same round.",
			[]column{
				{deliveries, "deliveries/s"},
				{ofMemory, "of memory"},
			},
		},
		{
			"Clients that come back", fmt.Sprintf("One client catches up on %s events. Then %s clients come back at once to the same place, %s events ago. ", number(sz.cold), number(sz.clients), number(sz.returning)) +
				fmt.Sprintf("The hub has none of these events in its memory, except in the row %q. A page has up to %d events, so it takes at least %d pages to read them once.", memoryName, pageSize, (sz.returning+pageSize-1)/pageSize),
			[]column{
				{caughtUp, "one client: events/s"},
				{returned, "many clients: deliveries/s"},
				{pages, "pages read"},
			},
		},
		{
			"Processor time of an event", "1,000 single events are published in a second. A publishing node also delivers each event to one client. " +
				fmt.Sprintf("A further node only follows the log and has no clients; its figures are an eighth of what %d such nodes add.", sz.nodes),
			[]column{
				{hubCPU, "publishing node, µs"},
				{serverCPU, "server, µs"},
				{nodeCPU, "further node, µs"},
				{nodeServerCPU, "server, for a further node, µs"},
			},
		},
		{
			"Transactions that publish", fmt.Sprintf("An application with %d connections inserts an order in each transaction, and publishes an event in it by `pglog.Publish`. The first figure is without the event. In a batch of pgx, the order and the event take one round trip, by `pglog.Queue`. ", connections) +
				"The times are those of 500 transactions a second, and begin when the commit does.",
			[]column{
				{plainTransactions, "without an event: transactions/s"},
				{publishTransactions, "with an event: transactions/s"},
				{batchTransactions, "in a batch: transactions/s"},
				{commit50, "commit: p50, ms"},
				{commit99, "p99, ms"},
				{committed50, "received: p50, ms"},
				{committed99, "p99, ms"},
			},
		},
	}
}

// number formats an integer.
func number(n int) string { return report.Format(float64(n)) }

// busyFrom is which part of the processors others must have used for the page to say so.
const busyFrom = 0.05

// page returns the page. others says which part of the processors other programs have used.
func (o options) page(logs []*place, results map[*place][]figures, began time.Time, others float64) string {
	var b strings.Builder
	b.WriteString("# The logs side by side\n\n")
	fmt.Fprintf(&b, "Written by `make bench-logs` on %s, in %v. %s\n\n", began.Format(time.DateOnly), time.Since(began).Round(time.Minute), machine.Describe())
	b.WriteString(wrap(explanation))
	times := "once"
	if o.rounds > 1 {
		times = fmt.Sprintf("%d times", o.rounds)
	}
	b.WriteString(wrap(fmt.Sprintf("Each log was measured %s. In each round, all logs take turns, and each round begins with another one. A figure is the median of the rounds, and min–max are the lowest and the highest round.", times)))
	if others >= busyFrom {
		b.WriteString(wrap(fmt.Sprintf("Other programs used %s %% of the processors meanwhile, so compare figures only within a column.", report.Format(math.Round(100*others)))))
	}
	b.WriteString("| log | what it is |\n|---|---|\n")
	for _, p := range logs {
		fmt.Fprintf(&b, "| %s | %s |\n", p.name, p.about)
	}
	for _, s := range o.sizes.sections() {
		if t := s.table(logs, results); len(t.Rows) > 0 {
			fmt.Fprintf(&b, "\n## %s\n\n%s```text\n", s.title, wrap(s.text))
			_ = t.WriteText(&b) // a strings.Builder has no errors
			b.WriteString("```\n")
		}
	}
	return b.String()
}

// table returns the figures of a section, without the logs that have none.
func (s section) table(logs []*place, results map[*place][]figures) *report.Table {
	t := &report.Table{Title: s.title}
	for _, c := range s.columns {
		t.Columns = append(t.Columns, report.Column{Title: c.title})
	}
	for _, p := range logs {
		row, has := report.Row{Name: p.name}, false
		for _, c := range s.columns {
			var samples report.Samples
			for _, f := range results[p] {
				if !math.IsNaN(f[c.figure]) {
					samples, has = append(samples, f[c.figure]), true
				}
			}
			row.Samples = append(row.Samples, samples)
		}
		if has {
			t.Rows = append(t.Rows, row)
		}
	}
	return t
}

const explanation = "A hub over each log. The hub, its publishers and its clients are one process. The clients write to " +
	"memory instead of sockets, so that the hub and the log are most of the work. The servers are processes of the " +
	"same machine with an empty database, and share its processors and its disk with the hub. They talk over " +
	"loopback. Events have about 100 bytes. Between machines, a round trip adds to each time."

// wrap returns text as a paragraph of lines of at most 100 characters.
func wrap(text string) string {
	var b strings.Builder
	length := 0
	for word := range strings.FieldsSeq(text) {
		if length > 0 && length+1+len(word) > 100 {
			b.WriteByte('\n')
			length = 0
		}
		if length > 0 {
			b.WriteByte(' ')
			length++
		}
		b.WriteString(word)
		length += len(word)
	}
	return b.String() + "\n\n"
}
