package relay_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/relaywebhooks/relay"
)

// S3: whatever prints a secret, alone or within something else, prints no secret.
func TestSecretsPrintAsHidden(t *testing.T) {
	const secret = "zqsecret"
	holder := struct {
		Secret relay.Secret
		List   []relay.Secret
		Map    map[string]relay.Secret
		TLS    *relay.TLS
	}{secret, []relay.Secret{secret}, map[string]relay.Secret{"a": secret}, &relay.TLS{Key: secret}}
	var printed strings.Builder
	for verb := range strings.FieldsSeq("%v %+v %#v %s %q %x %X %d %b %c %U %t %8.3v") {
		for _, value := range []any{relay.Secret(secret), new(relay.Secret(secret)), holder, holder.List, holder.Map, *holder.TLS} {
			fmt.Fprintf(&printed, verb+"\n", value)
		}
	}
	text, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	printed.Write(text)
	for _, h := range []slog.Handler{slog.NewTextHandler(&printed, nil), slog.NewJSONHandler(&printed, nil)} {
		slog.New(h).Info("m", "secret", relay.Secret(secret), "holder", holder)
	}
	fmt.Fprintln(&printed, fmt.Errorf("refused %s: %v", relay.Secret(secret), holder.List))
	all := strings.ToLower(printed.String())
	for _, form := range []string{secret, fmt.Sprintf("%x", secret), "122 113 115", "0x7a"} {
		if i := strings.Index(all, form); i >= 0 {
			t.Errorf("…%s…", all[max(0, i-40):min(len(all), i+40)])
		}
	}
	if !strings.Contains(all, "[hidden]") {
		t.Error("nothing was printed")
	}
}
