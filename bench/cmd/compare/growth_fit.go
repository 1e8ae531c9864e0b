//go:build linux

package main

import (
	"fmt"
	"html"
	"math"
	"strings"

	"github.com/chi-sse/sse/bench/internal/report"
)

// curve is a cost as a function of the size of a series.
type curve struct {
	what   string // is fitted: the total, for the whole size
	unit   string // of the total
	column int
	each   bool // the column has the cost of one, of which the total is that for all
	from   int  // the size from which it is fitted: below, what does not grow is most of it
}

// dots are the points of a curve: sizes, and totals.
type dots struct{ x, y []float64 }

// dots are the medians of rows, whose sizes are given.
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

// power is the law y = factor · x^exponent.
type power struct {
	factor, exponent float64
	deviation        float64 // the greatest of a point from the law, as a fraction
}

// fit finds the law by least squares of the logarithms. It needs two sizes.
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

func (p power) at(x float64) float64 { return p.factor * math.Pow(x, p.exponent) }

// law says how the curve grows.
func (c curve) law(d dots) string {
	p, ok := fit(d)
	if !ok {
		return c.what + ": too few points"
	}
	text := fmt.Sprintf("%s grows as n^%.2f from %s to %s (largest deviation from the fit %.0f %%)",
		c.what, p.exponent, whole(d.x[0]), whole(d.x[len(d.x)-1]), 100*p.deviation)
	first, last := d.y[0], d.y[len(d.y)-1]
	if c.each {
		text += ", for one"
		first, last = first/d.x[0], last/d.x[len(d.x)-1]
	}
	return text + fmt.Sprintf(" from %s to %s %s: %s×", report.Format(first), report.Format(last), c.unit, report.Format(last/first))
}

// whole writes all digits of a size.
func whole(v float64) string {
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// The measures of a log-log plot, in pixels.
const (
	growthWidth  = 760
	growthHeight = 420
	growthLeft   = 120
	growthTop    = 40
	growthRight  = 30
	growthBottom = 60
)

var growthColors = []string{"#1f77b4", "#d9822b", "#2f8f4e"}

// plotLine is one curve of a plot.
type plotLine struct {
	name string
	dots
}

// growthPlot draws lines as an SVG with two logarithmic axes, and for each a dotted line
// of what would be linear from its first point.
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
		// A linear line goes as far as the plot does.
		end := min(x.high, l.x[0]*y.high/l.y[0])
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-dasharray="2 4"/>`+"\n",
			x.at(l.x[0]), y.at(l.y[0]), x.at(end), y.at(l.y[0]*end/l.x[0]), color)
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n", growthLeft+12, growthTop+18+16*i, color, html.EscapeString(l.name+" (dotted: linear from the first point)"))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// axis is a logarithmic one, of whole decades.
type axis struct{ low, high, from, to float64 }

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

func (a axis) at(v float64) float64 {
	return a.from + (a.to-a.from)*math.Log(v/a.low)/math.Log(a.high/a.low)
}

func (a axis) decades(yield func(float64) bool) {
	for v := a.low; v < a.high*1.5; v *= 10 {
		if !yield(v) {
			return
		}
	}
}

// tick is the text at a decade.
func tick(v float64) string {
	if v < 1 {
		return fmt.Sprintf("%.3g", v)
	}
	return whole(v)
}
