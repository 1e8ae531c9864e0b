package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Spread returns the median of the rows' spreads in column c. A row's spread is the
// fraction by which its highest sample exceeds its lowest. If no row has several samples,
// Spread returns NaN.
func (t *Table) Spread(c int) float64 {
	var all Samples
	for i := range t.Rows {
		if s := t.Rows[i].spread(c); !math.IsNaN(s) {
			all = append(all, s)
		}
	}
	return all.Median()
}

// spread returns the fraction by which the row's highest sample in column c exceeds its
// lowest. It returns NaN if the row has fewer than two samples there, if the lowest is not
// positive, or if the highest is infinite.
func (r *Row) spread(c int) float64 {
	if c >= len(r.Samples) || len(r.Samples[c]) < 2 {
		return math.NaN()
	}
	low, high := r.Samples[c].Range()
	if low <= 0 || math.IsInf(high, 0) {
		return math.NaN()
	}
	return high/low - 1
}

// spreads returns a line with the spread of each column that shows a ratio. It returns an
// empty string if there is none.
func (t *Table) spreads() string {
	var texts []string
	for c, column := range t.Columns {
		if s := t.Spread(c); column.Ratio && !math.IsNaN(s) {
			texts = append(texts, fmt.Sprintf("%s %s", column.Title, percent(s)))
		}
	}
	if len(texts) == 0 {
		return ""
	}
	return "\n  median spread: " + strings.Join(texts, "; ") + "\n"
}

func percent(fraction float64) string { return Format(100*fraction) + " %" }

// Reproduced compares the medians of this table with those of the same table of an
// earlier run, in each column that shows a ratio. A median is reproduced if the two
// differ by no more than the largest of four spreads: the column's and the row's, in either
// table.
//
// Reproduced returns how many medians it compared and, for each that is not reproduced, a
// row for a Markdown table: the table's name, the library, the column, the median, the
// earlier median, and the largest spread.
func (t *Table) Reproduced(earlier *Table) (compared int, not []string) {
	for c, column := range t.Columns {
		if !column.Ratio {
			continue
		}
		for i := range t.Rows {
			r := &t.Rows[i]
			j := slices.IndexFunc(earlier.Rows, func(o Row) bool { return o.Name == r.Name })
			if j < 0 {
				continue
			}
			was, is := earlier.Rows[j].median(c), r.median(c)
			if math.IsNaN(was) && math.IsNaN(is) {
				continue
			}
			compared++
			bound := 0.0
			for _, s := range []float64{earlier.Spread(c), earlier.Rows[j].spread(c), t.Spread(c), r.spread(c)} {
				if s > bound { // false if s is NaN
					bound = s
				}
			}
			if was == is || max(was, is)/min(was, is)-1 <= bound { // false if one is NaN
				continue
			}
			not = append(not, fmt.Sprintf("| %s | %s | %s | %s | %s | %s |",
				t.Name, r.Name, column.Title, Format(is), Format(was), percent(bound)))
		}
	}
	return compared, not
}
