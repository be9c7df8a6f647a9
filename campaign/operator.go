package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"
)

// verbPatience is how long an operator asks for one thing. The longest outage of
// Postgres is shorter.
const verbPatience = 45 * time.Second

// operator does to the registered endpoints what operators do, whatever the
// nemesis breaks meanwhile: it pauses, disables and releases them, rotates their
// secrets and changes their settings, and has them answer 410.
type operator struct {
	w         *world
	endpoints []*registered
}

// newOperator makes the operator of a campaign. There is none where all events are
// to succeed at once, nor beside an older relay, which may not know of endpoints.
func newOperator(w *world) *operator {
	if !w.settings.Registered || w.settings.Quiet || w.settings.From != "" {
		return nil
	}
	return &operator{w: w, endpoints: newRegistered()}
}

// run sees to each endpoint by itself until ctx ends, and then releases all.
func (o *operator) run(ctx context.Context) {
	if o == nil {
		return
	}
	var all sync.WaitGroup
	for i, r := range o.endpoints {
		random := rand.New(rand.NewPCG(o.w.settings.Seed, uint64(100+i))) //nolint:gosec // a campaign must be repeatable
		all.Go(func() { o.attend(ctx, r, random) })
	}
	all.Wait()
}

// attend does one thing after the other to an endpoint: all of them in an order
// that is drawn, before any comes again.
func (o *operator) attend(ctx context.Context, r *registered, random *rand.Rand) {
	deeds := []func(context.Context, *registered, *rand.Rand){o.pause, o.disable, o.gone, o.rotate, o.change, o.rotate, o.change}
	var next []int
	for wait(ctx, between(random, [2]time.Duration{500 * ms, 2500 * ms})) {
		if len(next) == 0 {
			next = random.Perm(len(deeds))
		}
		deeds[next[0]](ctx, r, random)
		next = next[1:]
	}
	o.release(context.WithoutCancel(ctx), r)
}

// holdFor is how long an endpoint is held, or longer where that cannot be ended.
var holdFor = [2]time.Duration{300 * ms, 3 * time.Second}

func (o *operator) pause(ctx context.Context, r *registered, random *rand.Rand) {
	o.do(ctx, "pause", r, nil)
	wait(ctx, between(random, holdFor))
	o.do(ctx, "resume", r, nil)
}

func (o *operator) disable(ctx context.Context, r *registered, random *rand.Rand) {
	o.do(ctx, "disable", r, nil)
	wait(ctx, between(random, holdFor))
	o.do(ctx, "enable", r, nil)
}

// gone has an endpoint answer 410 for a while. Relay disables it by itself.
func (o *operator) gone(ctx context.Context, r *registered, random *rand.Rand) {
	o.w.receiver.strike(r.path, gone)
	wait(ctx, between(random, holdFor))
	o.w.receiver.strike(r.path, well)
	o.do(ctx, "enable", r, nil)
}

// release ends every hold. A request of before that comes late, out of a process
// that stood still, may hold the endpoint once more: see [world.drain].
func (o *operator) release(ctx context.Context, r *registered) {
	o.do(ctx, "resume", r, nil)
	o.do(ctx, "enable", r, nil)
}

// releaseAll releases what is held, if anything is.
func (o *operator) releaseAll(ctx context.Context) error {
	if o == nil {
		return nil
	}
	var left int
	err := o.w.pool.QueryRow(ctx, `SELECT count(*) FROM relay.endpoint_settings
		WHERE coalesce(paused_at, disabled_at) IS NOT NULL AND deleted_at IS NULL`).Scan(&left)
	if err != nil || left == 0 {
		return err
	}
	for _, r := range o.endpoints {
		o.release(ctx, r)
	}
	return fmt.Errorf("%d endpoints were held", left)
}

// newSecret makes the next secret of an endpoint. Its receiver knows it before
// relay does.
func (o *operator) newSecret(r *registered) string {
	r.secrets++
	next := r.secret(o.w.settings.Seed, r.secrets)
	o.w.receiver.trust(r.path, next)
	return next
}

func (o *operator) rotate(ctx context.Context, r *registered, _ *rand.Rand) {
	o.do(ctx, "rotate", r, map[string]any{"secret": o.newSecret(r), "overlap": overlap.String()})
}

// change gets the settings, changes some, and puts them back, as people do.
func (o *operator) change(ctx context.Context, r *registered, _ *rand.Rand) {
	r.version++
	o.tell(ctx, "put", r, func(ctx context.Context) error {
		answer, err := o.request(ctx, "get", r.asked(nil))
		if err != nil {
			return err
		}
		in := map[string]any{}
		if err := json.Unmarshal(answer, &in); err != nil {
			return err
		}
		maps.Copy(in, r.settings())
		_, err = o.request(ctx, "put", in)
		return err
	})
}

// do asks for one thing until somebody has done it. To have it done twice does no
// harm.
func (o *operator) do(ctx context.Context, verb string, r *registered, with map[string]any) {
	o.tell(ctx, verb, r, func(ctx context.Context) error {
		_, err := o.request(ctx, verb, r.asked(with))
		return err
	})
}

// asked is a request about an endpoint.
func (r *registered) asked(with map[string]any) map[string]any {
	in := map[string]any{"endpoint": r.name, "tenant": r.tenant}
	maps.Copy(in, with)
	return in
}

// tell repeats a step until it is done, and notes what was asked and what came of
// it. It goes on when the load ends: what was begun is to have an outcome.
func (o *operator) tell(ctx context.Context, verb string, r *registered, step func(context.Context) error) {
	var refused error
	began := time.Now()
	err := o.w.eventually(context.WithoutCancel(ctx), verbPatience, verb, func(ctx context.Context) error {
		if refused = step(ctx); final(refused) {
			return nil
		}
		return refused
	})
	if refused != nil && err == nil {
		o.w.history.note(entry{What: sayTrouble, Name: verb + " " + r.path, Note: refused.Error()})
		return
	}
	e := entry{What: sayAsked, Name: verb, Path: r.path, Millis: time.Since(began).Milliseconds()}
	if err != nil {
		e.Note = err.Error()
	}
	o.w.history.note(e)
}
