package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/endpoint"
)

// devKeyFile keeps the sealing key of relay dev in the directory of its Postgres,
// whose secrets it opens: they come and go together.
const devKeyFile = "sealing.key"

// readDevKey returns the key that an earlier relay dev made.
func readDevKey(dir string) (relay.Secret, error) {
	b, err := os.ReadFile(filepath.Join(dir, devKeyFile))
	return relay.Secret(strings.TrimSpace(string(b))), err
}

// keepDevKey returns the key of the relay dev whose Postgres is in dir, and makes
// it if there is none. Only whoever runs relay can read the file.
func keepDevKey(dir string) (relay.Secret, error) {
	key, err := readDevKey(dir)
	if err == nil {
		return key, nil
	}
	path := filepath.Join(dir, devKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		key = endpoint.NewSealingKey()
		err = os.WriteFile(path+".new", []byte(string(key)+"\n"), 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path) // a crash leaves no half of a key
	}
	if err != nil {
		return "", fmt.Errorf("the sealing key of relay dev: %w", err)
	}
	return key, nil
}

// otherStore is a Store that feeds no running relay: it is for looking, and for
// changing what all relays see.
func (l loaded) otherStore(pool *pgxpool.Pool) (*endpoint.Store, *endpoint.Sealer, error) {
	found, err := newEndpoints(l.Config)
	if err != nil {
		return nil, nil, err
	}
	sealer, err := endpoint.NewSealer(l.Sealing.Keys...)
	if err != nil {
		return nil, nil, err
	}
	o := l.storeOptions(found.Registry, zerolog.Nop())
	o.Pool, o.Sealer = pool, sealer
	return endpoint.NewStore(o), sealer, nil
}

// keysPatience bounds a look at all secrets in the database.
const keysPatience = 30 * time.Second

// opensWith reports what the sealing keys of another configuration would not open.
func (a *app) opensWith(next loaded) error {
	if slices.Equal(next.Sealing.Keys, a.config.Sealing.Keys) {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), keysPatience, fmt.Errorf("no answer within %s", keysPatience))
	defer cancel()
	store, _, err := next.otherStore(a.pool)
	if err != nil {
		return err
	}
	if err := store.Load(ctx); err != nil {
		return err
	}
	return store.Locked()
}

// sealWith takes other sealing keys over, which opensWith has found to be good, and
// opens what was locked until now.
func (a *app) sealWith(next loaded) {
	if slices.Equal(next.Sealing.Keys, a.config.Sealing.Keys) {
		return
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), keysPatience, fmt.Errorf("no answer within %s", keysPatience))
	defer cancel()
	err := a.sealer.Replace(next.Sealing.Keys...)
	if err == nil {
		err = a.store.Load(ctx)
	}
	if err != nil {
		a.log.Warn().Err(err).Msg("what the new sealing keys open is read when it changes")
	}
}

// examineSealing sees that the keys open every secret in the database, and that the
// first one sealed them.
func examineSealing(ctx context.Context, fs *findings, l loaded, pool *pgxpool.Pool) {
	const check = "sealing"
	store, sealer, err := l.otherStore(pool)
	if err == nil {
		err = store.Load(ctx)
	}
	if _, refused := errors.AsType[*pgconn.PgError](err); refused {
		return // there is no such table, or relay may not read it: that was said
	}
	if err == nil {
		err = store.Locked()
	}
	if err != nil {
		fs.fail(check, "set sealing.keys as they were; relay run does not start without them", "%v", err)
		return
	}
	if len(sealer.KeyIDs()) == 0 {
		fs.ok(check, "no endpoint in the database has secrets, and there is no key to seal one")
		return
	}
	done, err := store.Rekey(ctx, true, func(endpoint.Rekeyed) {})
	switch {
	case err != nil:
		fs.fail(check, "", "%v", err)
	case done.Resealed > 0:
		fs.warn(check, "run relay rekey before you take a key out of sealing.keys", "%d registered endpoints are sealed with another key than the first", done.Resealed)
	default:
		fs.ok(check, "%d registered endpoints, all sealed with key %s", done.Endpoints, sealer.KeyIDs()[0])
	}
}
