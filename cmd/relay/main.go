// Command relay delivers webhooks: it takes events from NATS JetStream, sends
// each to its endpoint over HTTP until it is answered or given up, and writes
// every attempt into Postgres.
//
//	main.go      the command line
//	config.go    every setting and its default; layers.go, decode.go and check.go read them
//	app.go       relay run and relay dev: what is started, and how it stops
//	wire.go      how settings become the options of relay's packages
//	collect.go   how often garbage is collected
//	explain.go   and the other commands, one file each
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

func main() {
	p := &program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(p.run(os.Args[1:], os.Environ()))
}

// program is what every command gets from outside, so that none asks the
// process for it.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	sources        sources
}

// The exit statuses.
const (
	exitFailed = 1 // relay could not do what it was asked
	exitUsage  = 2 // it was asked wrongly: the command line or the configuration
)

// grammar is the command line.
type grammar struct {
	Config string   `short:"c" placeholder:"FILE" help:"Configuration file (YAML). Defaults to the one that RELAY_CONFIG names."`
	Set    []string `placeholder:"KEY=VALUE" sep:"none" help:"Set one key of the configuration; wins over the file and the environment. Repeatable."`

	Run      runCommand      `cmd:"" help:"Deliver webhooks until told to stop."`
	Dev      devCommand      `cmd:"" help:"Run everything on this machine: NATS, Postgres, relay and a receiver that misbehaves on request."`
	Init     initCommand     `cmd:"" help:"Create the streams and consumers, or update those that differ."`
	Migrate  migrateCommand  `cmd:"" help:"Bring the database's schema up to date."`
	Cfg      configCommand   `cmd:"" name:"config" help:"Show the effective configuration and where each value comes from."`
	Send     sendCommand     `cmd:"" help:"Publish one webhook."`
	Explain  explainCommand  `cmd:"" help:"Tell what became of a webhook, and what happens next."`
	Replay   replayCommand   `cmd:"" help:"Send dead letters again."`
	Lane     laneCommand     `cmd:"" help:"Show or change what is parked for endpoints that cannot be called."`
	Endpoint endpointCommand `cmd:"" name:"endpoint" help:"Register endpoints, change them, pause and disable them."`
	Doctor   doctorCommand   `cmd:"" help:"Check whether relay can work here, and say what to do if not."`
	Rekey    rekeyCommand    `cmd:"" help:"Seal the secrets in the database with the first of sealing.keys, so that the others can go."`
	Secret   secretCommand   `cmd:"" help:"Make a signing secret, or a key that seals secrets."`
	Token    tokenCommand    `cmd:"" help:"Make a token for the admin pages."`
	Bench    benchCommand    `cmd:"" help:"Measure a running relay: publish a load, receive it, and report."`
	Version  versionCommand  `cmd:"" help:"Show which relay this is."`
}

// run parses the command line, runs the command and returns the exit status.
func (p *program) run(args, environ []string) int {
	var g grammar
	parser, err := kong.New(&g,
		kong.Name("relay"),
		kong.Description("Webhooks from NATS JetStream to their receivers, at least once, with a record of every attempt in Postgres."),
		kong.Writers(p.stdout, p.stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}),
		kong.ExplicitGroups([]kong.Group{}))
	if err != nil {
		return p.fail(err)
	}
	command, err := parser.Parse(args)
	if err != nil {
		return p.fail(usageError{fmt.Errorf("%w (relay --help shows what there is)", err)})
	}
	p.sources = sources{file: g.Config, environ: environ, set: g.Set}

	// The first signal asks for an orderly stop, the second one is not caught. Some
	// (timeout is one) signal the process and then its group: one wish, not two.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	command.BindTo(ctx, (*context.Context)(nil))
	return p.fail(command.Run(p))
}

// usageError is the mistake of whoever typed the command.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errShown ends a command that has already said what is wrong.
var errShown = errors.New("")

// fail shows an error, if there is one, and returns the exit status.
func (p *program) fail(err error) int {
	if err == nil {
		return 0
	}
	if !errors.Is(err, errShown) {
		fmt.Fprintln(p.stderr, "relay:", err)
	}
	if _, ok := errors.AsType[Faults](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

// load reads the configuration.
func (p *program) load() (loaded, error) { return load(p.sources) }
