package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/migrations"
)

// initCommand is relay init.
type initCommand struct {
	Check bool `help:"Change nothing; exit status 1 if there is anything to do."`
}

// Run brings the streams and consumers to what relay needs.
func (c *initCommand) Run(ctx context.Context, p *program) error {
	l, err := p.load()
	if err != nil {
		return err
	}
	if err := l.needs("nats.url"); err != nil {
		return err
	}
	if l.NATS.Embedded {
		return errors.New("nats.embedded is set: relay run makes the streams of its own server when it starts")
	}
	conn, err := l.dialNATS(zerolog.Nop())
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	bring := consumer.Setup
	if c.Check {
		bring = consumer.Compare
	}
	changes, err := bring(ctx, js, l.streamOptions())
	todo := showChanges(p, changes)
	if err == nil && c.Check && todo > 0 {
		return errShown
	}
	if errors.Is(err, nats.ErrNoResponders) {
		return errors.New("JetStream is off on this NATS server; turn it on: jetstream { store_dir: … }")
	}
	return refused(conn, err)
}

// showChanges lists what was done or found, and returns how much there is to do.
func showChanges(p *program, changes []consumer.Change) (todo int) {
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	defer w.Flush() //nolint:errcheck // standard output; nobody is left to tell
	for _, c := range changes {
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.Name, c.Done, strings.Join(c.Differs, "; "))
		if c.Done == "missing" || c.Done == "different" {
			todo++
		}
	}
	return todo
}

// migrateCommand is relay migrate.
type migrateCommand struct {
	Check bool `help:"Change nothing; exit status 1 if there is anything to do."`
}

// Run applies the migrations that the database does not have yet. Its user must
// own the schema; relay run itself needs far less.
func (c *migrateCommand) Run(ctx context.Context, p *program) error {
	l, err := p.load()
	if err != nil {
		return err
	}
	if err := l.needs("postgres.url"); err != nil {
		return err
	}
	url := string(l.Postgres.URL)
	if c.Check {
		return checkMigrations(ctx, p, url)
	}
	applied, err := migrations.Up(ctx, url)
	for _, name := range applied {
		fmt.Fprintln(p.stdout, "applied", name)
	}
	if err != nil {
		return err
	}
	if len(applied) == 0 {
		fmt.Fprintf(p.stdout, "nothing to do: the schema has version %d\n", migrations.Latest())
	}
	return nil
}

func checkMigrations(ctx context.Context, p *program, url string) error {
	state, err := migrations.Status(ctx, url)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "the schema has version %d, this relay brings %d\n", state.Current, state.Latest)
	for _, name := range state.Pending {
		fmt.Fprintln(p.stdout, "missing", name)
	}
	if len(state.Pending) > 0 {
		return errShown
	}
	return nil
}
