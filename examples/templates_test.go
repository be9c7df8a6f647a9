package examples_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/template"
)

// What the three chats document as the body of a request; a field that is not
// here would be refused, or ignored.
type (
	slackText struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	slackBody struct {
		Text   string `json:"text"`
		Blocks []struct {
			Type     string      `json:"type"`
			Text     *slackText  `json:"text"`
			Elements []slackText `json:"elements"`
		} `json:"blocks"`
	}
	discordBody struct {
		Embeds []struct {
			Title       string    `json:"title"`
			Description string    `json:"description"`
			Timestamp   time.Time `json:"timestamp"`
			Color       int       `json:"color"`
			Footer      struct {
				Text string `json:"text"`
			} `json:"footer"`
		} `json:"embeds"`
		AllowedMentions struct {
			Parse []string `json:"parse"`
		} `json:"allowed_mentions"`
	}
	teamsBody struct {
		Type        string `json:"type"`
		Attachments []struct {
			ContentType string  `json:"contentType"`
			ContentURL  *string `json:"contentUrl"`
			Content     struct {
				Schema  string           `json:"$schema"`
				Type    string           `json:"type"`
				Version string           `json:"version"`
				Body    []map[string]any `json:"body"`
			} `json:"content"`
		} `json:"attachments"`
	}
)

func TestTemplatesMakeWhatTheChatsTake(t *testing.T) {
	long := strings.Repeat("<@everyone> & ```😀", 3000)
	text, err := json.Marshal(map[string]any{"title": "Paid <b>", "note": long})
	if err != nil {
		t.Fatal(err)
	}
	for name, payload := range map[string]string{
		"small": `{"title":"Order 17","amount":9007199254740993}`, "large and hostile": string(text), "no title": `{}`, "none": ``,
	} {
		t.Run(name, func(t *testing.T) {
			requireSlack(t, shapedBy(t, "slack", payload))
			requireDiscord(t, shapedBy(t, "discord", payload))
			requireTeams(t, shapedBy(t, "teams", payload))
		})
	}
}

// shapedBy shapes an event with one of the ready-made templates.
func shapedBy(t *testing.T, name, payload string) relay.Webhook {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("templates", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var s template.Source
	if err := yaml.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	shaper, err := template.Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	w, err := shaper.Shape(relay.Webhook{
		Key: relay.NewKey(time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC), 1), ID: "evt_1",
		URL: "https://chat.example/hook", Body: []byte(payload),
	})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return w
}

// strictly reads JSON that may hold nothing but what a type has.
func strictly(t *testing.T, w relay.Webhook, v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(w.Body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil || w.ContentType != "application/json" {
		t.Errorf("%s: %v: %s", w.ContentType, err, w.Body)
	}
}

func requireText(t *testing.T, what, text string, most int) {
	t.Helper()
	if n := utf8.RuneCountInString(text); n == 0 || n > most {
		t.Errorf("%s has %d characters, want 1 to %d", what, n, most)
	}
}

func requireSlack(t *testing.T, w relay.Webhook) {
	t.Helper()
	var b slackBody
	strictly(t, w, &b)
	if len(b.Blocks) != 3 || b.Blocks[0].Type != "header" || b.Blocks[1].Type != "section" || b.Blocks[2].Type != "context" {
		t.Fatalf("Slack gets %s", w.Body)
	}
	requireText(t, "Slack's text", b.Text, 40_000)
	requireText(t, "Slack's header", b.Blocks[0].Text.Text, 150)
	requireText(t, "Slack's section", b.Blocks[1].Text.Text, 3000)
	if b.Blocks[0].Text.Type != "plain_text" || b.Blocks[1].Text.Type != "mrkdwn" || b.Blocks[2].Elements[0].Type != "mrkdwn" {
		t.Errorf("Slack gets %s", w.Body)
	}
	if strings.ContainsAny(b.Blocks[1].Text.Text, "<>") {
		t.Errorf("Slack would read this as more than text: %.200s", b.Blocks[1].Text.Text)
	}
}

func requireDiscord(t *testing.T, w relay.Webhook) {
	t.Helper()
	var b discordBody
	strictly(t, w, &b)
	if len(b.Embeds) != 1 || b.AllowedMentions.Parse == nil || len(b.AllowedMentions.Parse) != 0 || b.Embeds[0].Timestamp.Year() != 2026 {
		t.Fatalf("Discord gets %s", w.Body)
	}
	requireText(t, "Discord's title", b.Embeds[0].Title, 256)
	requireText(t, "Discord's description", b.Embeds[0].Description, 4096)
	if w.URL != "https://chat.example/hook?wait=true" {
		t.Errorf("Discord is asked at %s", w.URL)
	}
}

func requireTeams(t *testing.T, w relay.Webhook) {
	t.Helper()
	var b teamsBody
	strictly(t, w, &b)
	if b.Type != "message" || len(b.Attachments) != 1 || b.Attachments[0].ContentType != "application/vnd.microsoft.card.adaptive" ||
		b.Attachments[0].ContentURL != nil || b.Attachments[0].Content.Type != "AdaptiveCard" || len(b.Attachments[0].Content.Body) != 3 {
		t.Fatalf("Teams gets %s", w.Body)
	}
	if len(w.Body) > 28<<10 {
		t.Errorf("Teams gets %d bytes", len(w.Body))
	}
}
