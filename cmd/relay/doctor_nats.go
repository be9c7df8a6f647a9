package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
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
	examineVersion(fs, conn.ConnectedServerVersion())
	if conn.MaxPayload() < wantPayload {
		fs.fail("NATS max_payload", fmt.Sprintf("set max_payload: %d in the server's configuration", wantPayload),
			"%d bytes: a message at the size limit could not be parked or dead-lettered", conn.MaxPayload())
	} else {
		fs.ok("NATS max_payload", "%d bytes", conn.MaxPayload())
	}
	examineSync(ctx, fs, c, monitor)
	examineStreams(ctx, fs, c, conn)
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

// examineSync asks whether an acknowledged message is on the disk. Only the
// monitoring address tells; clients cannot ask.
func examineSync(ctx context.Context, fs *findings, c Config, monitor string) {
	const check, advice = "NATS fsync", "set jetstream { sync_interval: always }, as deploy/nats does: by default a power cut takes the last two minutes"
	if c.NATS.Embedded && c.NATS.ConfigFile == "" {
		if c.NATS.Sync == syncAlways {
			fs.ok(check, "always, before a message is acknowledged")
		} else {
			fs.warn(check, "set nats.sync: always", "every %s: a power cut takes what came since", c.NATS.Sync)
		}
		return
	}
	if monitor == "" {
		fs.warn(check, advice+". relay doctor --monitor=URL looks it up", "not known: clients cannot ask for it")
		return
	}
	always, every, err := syncOf(ctx, monitor)
	switch {
	case err != nil:
		fs.warn(check, "is that the server's monitoring address?", "%v", err)
	case always:
		fs.ok(check, "always, before a message is acknowledged")
	default:
		fs.warn(check, advice, "every %s", formatDuration(every))
	}
}

// syncOf reads sync_interval from the server's monitoring page.
func syncOf(ctx context.Context, monitor string) (always bool, every time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("no answer within %s", askTimeout))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(monitor, "/")+"/varz", nil)
	if err != nil {
		return false, 0, err
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return false, 0, fmt.Errorf("monitoring address: %w", err)
	}
	defer resp.Body.Close()
	var varz struct {
		JetStream struct {
			Config struct {
				SyncAlways   bool          `json:"sync_always"`
				SyncInterval time.Duration `json:"sync_interval"`
			} `json:"config"`
		} `json:"jetstream"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&varz); err != nil {
		return false, 0, fmt.Errorf("monitoring address: %w", err)
	}
	return varz.JetStream.Config.SyncAlways, varz.JetStream.Config.SyncInterval, nil
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
			fs.fail(change.Name, "run relay init", "is %s", change.Done)
		}
	}
	asked := time.Now()
	if stream, err := js.Stream(ctx, consumer.StreamQueue); err == nil {
		examineClock(fs, "clock of NATS", stream.CachedInfo().TimeStamp, asked)
	}
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
