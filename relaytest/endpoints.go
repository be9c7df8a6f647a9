package relaytest

import (
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/endpoint"
)

// SealingKey seals the secrets of endpoints that tests register in the database.
// Every relay of a test has it.
const SealingKey relay.Secret = "rsk_cmVsYXl0ZXN0IHNlYWxzIGl0cyBzZWNyZXRzIHRodXM="

// endpoints are the registry and the store behind it, as consumer knows them.
type endpoints struct {
	*endpoint.Registry
	*endpoint.Store
}

// register makes the registry, the store that feeds it, and the service.
func (r *Relay) register(o Options, pool *pgxpool.Pool, conn *nats.Conn, log zerolog.Logger) (*endpoint.Registry, *endpoint.Service) {
	r.t.Helper()
	registry, err := endpoint.New(o.Endpoints)
	r.check(err)
	s := o.Store
	if s.Sealer == nil {
		s.Sealer, err = endpoint.NewSealer(SealingKey)
		r.check(err)
	}
	s.Pool, s.Registry, s.Logger, s.OnChange = pool, registry, log, endpoint.Announce(conn)
	r.Store = endpoint.NewStore(s)
	r.check(r.Store.Load(r.t.Context()))
	return registry, endpoint.NewService(endpoint.ServiceOptions{Conn: conn, Store: r.Store, Logger: log})
}

// await waits until the service answers.
func (r *Relay) await(service *endpoint.Service) {
	r.t.Helper()
	select {
	case <-service.Ready():
	case <-time.After(Patience):
		r.t.Fatal("relaytest: the service of endpoints does not begin")
	}
}

// Register registers an endpoint in the database, or replaces its settings, as
// relay endpoint put does: a name, a url, and whatever else the README lists. This
// relay knows it when Register returns, others that share its database do within a
// second.
func (r *Relay) Register(settings map[string]any) endpoint.Entry {
	r.t.Helper()
	request, err := json.Marshal(settings)
	r.check(err)
	entry, err := r.Store.Put(r.t.Context(), request, "relaytest")
	r.check(err)
	return entry
}
