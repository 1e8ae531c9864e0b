//go:build linux

package main

import (
	"fmt"
	"html"
	"math"
	"strings"

	"github.com/chi-sse/sse/bench/internal/report"
)

// curve is a cost as a function of the series' size. The total cost for the whole size is
// what is fitted.
type curve struct {
	what   string
	unit   string
	column int  // the column of the table that has the cost
	each   bool // the column has the cost of one; the total is that times the size
	from   int  // the first size to fit; below it, most of the cost does not grow with the size
}

// dots holds the points of a curve: x is a size and y the total cost at it.
type dots struct{ x, y []float64 }

// dots returns the curve's points from the medians of rows, of which row i has sizes[i]. It
// leaves out sizes without a positive, finite cost.
func (c curve) dots(sizes []int, rows []report.Row) (d dots) {
	for i, size := range sizes {
		if size < c.from || c.column >= len(rows[i].Samples) {
			continue
		}
		v := rows[i].Samples[c.column].Median()
		if c.each {
			v *= float64(size)
		}
		if v > 0 && !math.IsInf(v, 0) {
			d.x, d.y = append(d.x, float64(size)), append(d.y, v)
		}
	}
	return d
}

// power is the function y = factor · x^exponent.
type power struct {
	factor, exponent float64
	deviation        float64 // the largest of a point from the function, as a fraction
}

// fit returns the power that fits d best, by least squares of the logarithms. It reports
// false if d has fewer than two different sizes.
func fit(d dots) (p power, ok bool) {
	n := float64(len(d.x))
	var sx, sy float64
	for i := range d.x {
		sx, sy = sx+math.Log(d.x[i]), sy+math.Log(d.y[i])
	}
	var sxx, sxy float64
	for i := range d.x {
		dx := math.Log(d.x[i]) - sx/n
		sxx, sxy = sxx+dx*dx, sxy+dx*(math.Log(d.y[i])-sy/n)
	}
	if !(sxx > 0) {
		return p, false
	}
	p.exponent = sxy / sxx
	p.factor = math.Exp((sy - p.exponent*sx) / n)
	for i := range d.x {
		p.deviation = max(p.deviation, math.Abs(d.y[i]/p.at(d.x[i])-1))
	}
	return p, true
}

// at returns the value of p at x.
func (p power) at(x float64) float64 { return p.factor * math.Pow(x, p.exponent) }

// growthHeading is the heading of the lines that growth returns.
var growthHeading = []string{"", "from n", "to n", "growth", "largest deviation", "at first n", "at last n", "ratio"}

// growth returns a line of cells, one under each cell of growthHeading, that says how the
// curve grows through d. If d has too few points, a further cell says so.
func (c curve) growth(d dots) []string {
	p, ok := fit(d)
	if !ok {
		return append([]string{c.what}, "", "", "", "", "", "", "", "too few points")
	}
	unit, last := c.unit, len(d.x)-1
	from, to := d.y[0], d.y[last]
	if c.each {
		unit += " each"
		from, to = from/d.x[0], to/d.x[last]
	}
	return []string{
		c.what,
		whole(d.x[0]),
		whole(d.x[last]),
		fmt.Sprintf("n^%.2f", p.exponent),
		fmt.Sprintf("%.0f %%", 100*p.deviation),
		report.Format(from) + " " + unit,
		report.Format(to) + " " + unit,
		report.Format(to/from) + "×",
	}
}

// whole returns v, a size, with all its digits and commas between thousands.
func whole(v float64) string {
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// Dimensions of a log-log plot, in pixels.
const (
	growthWidth  = 760
	growthHeight = 420
	growthLeft   = 120
	growthTop    = 40
	growthRight  = 30
	growthBottom = 60
)

var growthColors = []string{"#1f77b4", "#d9822b", "#2f8f4e"}

// plotLine is a curve to draw, with its name.
type plotLine struct {
	name string
	dots
}

// growthPlot returns an SVG that draws lines on two logarithmic axes. For each line, a
// dotted line shows linear growth from its first point.
func growthPlot(title, xTitle, yTitle string, lines []plotLine) string {
	var xs, ys []float64
	for _, l := range lines {
		xs, ys = append(xs, l.x...), append(ys, l.y...)
	}
	x := newAxis(xs, growthLeft, growthWidth-growthRight)
	y := newAxis(ys, growthHeight-growthBottom, growthTop)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="12">`+"\n", growthWidth, growthHeight)
	b.WriteString(`<rect width="100%" height="100%" fill="#fff"/>` + "\n")
	fmt.Fprintf(&b, `<text x="8" y="20" font-size="14">%s</text>`+"\n", html.EscapeString(title))
	for v := range x.decades {
		at := x.at(v)
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1[1]f" y2="%[3]d" stroke="#ddd"/><text x="%.1[1]f" y="%[4]d" text-anchor="middle">%s</text>`+"\n",
			at, growthTop, growthHeight-growthBottom, growthHeight-growthBottom+18, tick(v))
	}
	for v := range y.decades {
		at := y.at(v)
		fmt.Fprintf(&b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1[2]f" stroke="#ddd"/><text x="%[4]d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			growthLeft, at, growthWidth-growthRight, growthLeft-8, at+4, tick(v))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (growthLeft+growthWidth-growthRight)/2, growthHeight-16, html.EscapeString(xTitle))
	fmt.Fprintf(&b, `<text transform="translate(20 %d) rotate(-90)" text-anchor="middle">%s</text>`+"\n", (growthTop+growthHeight-growthBottom)/2, html.EscapeString(yTitle))
	for i, l := range lines {
		if len(l.x) == 0 {
			continue
		}
		color := growthColors[i%len(growthColors)]
		var path strings.Builder
		for j := range l.x {
			px, py := x.at(l.x[j]), y.at(l.y[j])
			fmt.Fprintf(&path, "%.1f,%.1f ", px, py)
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`, px, py, color)
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.TrimSpace(path.String()), color)
		// The dotted line ends at the right or at the upper edge of the plot.
		end := min(x.high, l.x[0]*y.high/l.y[0])
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-dasharray="2 4"/>`+"\n",
			x.at(l.x[0]), y.at(l.y[0]), x.at(end), y.at(l.y[0]*end/l.x[0]), color)
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n", growthLeft+12, growthTop+18+16*i, color, html.EscapeString(l.name+" (dotted: linear from the first point)"))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// axis is a logarithmic axis of whole decades. It maps the values low to high to the pixels
// from to to.
type axis struct{ low, high, from, to float64 }

// newAxis returns the axis of the fewest decades that holds all values, between the pixels
// from and to.
func newAxis(values []float64, from, to float64) axis {
	a := axis{1, 10, from, to}
	for i, v := range values {
		low := math.Pow(10, math.Floor(math.Log10(v)))
		high := math.Pow(10, math.Ceil(math.Log10(v)))
		if i == 0 {
			a.low, a.high = low, high
		}
		a.low, a.high = min(a.low, low), max(a.high, high)
	}
	a.high = max(a.high, 10*a.low)
	return a
}

// at returns the pixel of v.
func (a axis) at(v float64) float64 {
	return a.from + (a.to-a.from)*math.Log(v/a.low)/math.Log(a.high/a.low)
}

// decades yields the powers of ten on the axis.
func (a axis) decades(yield func(float64) bool) {
	for v := a.low; v < a.high*1.5; v *= 10 {
		if !yield(v) {
			return
		}
	}
}

// tick returns the text at a decade.
func tick(v float64) string {
	if v < 1 {
		return fmt.Sprintf("%.3g", v)
	}
	return whole(v)
}
