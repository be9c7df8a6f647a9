package signature_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/delivery"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
)

// byPath answers with the status code that the path ends with.
func byPath(header http.Header) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		code, _ := strconv.Atoi(q.URL.Path[strings.LastIndexByte(q.URL.Path, '/')+1:])
		maps.Copy(w.Header(), header)
		if code >= 200 {
			w.WriteHeader(code)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack() // net/http would let a 200 follow
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nConnection: close\r\n\r\n", code, http.StatusText(code))
	}
}

func successCodes(t *testing.T) {
	r := relaytest.Start(t)
	r.Receiver.Always(byPath(nil))
	ids := map[int]string{}
	for _, code := range []int{200, 201, 202, 204, 299, 100, 101, 199, 300, 304, 400, 404, 500, 599} {
		ids[code] = r.Publish(map[string]any{"url": fmt.Sprintf("%s/%d", r.Receiver.URL, code), "max_attempts": 1, "payload": 1})
	}
	for code, id := range ids {
		if code >= 200 && code < 300 {
			r.RequireDelivered(id)
		} else {
			r.RequireDead(id)
		}
		if as := r.Attempts(id); len(as) != 1 || as[0].Success != (code >= 200 && code < 300) {
			t.Errorf("%d: the attempts are %+v", code, as)
		}
	}
}

func redirects(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var dialled atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			dialled.Add(1)
			c.Close()
		}
	}()
	r := relaytest.Start(t)
	r.Receiver.Always(byPath(http.Header{"Location": {"http://" + l.Addr().String() + "/elsewhere"}}))
	var ids []string
	codes := []int{301, 302, 303, 307, 308}
	for _, code := range codes {
		ids = append(ids, r.Publish(map[string]any{"url": fmt.Sprintf("%s/%d", r.Receiver.URL, code), "max_attempts": 2, "payload": 1}))
	}
	for i, id := range ids {
		r.RequireDead(id)
		if as := r.Attempts(id); len(as) != 2 || as[0].Status != codes[i] {
			t.Errorf("%d: the attempts are %+v", codes[i], as)
		}
	}
	l.Close()
	<-ended
	if n := dialled.Load(); n != 0 || len(r.Receiver.Requests()) != 2*len(codes) {
		t.Errorf("the other host was dialled %d times; %d requests to the endpoint", n, len(r.Receiver.Requests()))
	}
}

func gone(t *testing.T) {
	r := relaytest.Start(t)
	r.Receiver.Always(relaytest.Status(http.StatusGone))
	w := r.RequireDead(r.Publish(map[string]any{"url": r.Receiver.URL, "payload": 1}))
	if !strings.HasPrefix(w.Reason, "410 Gone") || w.Attempts != 1 {
		t.Errorf("recorded %+v", w)
	}
	if letter := r.Letter(w); letter.Header.Get("Relay-Meta-Reason") != w.Reason {
		t.Errorf("the letter says %v", letter.Header)
	}
	shop := r.Register(map[string]any{"name": "shop", "url": r.Receiver.URL + "/shop"}).State
	held := []string{r.Publish(map[string]any{"endpoint": "shop", "payload": 2})}
	r.Eventually(func() bool { ws := r.Webhooks(held[0]); return len(ws) == 1 && ws[0].Place == "lane" })
	held = append(held, r.Publish(map[string]any{"url": r.Receiver.URL + "/shop", "payload": 3}))
	for i, id := range held {
		if !r.Eventually(func() bool { ws := r.Webhooks(id); return len(ws) == 1 && ws[0].Place == "lane" }) {
			t.Fatalf("%s is not held: %+v", id, r.Webhooks(id))
		}
		if w := r.Webhooks(id)[0]; w.Status != "pending" || w.Reason != "held: disabled: 410 Gone" || w.Attempts != 1-i {
			t.Errorf("recorded %+v", w)
		}
	}
	r.Receiver.Always(relaytest.Status(http.StatusNoContent))
	if err := r.Store.Set(t.Context(), endpoint.Change{What: endpoint.Enabled, Key: shop.Key}); err != nil {
		t.Fatal(err)
	}
	for _, id := range held {
		r.RequireDelivered(id)
	}
	if n := len(r.Receiver.Requests()); n != 4 {
		t.Errorf("%d requests, want two that were answered 410 and two deliveries", n)
	}
}

func rests(t *testing.T) {
	r := relaytest.Start(t)
	r.Receiver.Always(byPath(http.Header{"Retry-After": {"60"}}))
	for _, code := range []int{429, 502, 504} {
		busy := fmt.Sprintf("%s/%d", r.Receiver.URL, code)
		first := r.Publish(map[string]any{"url": busy, "payload": 1})
		r.Eventually(func() bool { as := r.Attempts(first); return len(as) == 1 && as[0].Status == code })
		second := r.Publish(map[string]any{"url": busy, "payload": 2})
		r.RequireDelivered(r.Publish(map[string]any{"url": fmt.Sprintf("%s/%d/200", r.Receiver.URL, code), "payload": 3}))
		if as := r.Attempts(second); len(as) != 0 {
			t.Errorf("%d: the second webhook did not wait: %+v", code, as)
		}
	}
	if n := len(r.Receiver.Requests()); n != 6 {
		t.Errorf("%d requests came, want 6", n)
	}
}

// askedToWait answers a webhook 500 with Retry-After once, and returns both
// requests.
func askedToWait(t *testing.T, r *relaytest.Relay, value string) (first, second relaytest.Request) {
	t.Helper()
	var asked atomic.Bool
	r.Receiver.Always(func(w http.ResponseWriter, _ *http.Request) {
		if !asked.Swap(true) {
			w.Header().Set("Retry-After", value)
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	id := r.Publish(map[string]any{"url": r.Receiver.URL + "/" + rand.Text(), "payload": 1})
	first, second = r.Next(), r.Next()
	r.RequireDelivered(id)
	return first, second
}

func retryAfterSeconds(t *testing.T) {
	if first, second := askedToWait(t, relaytest.Start(t), "1"); second.At.Sub(first.At) < time.Second {
		t.Errorf("the second request came after %v", second.At.Sub(first.At))
	}
}

func retryAfterDate(t *testing.T) {
	r := relaytest.Start(t)
	date := time.Now().Truncate(time.Second).Add(3 * time.Second)
	if first, second := askedToWait(t, r, date.UTC().Format(http.TimeFormat)); second.At.Before(date) {
		t.Errorf("requests at %v and %v; asked to wait until %v", first.At, second.At, date)
	}
}

func retryAfterAbsurd(t *testing.T) {
	r := relaytest.Start(t, relaytest.Options{Policy: policy.Options{MaxRetryAfter: 100 * time.Millisecond}})
	for _, value := range []string{"99999999999999999999999", "31536000", "Fri, 31 Dec 9999 23:59:59 GMT", "-5", "soon"} {
		askedToWait(t, r, value) // which does not end in time if it is heeded
	}
}

func deadline(t *testing.T) {
	r := relaytest.Start(t, relaytest.Options{Delivery: delivery.Options{Timeout: 300 * time.Millisecond}})
	r.Receiver.Always(func(w http.ResponseWriter, q *http.Request) {
		_, _ = w.Write([]byte("begun"))
		_ = http.NewResponseController(w).Flush()
		<-q.Context().Done() // and never ended
	})
	id := r.Publish(map[string]any{"url": r.Receiver.URL, "payload": 1, "max_attempts": 1})
	r.RequireDead(id)
	if as := r.Attempts(id); len(as) != 1 || as[0].Class != "timeout" {
		t.Errorf("the attempts are %+v", as)
	}
	settings, err := os.ReadFile("../relay.example.yaml") // which a test holds to the defaults
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^delivery:\n(?:  .*\n)*?  timeout: (\w+)$`).FindSubmatch(settings)
	if found == nil {
		t.Fatal("relay.example.yaml says nothing of delivery.timeout")
	}
	if d, err := time.ParseDuration(string(found[1])); err != nil || d < 15*time.Second || d > 30*time.Second {
		t.Errorf("delivery.timeout is %v by default, %v", d, err)
	}
}

func exactBytes(t *testing.T) {
	r := relaytest.Start(t)
	bodies := [][]byte{
		{},
		[]byte("order,total\n17,12.50\n"), []byte("{ \"a\" :\t1.0e2 }\r\n"),
		{0, 0xff, 0xfe, '\r', '\n', '.'},
		bytes.Repeat([]byte{0xc3, 0x28, 0}, (relay.MaxBody-1024)/3), []byte("no \"JSON\" {{at all}}"),
	}
	for i, body := range bodies {
		m := &nats.Msg{Subject: consumer.SubjectOutbound, Data: body, Header: nats.Header{
			"Relay-Url": {r.Receiver.URL}, "Relay-Id": {fmt.Sprintf("body_%d", i)}, "Relay-Content-Type": {"application/octet-stream"},
		}}
		r.PublishMsg(m)
		if q := r.Next(); !bytes.Equal(q.Body, body) || q.Header.Get("webhook-signature") != again(t, q, secret1) {
			t.Errorf("body %d: %d bytes came of %d, signed %q", i, len(q.Body), len(body), q.Header.Get("webhook-signature"))
		}
	}
	r.PublishMsg(&nats.Msg{Subject: consumer.SubjectOutbound, Data: fmt.Appendf(nil, `{"url": %q, "payload": {"b" : 1.50, "a":"\u00e9<"} }`, r.Receiver.URL)})
	if q := r.Next(); string(q.Body) != `{"b" : 1.50, "a":"\u00e9<"}` {
		t.Errorf("an envelope's payload came as %s", q.Body)
	}
}

func contentType(t *testing.T) {
	r := relaytest.Start(t)
	for _, want := range []string{"application/json", "text/csv; charset=utf-8"} {
		event := map[string]any{"url": r.Receiver.URL, "payload": 1}
		if want != "application/json" {
			event["content_type"] = want
		}
		r.Publish(event)
		if got := r.Next().Header.Values("Content-Type"); !slices.Equal(got, []string{want}) {
			t.Errorf("content-type %q, want %q", got, want)
		}
	}
}

// Five attempts within a quarter of an hour are relay's default; the
// specification's example is ten within three days.
func threeDays(t *testing.T) {
	schedule := policy.StandardSchedule()
	set := policy.New(policy.Options{Schedule: schedule})
	fail := func(context.Context) relay.Attempt { return relay.Attempt{Kind: relay.Response, Status: 500} }
	w := relay.Webhook{ID: "msg_1", ExpiresAt: time.Now().Add(relay.MaxExpiry)}
	after := func(who string, made int) relay.Verdict {
		ep := relay.Endpoint{Key: fmt.Sprint(who, made)} // each with a circuit of its own
		_, v := set.Do(t.Context(), ep, w, relay.Claim{Made: made}, fail)
		return v
	}
	var shortest time.Duration
	varied := false
	for made, planned := range schedule {
		least, first := planned, time.Duration(-1)
		for i := range 200 {
			v := after(fmt.Sprint(i, "/"), made)
			if v.Action != relay.Retry || v.After < planned*9/10 || v.After > planned*11/10 {
				t.Fatalf("attempt %d: %+v, planned were %v", made+1, v, planned)
			}
			if first < 0 {
				first = v.After
			}
			least, varied = min(least, v.After), varied || v.After != first
		}
		shortest += least
	}
	if shortest < 72*time.Hour || !varied {
		t.Errorf("retries end after %v; jitter %v", shortest, varied)
	}
	if v := after("last", len(schedule)); v.Action != relay.Failed {
		t.Errorf("attempt %d: %+v", len(schedule)+1, v)
	}
}
