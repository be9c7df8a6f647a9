package nats_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/relaywebhooks/relay/consumer"
)

//go:generate go test . -run ^TestFilesSayWhatTheCodeSays$ -update

var update = flag.Bool("update", false, "write the JSON files from the code")

// files are the JSON files by name: the streams, and the durable consumers with
// the stream that each belongs to.
func files() (streams, consumers map[string]any, of map[string]string) {
	streams, consumers, of = map[string]any{}, map[string]any{}, map[string]string{}
	names := map[string]string{
		consumer.StreamQueue: "webhooks", consumer.StreamLater: "webhooks_later", consumer.StreamDead: "webhooks_dead",
		consumer.StreamPauses: consumer.BucketPauses,
	}
	durables := consumer.ConsumerConfigs(consumer.StreamOptions{})
	for _, s := range consumer.StreamConfigs(consumer.StreamOptions{}) {
		name := names[s.Name]
		streams[name+".json"] = s
		if c, ok := durables[s.Name]; ok {
			file := name + "_consumer.json"
			consumers[file], of[file] = c, s.Name
		}
	}
	return streams, consumers, of
}

// TestFilesSayWhatTheCodeSays: the code is the truth, and make generate writes
// it into the files.
func TestFilesSayWhatTheCodeSays(t *testing.T) {
	streams, consumers, _ := files()
	for _, group := range []map[string]any{streams, consumers} {
		for name, config := range group {
			want := text(t, config)
			if *update {
				if err := os.WriteFile(name, want, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			have, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(have, want) {
				t.Errorf("%s is not what package consumer says: run make generate\n%s", name, want)
			}
		}
	}
}

func text(t *testing.T, config any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(config); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
