package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
)

const askTimeout = 5 * time.Second

// examineNATS looks at the server, its version, its disk habits and the streams.
func examineNATS(ctx context.Context, fs *findings, c Config, monitor string) {
	conn, err := c.dialProducer()
	if err != nil {
		advice := "is it running, and may relay's user sign in?"
		if c.NATS.Embedded {
			advice = "the server is inside relay: start relay, and ask again"
		}
		fs.fail("NATS", advice, "%v", err)
		return
	}
	defer conn.Close()
	rtt, err := conn.RTT()
	if err != nil {
		fs.fail("NATS", "", "%v", err)
		return
	}
	fs.ok("NATS", "%s, %.1f ms away", conn.ConnectedUrlRedacted(), float64(rtt)/float64(time.Millisecond))
	_, inClear := conn.TLSConnectionState()
	examineWire(fs, conn.ConnectedAddr(), inClear == nil)
	examineVersion(fs, conn.ConnectedServerVersion())
	if conn.MaxPayload() < wantPayload {
		fs.fail("NATS max_payload", fmt.Sprintf("set max_payload: %d in the server's configuration", wantPayload),
			"%d bytes: a message at the size limit could not be parked or dead-lettered", conn.MaxPayload())
	} else {
		fs.ok("NATS max_payload", "%d bytes", conn.MaxPayload())
	}
	var page *varz
	if monitor != "" {
		page, err = readVarz(ctx, monitor)
	}
	examineSync(fs, c, page, err)
	examineStorage(fs, page, err)
	examineStreams(ctx, fs, c, conn)
}

// examineWire says whether others can read what goes to a server on another machine:
// events, and a password. relay does not insist on TLS, because a network may see to
// that itself.
func examineWire(fs *findings, address string, secured bool) {
	host, err := netip.ParseAddrPort(address)
	switch {
	case secured:
		fs.ok("NATS TLS", "the connection is encrypted")
	case err == nil && !host.Addr().Unmap().IsLoopback():
		fs.warn("NATS TLS", "give the server a certificate, and nats.url the scheme tls://",
			"%s is on another machine, and what goes there is not encrypted", address)
	}
}

// examineVersion holds the server to 2.12, which brought message schedules and
// atomic batches; 2.14 made sync: always cheap in clusters and mended what could
// lose writes.
func examineVersion(fs *findings, version string) {
	major, minor := parseVersion(version)
	switch {
	case major < 2 || major == 2 && minor < 12:
		fs.fail("NATS version", "install nats-server 2.14 or later", "%s cannot hold schedules: 2.12 is needed", version)
	case major == 2 && minor < 14:
		fs.warn("NATS version", "2.14 or later is advised", "%s works", version)
	default:
		fs.ok("NATS version", "%s", version)
	}
}

func parseVersion(version string) (major, minor int) {
	first, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	second, _, _ := strings.Cut(rest, ".")
	major, _ = strconv.Atoi(first)
	minor, _ = strconv.Atoi(second)
	return major, minor
}

const askMonitor = "is that the server's monitoring address?"

// examineSync says whether an acknowledged message is on the disk. Only the
// monitoring page tells; clients cannot ask. There may be none.
func examineSync(fs *findings, c Config, page *varz, err error) {
	const check, advice = "NATS fsync", "set jetstream { sync_interval: always }, as deploy/nats does: by default a power cut takes the last two minutes"
	if c.NATS.Embedded && c.NATS.ConfigFile == "" {
		if c.NATS.Sync == syncAlways {
			fs.ok(check, "always, before a message is acknowledged")
		} else {
			fs.warn(check, "set nats.sync: always", "every %s: a power cut takes what came since", c.NATS.Sync)
		}
		return
	}
	switch {
	case err != nil:
		fs.warn(check, askMonitor, "%v", err)
	case page == nil:
		fs.warn(check, advice+". relay doctor --monitor=URL looks it up", "not known: clients cannot ask for it")
	case page.JetStream.Config.SyncAlways:
		fs.ok(check, "always, before a message is acknowledged")
	default:
		fs.warn(check, advice, "every %s", formatDuration(page.JetStream.Config.SyncInterval))
	}
}

const (
	mostStorage = 95 // percent
	muchStorage = 80
)

// examineStorage says how much of what JetStream may keep is taken: at the limit
// it takes no webhooks. Without a monitoring page there is nothing to say.
func examineStorage(fs *findings, page *varz, err error) {
	const check, advice = "NATS storage", "JetStream takes nothing beyond it: raise jetstream { max_file_store }, or see what piles up (nats stream report)"
	if err != nil {
		fs.warn(check, askMonitor, "%v", err)
		return
	}
	if page == nil || page.JetStream.Config.MaxStorage <= 0 { // none, or JetStream is off: that is said elsewhere
		return
	}
	used, most := page.JetStream.Stats.Storage, page.JetStream.Config.MaxStorage
	percent := 100 * float64(used) / float64(most)
	switch found := fmt.Sprintf("%s of %s used (%.0f %%)", size(used), size(most), percent); {
	case percent >= mostStorage:
		fs.fail(check, advice, "%s", found)
	case percent >= muchStorage:
		fs.warn(check, advice, "%s", found)
	default:
		fs.ok(check, "%s", found)
	}
}

// varz is what the doctor reads of a NATS server's monitoring page.
type varz struct {
	JetStream struct {
		Config struct {
			SyncAlways   bool          `json:"sync_always"`
			SyncInterval time.Duration `json:"sync_interval"`
			MaxStorage   int64         `json:"max_storage"` // bytes
		} `json:"config"`
		Stats struct {
			Storage int64 `json:"storage"` // bytes
		} `json:"stats"`
	} `json:"jetstream"`
}

func readVarz(ctx context.Context, monitor string) (*varz, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("no answer within %s", askTimeout))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(monitor, "/")+"/varz", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("monitoring address: %w", err)
	}
	defer resp.Body.Close()
	page := new(varz)
	if err := json.NewDecoder(resp.Body).Decode(page); err != nil {
		return nil, fmt.Errorf("monitoring address: %w", err)
	}
	return page, nil
}

// examineStreams compares them with what relay init would make, and the server's
// clock with this machine's.
func examineStreams(ctx context.Context, fs *findings, c Config, conn *nats.Conn) {
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("no answer within %s", askTimeout))
	defer cancel()
	js, err := jetstream.New(conn)
	if err != nil {
		fs.fail("JetStream", "", "%v", err)
		return
	}
	changes, err := consumer.Compare(ctx, js, c.streamOptions())
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount),
		errors.Is(err, nats.ErrNoResponders):
		fs.fail("JetStream", "turn it on in the server's configuration: jetstream { store_dir: … }", "is off")
		return
	case err != nil:
		fs.fail("JetStream", "may relay's user ask for its streams? deploy/nats shows the rights", "%v", refused(conn, err))
		return
	}
	fs.ok("JetStream", "is on")
	for _, change := range changes {
		switch change.Done {
		case "unchanged":
			fs.ok(change.Name, "is as relay wants it")
		default:
			fs.fail(change.Name, "run relay init", "%s", strings.TrimSuffix("is "+change.Done+": "+strings.Join(change.Differs, "; "), ": "))
		}
	}
	asked := time.Now()
	if stream, err := js.Stream(ctx, consumer.StreamQueue); err == nil {
		examineClock(fs, "clock of NATS", stream.CachedInfo().TimeStamp, asked)
		examineWindow(fs, c, stream.CachedInfo().Config.Duplicates)
	}
}

// examineWindow says what tenants that share a stream share with it: a producer that
// guesses the Nats-Msg-Id of another's next event, and publishes first, suppresses
// that event.
func examineWindow(fs *findings, c Config, window time.Duration) {
	if !c.knowsTenants() {
		return
	}
	const check = "NATS duplicate window"
	found := formatDuration(window) + ", which all tenants of this stream share: a Nats-Msg-Id that one has used is refused to the others"
	if window <= leastWindow {
		fs.ok(check, "%s", found)
		return
	}
	fs.warn(check, "let message ids be hard to guess; or set nats.duplicate_window: 100ms and use idempotency_key, which is each tenant's own; "+
		"or give a tenant a partition of its own (deploy/nats)", "%s", found)
}

// knowsTenants reports whether the configuration speaks of tenants.
func (c Config) knowsTenants() bool {
	for _, e := range c.Endpoints {
		if e.Tenant != "" {
			return true
		}
	}
	t := c.Tenants
	return c.Consumer.RequireTenant || len(t.Named) > 0 || t.Rate > 0 || t.Burst > 0 || t.Share > 0
}

const (
	someSkew = 2 * time.Second
	muchSkew = time.Minute // receivers refuse what is five minutes off
)

// examineClock compares a server's clock with this machine's at the middle of the
// question.
func examineClock(fs *findings, check string, theirs, asked time.Time) {
	ours := asked.Add(time.Since(asked) / 2)
	skew := theirs.Sub(ours).Round(time.Millisecond)
	const advice = "synchronise the clocks: signatures carry the time, and receivers refuse what is five minutes off"
	switch {
	case skew.Abs() > muchSkew:
		fs.fail(check, advice, "differs by %s", skew)
	case skew.Abs() > someSkew:
		fs.warn(check, advice, "differs by %s", skew)
	default:
		fs.ok(check, "differs by %s", skew)
	}
}
