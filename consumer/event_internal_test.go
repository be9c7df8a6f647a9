package consumer

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever happened, it is told as encoding/json would.
func TestEventsAreWrittenAsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, number := rapid.String(), rapid.IntRange(-1, 1<<31)
		e := event{
			Event: text.Draw(t, "event"), At: time.Unix(0, rapid.Int64().Draw(t, "at")).UTC(), Key: text.Draw(t, "key"),
			WebhookID: text.Draw(t, "webhook id"), Tenant: text.Draw(t, "tenant"), EventType: text.Draw(t, "event type"),
			Endpoint: text.Draw(t, "endpoint"), Name: text.Draw(t, "name"), URL: text.Draw(t, "url"),
			Generation: number.Draw(t, "generation"), Attempt: number.Draw(t, "attempt"), Status: number.Draw(t, "status"),
			Class: text.Draw(t, "class"), TookMS: float64(rapid.Int64().Draw(t, "took")) / float64(time.Millisecond),
			Reason: text.Draw(t, "reason"), Place: text.Draw(t, "place"),
			AfterMS: rapid.Int64Range(0, time.Duration(1<<63-1).Milliseconds()).Draw(t, "after"),
		}
		want, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.appendJSON(nil); !bytes.Equal(got, want) {
			t.Fatalf("%s\nwant %s", got, want)
		}
	})
}

func BenchmarkEvent(b *testing.B) {
	e := event{
		Event: "delivered", At: time.Now().UTC(), Key: "1767323045000000-12", WebhookID: "evt_1767323045000000-12",
		Endpoint: "3nf8x5c1r7", URL: "https://example.com/hooks", Place: "gone",
	}
	var text []byte
	b.ReportAllocs()
	for b.Loop() {
		text = e.appendJSON(text[:0])
	}
}
