package bench

import (
	"bytes"
	"fmt"
	"math"
	"strings"
)

// The plot: two panels side by side.
const (
	panelWidth  = 460.0
	panelHeight = 300.0
	margin      = 60.0
)

// colours are told apart by people who cannot see red and green too.
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"}

// curve is one line of a panel.
type curve struct {
	name string
	x, y []float64
}

// SVG draws the latencies by percentile, and what was delivered in each second.
func (r Report) SVG() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="12">`+"\n",
		2*(panelWidth+2*margin), panelHeight+2*margin)
	b.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	r.latencyPanel(&b)
	r.timelinePanel(&b, panelWidth+2*margin)
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// latencyPanel has the percentiles on a scale that stretches the tail: 90, 99,
// 99.9 are the same distance apart. The latencies are on a logarithmic scale.
func (r Report) latencyPanel(b *bytes.Buffer) {
	p := panel{b: b, title: "Latency, publish to receiver (ms), by percentile"}
	var curves []curve
	for _, k := range r.Kinds {
		if k.Latency.Count == 0 {
			continue
		}
		c := curve{name: string(k.Kind)}
		for i, percent := range CurveAt() {
			c.x = append(c.x, tail(percent))
			c.y = append(c.y, math.Log10(max(0.01, k.Latency.Curve[i])))
		}
		curves = append(curves, c)
	}
	low, high := bounds(curves)
	low, high = math.Floor(low), math.Ceil(high+0.001)
	for y := low; y <= high; y++ {
		p.y = append(p.y, mark{(y - low) / (high - low), fmt.Sprintf("%g", math.Pow(10, y))})
	}
	for _, percent := range []float64{0, 50, 90, 99, 99.9, 99.99} {
		p.x = append(p.x, mark{tail(percent) / tail(100), fmt.Sprintf("%g", percent)})
	}
	p.x = append(p.x, mark{1, "all"})
	p.draw(curves, tail(100), low, high)
}

// tail is where a percentile stands: the number of nines.
func tail(percent float64) float64 { return -math.Log10(max(1e-5, 1-percent/100)) }

// timelinePanel has the deliveries of each second.
func (r Report) timelinePanel(b *bytes.Buffer, left float64) {
	p := panel{b: b, left: left, title: "First deliveries per second, by second of the load"}
	delivered, recovered := curve{name: "healthy"}, curve{name: "queued first"}
	for _, s := range r.Timeline {
		delivered.x, delivered.y = append(delivered.x, float64(s.At)), append(delivered.y, float64(s.Delivered))
		recovered.x, recovered.y = append(recovered.x, float64(s.At)), append(recovered.y, float64(s.Recovered))
	}
	curves := []curve{delivered}
	if r.Options.HealAfter > 0 {
		curves = append(curves, recovered)
	}
	_, high := bounds(curves)
	high = round(max(1, high))
	last := max(1, float64(len(r.Timeline)-1))
	for i := range 5 {
		share := float64(i) / 4
		p.y = append(p.y, mark{share, fmt.Sprintf("%g", share*high)})
		p.x = append(p.x, mark{share, fmt.Sprintf("%.3g", share*last)})
	}
	p.draw(curves, last, 0, high)
}

// round goes up to the next number with one digit that counts.
func round(x float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(x)))
	return math.Ceil(x/unit) * unit
}

func bounds(curves []curve) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, c := range curves {
		for _, y := range c.y {
			low, high = min(low, y), max(high, y)
		}
	}
	if low > high {
		return 0, 1
	}
	return low, high
}

// mark is a line of the grid: where, as a share of the axis, and its label.
type mark struct {
	at    float64
	label string
}

// panel is one of the two diagrams.
type panel struct {
	b     *bytes.Buffer
	left  float64
	title string
	x, y  []mark
}

func (p panel) at(x, y float64) (px, py float64) {
	return p.left + margin + x*panelWidth, margin + (1-y)*panelHeight
}

// draw draws the grid, and the curves within 0 to right and low to high.
func (p panel) draw(curves []curve, right, low, high float64) {
	fmt.Fprintf(p.b, `<text x="%.1f" y="%.1f" font-weight="bold">%s</text>`+"\n", p.left+margin, margin-20, p.title)
	for _, m := range p.y {
		x1, y := p.at(0, m.at)
		x2, _ := p.at(1, m.at)
		fmt.Fprintf(p.b, `<path d="M%.1f %.1fH%.1f" stroke="#ddd"/><text x="%.1f" y="%.1f" text-anchor="end">%s</text>`+"\n", x1, y, x2, x1-6, y+4, m.label)
	}
	for _, m := range p.x {
		x, y1 := p.at(m.at, 0)
		_, y2 := p.at(m.at, 1)
		fmt.Fprintf(p.b, `<path d="M%.1f %.1fV%.1f" stroke="#ddd"/><text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", x, y1, y2, x, y1+16, m.label)
	}
	for i, c := range curves {
		var points strings.Builder
		for j := range c.x {
			x, y := p.at(c.x[j]/right, (c.y[j]-low)/(high-low))
			fmt.Fprintf(&points, "%.1f,%.1f ", x, y)
		}
		colour := colours[i%len(colours)]
		fmt.Fprintf(p.b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", points.String(), colour)
		x, y := p.at(0.7, 0.42) // where curves that rise seldom are
		fmt.Fprintf(p.b, `<text x="%.1f" y="%.1f" fill="%s">%s</text>`+"\n", x, y+float64(i)*16, colour, c.name)
	}
}
