package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/relaywebhooks/relay/endpoint"
)

// rekeyCommand is relay rekey.
type rekeyCommand struct {
	Check bool `help:"Change nothing; exit status 1 if there is anything to do."`
	JSON  bool `name:"json" help:"Show it as JSON."`
}

// rekeyed is what relay rekey says in JSON.
type rekeyed struct {
	Key       string         `json:"key"`
	Endpoints int            `json:"endpoints"`
	Resealed  int            `json:"resealed"`
	Before    map[string]int `json:"before"`
	Faulty    []string       `json:"faulty"`
	Needless  []string       `json:"needless"` // keys that may go
}

// Run seals the secrets of all endpoints in the database with the first of
// sealing.keys. It speaks to Postgres alone, so that it works while no relay runs.
func (c *rekeyCommand) Run(ctx context.Context, p *program) error {
	l, err := p.load()
	if err != nil {
		return err
	}
	l = l.withDevDatabase()
	if err := l.needs("postgres.url"); err != nil {
		return err
	}
	if len(l.Sealing.Keys) == 0 {
		return endpoint.ErrNoSealingKey
	}
	pool, err := l.openPool(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	store, sealer, err := l.otherStore(pool)
	if err != nil {
		return err
	}
	done, err := store.Rekey(ctx, c.Check, func(so endpoint.Rekeyed) {
		fmt.Fprintf(p.stderr, "%d endpoints looked at, %d sealed anew\n", so.Endpoints, so.Resealed)
	})
	if err != nil {
		if done.Resealed > 0 && !c.Check {
			return fmt.Errorf("%w; %d endpoints were sealed anew before: run it again for the rest", err, done.Resealed)
		}
		return err
	}
	return c.tell(p, done, sealer.KeyIDs())
}

// tell says what was done, and which keys can go.
func (c *rekeyCommand) tell(p *program, done endpoint.Rekeyed, keys []string) error {
	told := rekeyed{
		Key: keys[0], Endpoints: done.Endpoints, Resealed: done.Resealed, Before: done.Before,
		Faulty: append([]string{}, done.Faulty...), Needless: []string{},
	}
	left := c.Check && done.Resealed > 0 || len(done.Faulty) > 0
	if !left {
		told.Needless = append(told.Needless, keys[1:]...)
	}
	if c.JSON {
		if err := p.showJSON(told); err != nil {
			return err
		}
	} else {
		c.say(p, told)
	}
	switch {
	case len(done.Faulty) > 0 && !c.JSON:
		return errors.New("the old keys are still needed: put those back that are missing, or set the secrets of these endpoints anew, and run it again")
	case left:
		return errShown
	}
	return nil
}

func (c *rekeyCommand) say(p *program, told rekeyed) {
	verb := "were sealed anew"
	if c.Check {
		verb = "are to be sealed anew"
	}
	fmt.Fprintf(p.stdout, "%d of %d registered endpoints %s with key %s\n", told.Resealed, told.Endpoints, verb, told.Key)
	for _, id := range slices.Sorted(maps.Keys(told.Before)) {
		fmt.Fprintf(p.stdout, "  %d had secrets sealed with key %s\n", told.Before[id], id)
	}
	for _, line := range told.Faulty {
		fmt.Fprintf(p.stdout, "  stays as it is: %s\n", line)
	}
	if len(told.Needless) > 0 {
		fmt.Fprintf(p.stdout, "Nothing is sealed with key %s any more. It can be taken out of sealing.keys as soon as every relay process has key %s first;\n"+
			"relay rekey --check then says once more that nothing is left.\n", strings.Join(told.Needless, ", "), told.Key)
	}
}
