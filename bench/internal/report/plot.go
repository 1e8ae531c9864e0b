package report

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Dimensions of a plot, in pixels.
const (
	plotWidth = 760
	nameWidth = 190
	textWidth = 90 // for the figure to the right of a bar
	barHeight = 16
	barPitch  = 24
	titleSize = 34
)

var colors = map[Kind]string{Ours: "#1f77b4", Peer: "#9aa5b1", Limit: "#d9c58b"}

// Plot returns an SVG that draws column c. Each row that has samples gets a bar for its
// median and a line from its lowest to its highest sample. An infinite median is drawn
// as long as the highest finite sample of the column.
func (t *Table) Plot(c int) string {
	rows := make([]*Row, 0, len(t.Rows))
	highest := 0.0
	for i := range t.Rows {
		r := &t.Rows[i]
		if math.IsNaN(r.median(c)) {
			continue
		}
		rows = append(rows, r)
		for _, v := range r.Samples[c] {
			if !math.IsInf(v, 0) {
				highest = max(highest, v)
			}
		}
	}
	x := func(v float64) float64 {
		if highest == 0 {
			return 0
		}
		return min(v, highest) / highest * (plotWidth - nameWidth - textWidth)
	}
	var b strings.Builder
	height := titleSize + len(rows)*barPitch + 6
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#fff"/>`+"\n")
	fmt.Fprintf(&b, `<text x="8" y="20" font-size="14">%s: %s</text>`+"\n", html.EscapeString(t.Heading()), html.EscapeString(t.Columns[c].Title))
	for i, r := range rows {
		y := titleSize + i*barPitch
		v := r.median(c)
		low, high := r.Samples[c].Range()
		mid := y + barHeight/2
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, nameWidth-8, mid+4, html.EscapeString(r.Name))
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`, nameWidth, y, max(1, x(v)), barHeight, colors[r.Kind])
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%[2]d" stroke="#333"/>`, nameWidth+x(low), mid, nameWidth+x(high))
		fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s</text>`+"\n", nameWidth+x(high)+6, mid+4, Format(v))
	}
	b.WriteString("</svg>\n")
	return b.String()
}
