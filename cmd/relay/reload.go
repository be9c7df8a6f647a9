package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"syscall"

	"github.com/rs/zerolog"
)

// reloadOnSIGHUP reads the configuration again on every SIGHUP until ctx ends. A
// configuration with faults changes nothing.
func (a *app) reloadOnSIGHUP(ctx context.Context, load func() (loaded, error)) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
		}
		next, err := load()
		if err == nil {
			err = a.Reload(next)
		}
		if err != nil {
			a.complain(err)
			continue
		}
		a.log.Info().Msg("configuration reloaded")
	}
}

// complain logs every fault of a configuration that was not taken over.
func (a *app) complain(err error) {
	faults, ok := errors.AsType[Faults](err)
	if !ok {
		a.log.Error().Err(err).Msg("the configuration was not reloaded; the old one holds")
		return
	}
	for _, f := range faults {
		a.log.Error().Str("key", f.Key).Str("origin", f.Origin).Str("fault", f.String()).Msg("fault in the configuration")
	}
	a.log.Error().Int("faults", len(faults)).Msg("the configuration was not reloaded; the old one holds")
}

// reloadable says which sections a reload changes. Of log it is the level.
var reloadable = []string{"policy", "delivery", "signing", "sealing", "tenants", "endpoints"}

// Reload takes over what can be changed while relay runs. Where anything is
// refused everything stays as it was.
func (a *app) Reload(next loaded) error {
	p := next.policyOptions()
	list, err := next.registered()
	if err := errors.Join(err, p.Validate()); err != nil {
		return err
	}
	if err := a.opensWith(next); err != nil {
		return err
	}
	if err := a.sender.replace(next.sending(a.own.list)); err != nil {
		return err
	}
	if err := a.found.Replace(list); err != nil {
		return errors.Join(err, a.sender.replace(a.config.sending(a.own.list)))
	}
	a.sealWith(next)
	a.found.policy.Store(&next.Policy)
	a.policies.Replace(p)
	zerolog.SetGlobalLevel(next.Log.Level.zerolog())
	for _, key := range changed(a.config, next) {
		a.log.Warn().Str("key", key).Msg("changed in the configuration, but needs a restart")
	}
	a.config = next
	return nil
}

// changed returns the keys that differ and that no reload takes over.
func changed(old, next loaded) []string {
	before := map[string]any{}
	for _, s := range settings(old.Config) {
		before[s.key()] = s.value.Interface()
	}
	var differ []string
	for _, s := range settings(next.Config) {
		if !slices.Contains(reloadable, s.path[0]) && s.key() != "log.level" && !reflect.DeepEqual(before[s.key()], s.value.Interface()) {
			differ = append(differ, s.key())
		}
	}
	return differ
}
