package main

import "slices"

// goal is a figure, worked out from the lines of a scenario, and its limit.
type goal struct {
	text   string
	limit  float64
	atMost bool
	figure func(all []line) (float64, bool) // false: not measured
}

// met reports whether a figure is within the limit.
func (g goal) met(x float64) bool {
	if g.atMost {
		return x <= g.limit
	}
	return x >= g.limit
}

func atMost(text string, limit float64, figure func([]line) (float64, bool)) goal {
	return goal{text, limit, true, figure}
}

func atLeast(text string, limit float64, figure func([]line) (float64, bool)) goal {
	return goal{text, limit, false, figure}
}

func againstFloor() []goal {
	return []goal{
		atLeast("throughput against the bare loop", 0.5, ratio(sideRelay, sideFloor, throughput)),
		atMost("CPU per delivery against the bare loop, Postgres included", 2, ratio(sideRelay, sideFloor, cpuAll)),
	}
}

func rateGoals() []goal {
	return []goal{
		atMost("p50 against the bare loop", 2.5, ratio(sideRelay, sideFloor, p50)),
		atMost("p99, ms", 10, median(sideRelay, p99)),
	}
}

// median is a figure of one side.
func median(side string, figure func(line) float64) func([]line) (float64, bool) {
	return func(all []line) (float64, bool) { return middle(values(of(all, side), figure)) }
}

// most is the highest figure of one side: for what must not happen once.
func most(side string, figure func(line) float64) func([]line) (float64, bool) {
	return func(all []line) (float64, bool) {
		v := values(of(all, side), figure)
		if len(v) == 0 {
			return 0, false
		}
		return slices.Max(v), true
	}
}

// ratio compares two sides pass by pass: what slows the machine slows both.
func ratio(side, other string, figure func(line) float64) func([]line) (float64, bool) {
	return ratioOf(side, figure, other, figure)
}

// ratioOf is the median of one side's figure over the other's, pass by pass.
func ratioOf(side string, figure func(line) float64, other string, otherFigure func(line) float64) func([]line) (float64, bool) {
	return func(all []line) (float64, bool) {
		var ratios []float64
		for _, l := range of(all, side) {
			for _, o := range of(all, other) {
				if o.Pass == l.Pass && otherFigure(o) > 0 {
					ratios = append(ratios, figure(l)/otherFigure(o))
				}
			}
		}
		return middle(ratios)
	}
}

func values(all []line, figure func(line) float64) []float64 {
	v := make([]float64, len(all))
	for i, l := range all {
		v[i] = figure(l)
	}
	return v
}

// middle is the median; it reports false if there is none.
func middle(v []float64) (float64, bool) {
	if len(v) == 0 {
		return 0, false
	}
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	if n%2 == 1 {
		return v[n/2], true
	}
	return (v[n/2-1] + v[n/2]) / 2, true
}
