package consumer

import (
	"testing"

	"github.com/nats-io/nats.go"
)

// BenchmarkDecode reads a webhook of 1 KB in either form.
func BenchmarkDecode(b *testing.B) {
	text := make([]byte, 1024)
	for i := range text {
		text[i] = 'x'
	}
	for name, c := range map[string]struct {
		header nats.Header
		body   string
	}{
		"raw":      {nats.Header{"Relay-Url": {"https://example.com/hooks/orders"}}, string(text)},
		"envelope": {nil, `{"url":"https://example.com/hooks/orders","payload":{"text":"` + string(text) + `"}}`},
	} {
		b.Run(name, func(b *testing.B) {
			m, body := meta{key: testKey, subject: SubjectOutbound}, []byte(c.body)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decode(m, c.header, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
