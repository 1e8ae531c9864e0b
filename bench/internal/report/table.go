package report

import (
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// Better says whether a low or a high figure of a column is the better one.
type Better int

// The values of Better. With Neither, no figure of the column counts as better.
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
	Plot   bool // draw a plot of this column
}

// Kind says whether a row is this module, another library, or code without a library.
type Kind int

// The kinds of rows.
const (
	Ours  Kind = iota // this module
	Peer              // another library
	Limit             // code without a library, to compare with
)

// Row holds the figures of one library.
type Row struct {
	Name    string
	Kind    Kind
	Samples []Samples // one for each column; shorter if later columns have no figures
	Trouble []string  // what went wrong, and in how many runs
}

// median returns the row's median in column c, or NaN if it has no samples there.
func (r *Row) median(c int) float64 {
	if c >= len(r.Samples) {
		return math.NaN()
	}
	return r.Samples[c].Median()
}

// Table holds the figures of one workload.
type Table struct {
	Name    string // used in file names
	Title   string
	Columns []Column
	Rows    []Row
}

// Heading returns the part of the title before the first semicolon. What follows the
// semicolon explains the table.
func (t *Table) Heading() string {
	heading, _, _ := strings.Cut(t.Title, ";")
	return heading
}

// better reports whether a is better than b. Any figure is better than NaN.
func (c Column) better(a, b float64) bool {
	if math.IsNaN(a) || math.IsNaN(b) {
		return !math.IsNaN(a) && math.IsNaN(b)
	}
	return c.Better == Lower && a < b || c.Better == Higher && a > b
}

// best returns the peer with the best median in column c, or nil if no peer has one.
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

// Beaten returns a line for each figure in which the best peer is better than one of our
// rows.
func (t *Table) Beaten() (lines []string) {
	for c, column := range t.Columns {
		peer := t.best(c)
		if peer == nil {
			continue
		}
		for i := range t.Rows {
			r := &t.Rows[i]
			if r.Kind == Ours && column.better(peer.median(c), r.median(c)) {
				lines = append(lines, fmt.Sprintf("%s is better than %s in %s: %s against %s",
					peer.Name, r.Name, column.Title, Format(peer.median(c)), Format(r.median(c))))
			}
		}
	}
	return lines
}

// ratio returns how many times better the row is than the best peer in column c. It
// returns an empty string if the column shows no ratio or if there is none to show.
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

// WriteText writes the title, the lines of Beaten, the figures and the median spreads to
// w.
func (t *Table) WriteText(w io.Writer) error {
	var b strings.Builder
	b.WriteString(t.Title + "\n")
	for _, line := range t.Beaten() {
		b.WriteString("! " + line + "\n")
	}
	b.WriteByte('\n')
	b.WriteString(Grid(t.grid()))
	b.WriteString(t.spreads())
	_, err := io.WriteString(w, b.String())
	return err
}

// grid returns the text of all cells. Each column has the median, then the lowest and
// highest sample if they differ in some row, and then the ratio if the column shows one.
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

// varies reports whether the row's lowest and highest sample in column c differ as
// formatted.
func (r *Row) varies(c int) bool {
	if c >= len(r.Samples) || len(r.Samples[c]) == 0 {
		return false
	}
	low, high := r.Samples[c].Range()
	return Format(low) != Format(high)
}

// minMax returns the row's lowest and highest sample in column c. It returns an empty
// string if there are none.
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

// Grid returns the cells as lines of text in aligned columns. The first line is the
// heading. The first column is aligned to the left and the others to the right. Cells
// beyond the heading's columns follow their line unaligned.
func Grid(grid [][]string) string {
	var b strings.Builder
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
	return b.String()
}

// pad returns the spaces that cell lacks to be width runes long.
func pad(width int, cell string) string {
	return strings.Repeat(" ", max(0, width-utf8.RuneCountInString(cell)))
}
