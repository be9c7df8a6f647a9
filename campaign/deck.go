package main

import (
	"math/rand/v2"
	"slices"
)

// deck deals faults in a shuffled order, all of a pile before any of it comes
// again.
type deck struct {
	random *rand.Rand
	piles  [2]pile // what the campaign is for, and everything else
	dealt  int
}

type pile struct{ all, left []fault }

// newDeck makes two piles where there are faults that the campaign is for and
// others: of three faults, the first pile gives at least one.
func newDeck(random *rand.Rand, faults []fault, central func(fault) bool) *deck {
	d := &deck{random: random}
	for _, f := range faults {
		which := 1
		if central(f) {
			which = 0
		}
		d.piles[which].all = append(d.piles[which].all, f)
	}
	return d
}

func (d *deck) deal() fault {
	p := &d.piles[1]
	if d.dealt%3 == 0 && len(d.piles[0].all) > 0 || len(p.all) == 0 {
		p = &d.piles[0]
	}
	d.dealt++
	if len(p.left) == 0 {
		p.left = slices.Clone(p.all)
		d.random.Shuffle(len(p.left), func(i, j int) { p.left[i], p.left[j] = p.left[j], p.left[i] })
	}
	f := p.left[0]
	p.left = p.left[1:]
	return f
}
