package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Spread is by which fraction the greatest figure of a column exceeds the least of the
// same row, in the row in the middle; NaN if there is none with several figures.
func (t *Table) Spread(c int) float64 {
	var all Samples
	for i := range t.Rows {
		if s := t.Rows[i].spread(c); !math.IsNaN(s) {
			all = append(all, s)
		}
	}
	return all.Median()
}

// spread is by which fraction the greatest figure of column c exceeds the least.
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

// spreads is a line that says the spread of the columns that are compared.
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
	return "\n  spread: " + strings.Join(texts, "; ") + "\n"
}

func percent(fraction float64) string { return Format(100*fraction) + " %" }

// Reproduced compares the medians of the columns that are compared with those of the
// same table of an earlier time. One is reproduced if the two differ by no more than
// the spread of the column or of the row, whichever is the greatest of the two tables.
// It returns how many were compared, and a line for each that was not reproduced.
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
				if s > bound { // and not NaN
					bound = s
				}
			}
			if was == is || max(was, is)/min(was, is)-1 <= bound { // false if one is NaN
				continue
			}
			not = append(not, fmt.Sprintf("%s, %s, %s: %s, was %s with a spread of %s",
				t.Name, r.Name, column.Title, Format(is), Format(was), percent(bound)))
		}
	}
	return compared, not
}
