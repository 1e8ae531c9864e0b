package report

import (
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// Better says which figures of a column are the better ones.
type Better int

// What is better in a column.
const (
	Neither Better = iota
	Lower
	Higher
)

// Column is one kind of figure.
type Column struct {
	Title  string
	Better Better
	Ratio  bool // show the ratio to the best peer
	Plot   bool // draw it
}

// Kind says what a row is to the comparison.
type Kind int

// The kinds of rows.
const (
	Ours Kind = iota
	Peer
	Limit
)

// Row is what one library did.
type Row struct {
	Name    string
	Kind    Kind
	Samples []Samples // for each column; shorter where there were no figures
	Trouble []string  // what went wrong, and in how many runs
}

// median returns the row's figure for column c, NaN if there is none.
func (r *Row) median(c int) float64 {
	if c >= len(r.Samples) {
		return math.NaN()
	}
	return r.Samples[c].Median()
}

// Table is the outcome of one workload.
type Table struct {
	Name    string // for file names
	Title   string
	Columns []Column
	Rows    []Row
}

// Heading is the title without what explains it.
func (t *Table) Heading() string {
	heading, _, _ := strings.Cut(t.Title, ";")
	return heading
}

// better reports whether a is better than b, where a figure is better than none.
func (c Column) better(a, b float64) bool {
	if math.IsNaN(a) || math.IsNaN(b) {
		return !math.IsNaN(a) && math.IsNaN(b)
	}
	return c.Better == Lower && a < b || c.Better == Higher && a > b
}

// best returns the peer that is best in column c; nil if there is none.
func (t *Table) best(c int) (best *Row) {
	for i := range t.Rows {
		r := &t.Rows[i]
		if r.Kind != Peer || math.IsNaN(r.median(c)) {
			continue
		}
		if best == nil || t.Columns[c].better(r.median(c), best.median(c)) {
			best = r
		}
	}
	return best
}

// Beaten says where a peer is better than a row of ours.
func (t *Table) Beaten() (lines []string) {
	for c, column := range t.Columns {
		peer := t.best(c)
		if peer == nil {
			continue
		}
		for i := range t.Rows {
			r := &t.Rows[i]
			if r.Kind == Ours && column.better(peer.median(c), r.median(c)) {
				lines = append(lines, fmt.Sprintf("%s is better than %s: %s %s, against %s",
					peer.Name, r.Name, column.Title, Format(peer.median(c)), Format(r.median(c))))
			}
		}
	}
	return lines
}

// ratio is how many times better than the best peer the row is in column c.
func (t *Table) ratio(r *Row, c int) string {
	peer := t.best(c)
	if !t.Columns[c].Ratio || peer == nil {
		return ""
	}
	v, best := r.median(c), peer.median(c)
	q := v / best
	if t.Columns[c].Better == Lower {
		q = best / v
	}
	if math.IsNaN(q) || math.IsInf(q, 0) || q == 0 {
		return ""
	}
	return Format(q) + "×"
}

// WriteText writes the table, with the lines of Beaten first.
func (t *Table) WriteText(w io.Writer) error {
	var b strings.Builder
	b.WriteString(t.Title + "\n")
	for _, line := range t.Beaten() {
		b.WriteString("! " + line + "\n")
	}
	b.WriteByte('\n')
	writeGrid(&b, t.grid())
	b.WriteString(t.spreads())
	_, err := io.WriteString(w, b.String())
	return err
}

// grid is the text of all cells: for each column the median, the spread if there
// is one, and the ratio.
func (t *Table) grid() [][]string {
	var heading []string
	several, ratios := make([]bool, len(t.Columns)), make([]bool, len(t.Columns))
	for c, column := range t.Columns {
		for i := range t.Rows {
			several[c] = several[c] || t.Rows[i].varies(c)
		}
		ratios[c] = column.Ratio && t.best(c) != nil
		heading = append(heading, column.Title)
		if several[c] {
			heading = append(heading, "min–max")
		}
		if ratios[c] {
			heading = append(heading, "vs best peer")
		}
	}
	grid := [][]string{append([]string{""}, heading...)}
	for i := range t.Rows {
		r := &t.Rows[i]
		line := []string{r.Name}
		for c := range t.Columns {
			line = append(line, Format(r.median(c)))
			if several[c] {
				line = append(line, r.minMax(c))
			}
			if ratios[c] {
				line = append(line, t.ratio(r, c))
			}
		}
		if len(r.Trouble) > 0 {
			line = append(line, strings.Join(r.Trouble, "; "))
		}
		grid = append(grid, line)
	}
	return grid
}

// varies reports whether there is a spread to show in column c.
func (r *Row) varies(c int) bool {
	if c >= len(r.Samples) || len(r.Samples[c]) == 0 {
		return false
	}
	low, high := r.Samples[c].Range()
	return Format(low) != Format(high)
}

func (r *Row) minMax(c int) string {
	if c >= len(r.Samples) || len(r.Samples[c]) == 0 {
		return ""
	}
	low, high := r.Samples[c].Range()
	if math.IsNaN(low) {
		return ""
	}
	return Format(low) + "–" + Format(high)
}

// writeGrid aligns the first column, and what stands beyond the heading, to the left.
func writeGrid(b *strings.Builder, grid [][]string) {
	columns := len(grid[0])
	widths := make([]int, columns)
	for _, line := range grid {
		for c, cell := range line[:min(columns, len(line))] {
			widths[c] = max(widths[c], utf8.RuneCountInString(cell))
		}
	}
	for _, line := range grid {
		var text strings.Builder
		for c, cell := range line {
			switch {
			case c >= columns:
				text.WriteString("   " + cell)
			case c == 0:
				text.WriteString("  " + cell + pad(widths[c], cell))
			default:
				text.WriteString("   " + pad(widths[c], cell) + cell)
			}
		}
		b.WriteString(strings.TrimRight(text.String(), " ") + "\n")
	}
}

func pad(width int, cell string) string {
	return strings.Repeat(" ", max(0, width-utf8.RuneCountInString(cell)))
}
