package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"

	"github.com/relaywebhooks/relay"
)

// doctorCommand is relay doctor.
type doctorCommand struct {
	JSON    bool   `name:"json" help:"Show the findings as JSON."`
	Monitor string `placeholder:"URL" help:"The NATS server's monitoring address, such as http://127.0.0.1:8222: it tells whether messages are synced to the disk, and how full JetStream is."`
}

// level is how bad a finding is.
type level string

const (
	levelOK   level = "ok"
	levelWarn level = "warn" // relay works, but something is worth knowing
	levelFail level = "fail" // relay does not work, or loses what it promises to keep
)

// finding is what the doctor says about one thing.
type finding struct {
	Level  level  `json:"level"`
	Check  string `json:"check"`
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

// findings is the doctor's report, as it is written.
type findings []finding

func (fs *findings) ok(check, found string, a ...any) {
	*fs = append(*fs, finding{Level: levelOK, Check: check, Found: fmt.Sprintf(found, a...)})
}

func (fs *findings) warn(check, advice, found string, a ...any) {
	*fs = append(*fs, finding{Level: levelWarn, Check: check, Found: fmt.Sprintf(found, a...), Advice: advice})
}

func (fs *findings) fail(check, advice, found string, a ...any) {
	*fs = append(*fs, finding{Level: levelFail, Check: check, Found: fmt.Sprintf(found, a...), Advice: advice})
}

// Run examines everything that relay needs, and fails if any of it is not there.
func (c *doctorCommand) Run(ctx context.Context, p *program) error {
	l, err := p.load()
	if err != nil {
		return err
	}
	var fs findings
	fs.ok("configuration", "no faults")
	l = l.withDevDatabase()
	if l.NATS.URL == "" && !l.NATS.Embedded {
		l.NATS.Embedded = true
		fs.warn("nats.url", "set nats.url, or nats.embedded, for relay run", "is not set: looking for a relay dev on this machine")
	}
	examineNATS(ctx, &fs, l.Config, c.Monitor)
	examinePostgres(ctx, &fs, l)
	if l.NATS.Embedded {
		examineDisk(&fs, "disk for NATS", l.NATS.Data, "a full disk turns JetStream off")
	}
	examineDevDisk(&fs, l.Config)
	examineDelivery(&fs, l.Config)
	return fs.report(p, c.JSON)
}

// report shows the findings.
func (fs *findings) report(p *program, asJSON bool) error {
	count := map[level]int{}
	for _, f := range *fs {
		count[f.Level]++
	}
	if asJSON {
		e := json.NewEncoder(p.stdout)
		e.SetIndent("", "  ")
		if err := e.Encode(*fs); err != nil {
			return err
		}
	} else {
		for _, f := range *fs {
			fmt.Fprintf(p.stdout, "%-4s  %-27s  %s\n", f.Level, f.Check, f.Found)
			if f.Advice != "" {
				fmt.Fprintf(p.stdout, "%35s%s\n", "→ ", f.Advice)
			}
		}
		fmt.Fprintf(p.stdout, "\n%d ok, %d warn, %d fail\n", count[levelOK], count[levelWarn], count[levelFail])
	}
	if count[levelFail] > 0 {
		return errShown
	}
	return nil
}

// examineDelivery looks at what receivers will see.
func examineDelivery(fs *findings, c Config) {
	unsigned := 0
	for _, e := range c.Endpoints {
		if len(e.Secrets) == 0 {
			unsigned++
		}
	}
	switch {
	case len(c.Signing.Secrets) > 0 && c.knowsTenants():
		fs.warn("signing", "register tenants' endpoints with secrets of their own and leave signing.secrets empty: who publishes to the URL of another tenant's receiver is else believed there",
			"every request is signed, with secrets that all tenants share")
	case len(c.Signing.Secrets) > 0:
		fs.ok("signing", "every request is signed")
	case unsigned == 0 && len(c.Endpoints) > 0:
		fs.warn("signing", "set signing.secrets if events are published with URLs too", "registered endpoints only")
	default:
		fs.warn("signing", "set signing.secrets: whsec_ and 24 to 64 random bytes in base64", "requests are not signed: receivers cannot tell relay from others")
	}
	for _, wide := range c.Delivery.Allow {
		for _, inner := range []string{"127.0.0.1", "10.0.0.0", "::1"} {
			if wide.Contains(netip.MustParseAddr(inner)) && wide.Bits() < 8 {
				fs.warn("delivery.allow", "allow only the networks in which receivers are", "%s opens almost everything inside", wide)
				return
			}
		}
	}
	if c.Delivery.ProxyResolves {
		fs.warn("delivery.proxy_resolves", "see that the proxy refuses private and metadata addresses: relay cannot", "the proxy looks names up")
	}
	fs.ok("delivery.allow", "%d private networks may be called", len(c.Delivery.Allow))
}

const (
	littleDisk = 1 << 30       // bytes
	soonFull   = 5 * (1 << 30) // bytes
)

// examineDisk looks at the file system that holds a directory, or will hold it,
// and says what comes of a full one: JetStream is off until its server is
// restarted, and Postgres ends.
func examineDisk(fs *findings, check, dir, full string) {
	var stat syscall.Statfs_t
	at, err := filepath.Abs(dir)
	if err != nil {
		fs.fail(check, "", "%v", err)
		return
	}
	for err = syscall.Statfs(at, &stat); os.IsNotExist(err) && at != filepath.Dir(at); err = syscall.Statfs(at, &stat) {
		at = filepath.Dir(at)
	}
	if err != nil {
		fs.fail(check, "", "%s: %v", at, err)
		return
	}
	free := int64(stat.Bavail) * int64(stat.Bsize) //nolint:gosec,unconvert // the types differ between systems
	switch found := fmt.Sprintf("%s free at %s", size(free), at); {
	case free < littleDisk:
		fs.fail(check, full+": make room", "%s", found)
	case free < soonFull:
		fs.warn(check, full+": watch it", "%s", found)
	default:
		fs.ok(check, "%s", found)
	}
}

func size(bytes int64) string {
	if bytes >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
	}
	return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
}

// wantPayload is what a NATS server must take, so that relay's copies of the
// largest message fit.
const wantPayload = relay.MaxBody + 64<<10
