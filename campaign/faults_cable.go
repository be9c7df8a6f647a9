package main

import (
	"context"
	"time"
)

// cableFaults are those of the network, F7: between a relay and NATS, between
// a relay and Postgres, and between all relays and the receiver.
func cableFaults() []fault {
	troubles := []struct {
		name    string
		trouble trouble
	}{
		{"cut", trouble{cut: true}},
		{"hole", trouble{hold: true}},
		{"deaf", trouble{deaf: true}},
		{"gone", trouble{gone: true}},
		{"latency", trouble{latency: 300 * time.Millisecond}},
		{"crawl", trouble{rate: 20_000}},
	}
	sides := []struct {
		name   string
		cables func(*breaking) []*cable
	}{
		{"nats", func(b *breaking) []*cable { return b.station().nats }},
		{"postgres", func(b *breaking) []*cable { return []*cable{b.station().postgres} }},
		{"receiver", func(b *breaking) []*cable { return []*cable{b.endpoints} }},
	}
	var faults []fault
	for _, side := range sides {
		for _, t := range troubles {
			faults = append(faults, fault{
				name: t.name + "-" + side.name, hold: [2]time.Duration{100 * ms, 1500 * ms},
				inject: func(_ context.Context, b *breaking) (func(context.Context) error, error) {
					cables := side.cables(b)
					suffer(cables, t.trouble)
					return func(context.Context) error {
						suffer(cables, trouble{})
						return nil
					}, nil
				},
			})
		}
	}
	return append(faults, fault{name: "commit-unknown", hold: [2]time.Duration{500 * ms, 1500 * ms}, inject: commitUnknown})
}

// commitUnknown is the last of F10: Postgres has done what it was asked, and
// the connection breaks before it can say so.
func commitUnknown(_ context.Context, b *breaking) (func(context.Context) error, error) {
	for _, s := range b.stations {
		s.postgres.sever(1 + b.random.IntN(8))
	}
	return func(context.Context) error {
		for _, s := range b.stations {
			s.postgres.sever(0)
		}
		return nil
	}, nil
}
