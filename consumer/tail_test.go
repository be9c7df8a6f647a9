package consumer_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relaywebhooks/relay/embedded"
	"github.com/relaywebhooks/relay/relaytest"
)

// One event sleeps in the queue for long. Those that are delivered behind it,
// one by one, do not leave a file each behind.
func TestAQueueInWhichSomethingSleepsTakesFewFiles(t *testing.T) {
	dir := t.TempDir()
	server, err := embedded.StartNATS(embedded.NATSOptions{Dir: dir, Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	r := relaytest.Start(t, relaytest.Options{NATS: server})
	sick := relaytest.NewReceiver(t)
	sick.Always(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "600")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	r.RequireStatus(r.Publish(map[string]any{"url": sick.URL}), "pending")
	const large, small = 12, 60
	for i := range large { // more than one file has room for
		r.RequireDelivered(r.Publish(map[string]any{
			"url": r.Receiver.URL, "id": fmt.Sprint("large_", i), "payload": strings.Repeat("x", 800<<10),
		}))
	}
	for i := range small {
		r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("small_", i)}))
	}
	files, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "WEBHOOKS", "msgs", "*.blk"))
	if err != nil || len(files) == 0 || len(files) > small/4 {
		t.Errorf("the queue has %d files after %d events: %v", len(files), small, err)
	}
}
