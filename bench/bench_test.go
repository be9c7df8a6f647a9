package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// courier is a relay that delivers as it is told, and in nothing else like one.
type courier struct {
	conn     *nats.Conn
	requests func(nth int) int // for the nth event, from 0
}

// start delivers until the test ends.
func (c courier) start(t *testing.T) {
	t.Helper()
	js, err := jetstream.New(c.conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := consumer.Setup(t.Context(), js, consumer.StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	queue, err := js.Consumer(t.Context(), consumer.StreamQueue, consumer.DurableQueue)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := queue.Messages()
	if err != nil {
		t.Fatal(err)
	}
	var working sync.WaitGroup
	working.Go(func() {
		for nth := 0; ; nth++ {
			m, err := messages.Next()
			if err != nil {
				return
			}
			for range c.requests(nth) {
				post(m.Headers().Get("Relay-Url"))
			}
			_ = m.Ack()
		}
	})
	t.Cleanup(func() { messages.Stop(); working.Wait() })
}

func post(url string) {
	resp, err := http.Post(url, "application/json", strings.NewReader("{}"))
	if err == nil {
		_ = resp.Body.Close()
	}
}

// connect makes a server without streams, and a connection to it.
func connect(t *testing.T) *nats.Conn {
	t.Helper()
	conn, err := relaytest.StartNATS(t).Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

func TestLossesAndDuplicatesAreCounted(t *testing.T) {
	for name, rate := range map[string]float64{"burst": 0, "rate": 2000} {
		t.Run(name, func(t *testing.T) {
			conn := connect(t)
			const warm, events = 10, 500
			courier{conn, func(nth int) int {
				switch {
				case nth < warm:
					return 1
				case nth%10 == 3: // 50 of 500
					return 0
				case nth%100 == 7: // 5 of 500
					return 3
				}
				return 1
			}}.start(t)
			r, err := Run(t.Context(), Options{
				Conn: conn, Events: events, Rate: rate, WarmUp: warm, Listen: "127.0.0.1:0", Patience: time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			if r.Confirmed != events || r.Lost != 50 || r.Duplicates != 10 {
				t.Errorf("%d confirmed, %d lost, %d duplicates; want 500, 50, 10", r.Confirmed, r.Lost, r.Duplicates)
			}
			healthy := r.Kinds[0]
			if healthy.Received != 450 || healthy.Delivered != 450 || healthy.Latency.Count != 450 || healthy.Requests != 460 {
				t.Errorf("the report on healthy endpoints is %+v", healthy)
			}
			if r.Throughput <= 0 || r.PublishRate <= 0 || healthy.Latency.P50 <= 0 || healthy.Latency.Max < healthy.Latency.P99 {
				t.Errorf("the figures are %+v", r)
			}
		})
	}
}

func TestWhereNothingComesThroughTheErrorSaysWhy(t *testing.T) {
	conn := connect(t)
	courier{conn, func(int) int { return 0 }}.start(t)
	_, err := Run(t.Context(), Options{Conn: conn, Listen: "127.0.0.1:0", Patience: 200 * time.Millisecond})
	if !errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), "--set delivery.allow=127.0.0.1/32 --set delivery.ports=") {
		t.Errorf("the error is %v", err)
	}
}

func TestARelayIsMeasuredAmongSickEndpoints(t *testing.T) {
	r := relaytest.Start(t)
	report, err := Run(t.Context(), Options{
		Conn: r.Conn, Events: 300, Rate: 1000, WarmUp: 10, Endpoints: 10, Listen: "127.0.0.1:0",
		Shares: Shares{Fail: 0.1, Slow: 0.1, Refuse: 0.1, Limit: 0.1}, Slow: 50 * time.Millisecond,
		Queued: 50, QueuedAs: Fail,
	})
	if err != nil {
		t.Fatal(err)
	}
	if report.Lost != 0 || report.Duplicates != 0 || report.Confirmed != 300 {
		t.Errorf("%d of 300 confirmed, %d lost, %d duplicates", report.Confirmed, report.Lost, report.Duplicates)
	}
	want := map[Kind]int{Healthy: 180, Slow: 30, Fail: 30, Refuse: 30, Limit: 30}
	for _, k := range report.Kinds {
		if k.Queued {
			if k.Events != 50 || k.Delivered != 0 || k.Received == 0 {
				t.Errorf("queued first: %+v", k)
			}
			continue
		}
		if k.Events != want[k.Kind] {
			t.Errorf("%d events for %s endpoints, want %d", k.Events, k.Kind, want[k.Kind])
		}
		if k.Kind.awaited() != (k.Delivered == k.Events) {
			t.Errorf("%s: %d of %d delivered", k.Kind, k.Delivered, k.Events)
		}
	}
}

func TestAQueueThatHealsIsWaitedFor(t *testing.T) {
	r := relaytest.Start(t)
	report, err := Run(t.Context(), Options{
		Conn: r.Conn, Events: 50, Rate: 500, WarmUp: 1, Listen: "127.0.0.1:0",
		Queued: 3, QueuedAs: Fail, HealAfter: 10 * time.Millisecond, HealedAs: Slow, Slow: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if queued := report.Kinds[0]; !queued.Queued || queued.Delivered != 3 || report.RecoveryBegan < 0.2 || report.RecoveryEnded < report.RecoveryBegan {
		t.Errorf("queued first: %+v, recovered from %v to %v", queued, report.RecoveryBegan, report.RecoveryEnded)
	}
}

func TestPercentiles(t *testing.T) {
	var hundred []int64
	for i := range 100 {
		hundred = append(hundred, int64(100-i)*int64(time.Millisecond))
	}
	l := percentiles(hundred)
	if l.Count != 100 || l.P50 != 50 || l.P90 != 90 || l.P99 != 99 || l.P999 != 100 || l.Max != 100 || len(l.Curve) != len(CurveAt()) || l.Curve[0] != 1 {
		t.Errorf("of 1 to 100 ms: %+v", l)
	}
	if l := percentiles([]int64{int64(time.Second)}); l.P50 != 1000 || l.Max != 1000 {
		t.Errorf("of one: %+v", l)
	}
	if l := percentiles(nil); l.Count != 0 || l.Max != 0 {
		t.Errorf("of none: %+v", l)
	}
}

func TestKindsAreSpreadEvenly(t *testing.T) {
	counts := map[Kind]int{}
	firstHalf := map[Kind]int{}
	for i, k := range (Shares{Fail: 0.25, Hang: 0.1}).spread(1000) {
		counts[k]++
		if i < 500 {
			firstHalf[k]++
		}
	}
	if counts[Fail] != 250 || counts[Hang] != 100 || counts[Healthy] != 650 {
		t.Errorf("of 1000 endpoints: %v", counts)
	}
	if firstHalf[Fail] != 125 || firstHalf[Hang] != 50 {
		t.Errorf("of the first half: %v", firstHalf)
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	for name, o := range map[string]Options{
		"too many shares":      {Shares: Shares{Fail: 0.6, Hang: 0.6}, Endpoints: 10},
		"a share of no one":    {Shares: Shares{Fail: 0.5}, Endpoints: 1},
		"a negative share":     {Shares: Shares{Fail: -1}, Endpoints: 1},
		"a negative rate":      {Rate: -1},
		"healed to hang":       {HealedAs: Hang},
		"fewer events than 1":  {Events: -1},
		"without a connection": {},
	} {
		t.Run(name, func(t *testing.T) {
			if name != "without a connection" {
				o.Conn = &nats.Conn{}
			}
			if _, err := Run(context.Background(), o); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestThePlotIsXMLAndTheReportIsJSON(t *testing.T) {
	r := Report{
		Options:  Options{Events: 2, HealAfter: time.Second},
		Kinds:    []KindReport{{Kind: Healthy, Latency: percentiles([]int64{1e6, 2e6, 3e9})}, {Kind: Hang}},
		Timeline: []Second{{At: 0, Delivered: 200}, {At: 1, Delivered: 17, Recovered: 3}},
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(text, &back); err != nil || back.Kinds[0].Latency.P50 != 2 || back.Timeline[1].Delivered != 17 {
		t.Errorf("read back: %+v, %v", back, err)
	}
	for what, r := range map[string]Report{"full": r, "empty": {}} {
		svg := xml.NewDecoder(bytes.NewReader(r.SVG()))
		for {
			if _, err := svg.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("the plot of the %s report: %v", what, err)
			}
		}
		if bytes.Contains(r.SVG(), []byte("NaN")) || bytes.Contains(r.SVG(), []byte("Inf")) {
			t.Errorf("the plot of the %s report has numbers that are none:\n%s", what, r.SVG())
		}
	}
}

func TestUsageIsRead(t *testing.T) {
	got, err := parseMetrics(strings.NewReader("# HELP x y\nprocess_cpu_seconds_total 12.5\nprocess_resident_memory_bytes 1.048576e+06\nother 3\n"))
	if err != nil || got.cpu != 12.5 || got.memory != 1<<20 {
		t.Errorf("metrics: %+v, %v", got, err)
	}
	if _, err := parseMetrics(strings.NewReader("other 3\n")); err == nil {
		t.Error("metrics without CPU time: no error")
	}
	stat := "42 (a (b) c) S 7 42 42 0 -1 4194560 1 2 3 4 100 50 25 25 20 0 1 0 5 6 7"
	if pid, parent, seconds, ok := parseStat([]byte(stat)); !ok || pid != 42 || parent != 7 || seconds != 2 {
		t.Errorf("stat: %d, %d, %v, %v", pid, parent, seconds, ok)
	}
	if _, _, _, ok := parseStat([]byte("42 (short) S 1")); ok {
		t.Error("a short stat was believed")
	}
}
