package main

import "fmt"

// document shows the goals of all scenarios that have results.
func (m *machine) document() error {
	for _, sc := range scenarios() {
		all, err := m.results(sc.name)
		if err != nil {
			return err
		}
		for _, g := range sc.goals {
			if x, ok := g.figure(all); ok {
				fmt.Printf("%-18s %-60s %8.2f  goal %g  met %v\n", sc.name, g.text, x, g.limit, g.met(x))
			}
		}
	}
	return nil
}
