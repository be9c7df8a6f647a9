package template_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/template"
)

// What one template may cost at the most: both are far above what any of these
// takes, and far below what an unbounded one would.
const (
	mostTime   = 20 * time.Second
	mostMemory = 512 << 20 // bytes allocated in all, of which most is garbage at once
)

func numbers(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("0,", n), ",") + "]" }

func text(n int) string { return `"` + strings.Repeat("a", n) + `"` }

// Whoever writes a template, or the payload for one, may want to take relay down
// with it.
func TestHostileTemplates(t *testing.T) {
	again := func(begin, step string, n int) string { return begin + strings.Repeat(step, n) }
	const work = "takes more work"
	tests := []struct{ name, body, payload, want string }{ // want: part of the error, or "" where it may end well
		{"comprehensions in one another", `payload.map(a, payload.map(b, payload.map(c, payload.map(d, a + b + c + d))))`, numbers(1000), work},
		{"comprehensions in one another that make nothing", `payload.all(a, payload.all(b, payload.all(c, payload.all(d, d < 1))))`, numbers(1000), work},
		{"comprehensions side by side", again(`[0`, `, payload.map(a, payload.map(b, a)).size()`, 100) + `]`, numbers(1000), work},
		{"a regular expression", `body.matches("(a|aa)+$")`, text(100_000), "undeclared reference to 'matches'"},
		{"a string doubled", again(`["aaaaaaaaaaaaaaaa"]`, `.map(a, a + a)`, 36), ``, work},
		{"bytes doubled", again(`[b"aaaaaaaaaaaaaaaa"]`, `.map(a, a + a)`, 36), ``, work},
		{"a string multiplied by replace", `payload.replace("a", payload)`, text(500_000), "more than 1 MiB of text"},
		{"a string multiplied by replacing nothing", `payload.replace("", payload)`, text(500_000), "more than 1 MiB of text"},
		{"a string multiplied by join", `payload.list.map(i, "").join(payload.text)`, `{"list":` + numbers(20_000) + `,"text":` + text(500_000) + `}`, "more than 1 MiB of text"},
		{"a string split into too many", `payload.split("")`, text(500_000), "more than 100,000 values"},
		{"a string split again and again", `payload.map(i, body.split("0").size())`, numbers(50_000), work},
		{"a list doubled by adding, written", again(`[[1]]`, `.map(a, a + a)`, 36), ``, ""},
		{"a list doubled by adding, walked", again(`[[1]]`, `.map(a, a + a)`, 36) + `[0].map(i, i)`, ``, work},
		{"a list doubled by adding, compared", again(`[[1]]`, `.map(a, a + a)`, 36) + `.map(a, a == a)`, ``, work},
		{"a list doubled by adding, searched", again(`[[1]]`, `.map(a, a + a)`, 36) + `.map(a, 2 in a)`, ``, work},
		{"a list doubled by nesting, written", again(`[[1]]`, `.map(a, [a, a])`, 36), ``, "more than 1 MiB of text"},
		{"a list doubled by nesting, as text", `toJson(` + again(`[[1]]`, `.map(a, [a, a])`, 36) + `)`, ``, "more than 1 MiB of text"},
		{"a list doubled by nesting, compared", again(`[[1]]`, `.map(a, [a, a])`, 36) + `.map(a, a == a)`, ``, work},
		{"a list doubled by nesting, not equal", again(`[[1]]`, `.map(a, [a, a])`, 36) + `.map(a, a != a)`, ``, work},
		{"a list doubled by nesting, searched for", again(`[[1]]`, `.map(a, [a, a])`, 36) + `.map(a, a in [a])`, ``, work},
		{"a map doubled by nesting, compared", again(`[{"k": 1}]`, `.map(a, {"k": a, "l": a})`, 36) + `.map(a, a == a)`, ``, work},
		{"an optional list doubled by nesting, compared", again(`[optional.of([1])]`, `.map(a, optional.of([a, a]))`, 36) + `.map(a, a == a)`, ``, work},
		{"a list as a map's key", again(`[[1]]`, `.map(a, [a, a])`, 36) + `.map(a, {a: 1})`, ``, "body"},
		{"long lists, many of them", `payload.map(i, [` + strings.Repeat("0,", 4000) + `i])`, numbers(90_000), work},
		{"long lists of constants, many of them", `payload.map(i, [` + strings.Repeat("0,", 4000) + `0])`, numbers(90_000), work},
		{"large maps, many of them", `payload.map(i, {` + strings.Repeat(`"aaa": 0,`, 1) + mapOf(1000) + `})`, numbers(90_000), work},
		{"the payload as text, again and again", `payload.map(i, toJson(payload))`, numbers(90_000), work},
		{"the payload compared, again and again", `payload.map(i, payload == payload)`, numbers(90_000), work},
		{"a length that has to be counted, again and again", `payload.list.map(i, size(payload.text))`, `{"list":` + numbers(50_000) + `,"text":` + text(800_000) + `}`, work},
		{"a text that is no moment, again and again", `payload.list.exists(i, timestamp(payload.text) == accepted)`, `{"list":` + numbers(50_000) + `,"text":` + text(800_000) + `}`, work},
		{"a text that is no number, again and again", `payload.list.exists(i, int(payload.text) == 1)`, `{"list":` + numbers(50_000) + `,"text":` + text(800_000) + `}`, work},
		{"a text that is no number, side by side", again(`int(body) == 0`, ` || int(body) == 0`, 700), text(1_000_000), work},
		{"time zones, again and again", `payload.map(i, accepted.getHours("America/Argentina/ComodRivadavia"))`, numbers(90_000), ""},
		{"a time zone from elsewhere", `accepted.getHours("../../../../etc/passwd")`, ``, "cannot use"},
		{"substrings", `payload.list.map(i, payload.text.substring(1))`, `{"list":` + numbers(50_000) + `,"text":` + text(800_000) + `}`, work},
		{"keys put in order, again and again", `payload.map(a, payload.map(b, 1))`, object(20_000), work},
		{"a payload of many values", `payload`, numbers(500_000), "more than 100000 values"},
		{"a payload of many objects", `payload`, `[` + strings.TrimSuffix(strings.Repeat("{},", 340_000), ",") + `]`, "more than 100000 values"},
		{"a payload of many keys", `payload.size()`, object(100_001), "more than 100000 values"},
		{"a deep payload", `payload`, strings.Repeat("[", 65) + strings.Repeat("]", 65), "more than 64 lists and objects"},
		{"a very deep payload", `payload`, strings.Repeat("[", 500_000) + strings.Repeat("]", 500_000), ""},
		{"deep and no JSON", `{"p": payload}`, strings.Repeat("[", 1_000_000), ""},
		{"many values and no JSON", `{"p": payload}`, strings.Repeat("[],", 300_000), ""},
		{"many brackets in a string", `payload`, `"` + strings.Repeat(`[{\"`, 200_000) + `"`, ""},
		{"a body that is not looked at may be anything", `{"id": id}`, numbers(500_000), ""},
		{"numbers beyond everything", `payload`, `[1e400]`, "infinity and NaN"},
		{"numbers with an endless exponent", `payload`, `[1e-99999999999999999999]`, ""},
		{"a result that is longer than a message", `body + body`, text(1_000_000), "more than 1 MiB"},
		{"JSON longer than a message", `[payload, payload]`, text(1_000_000), "more than 1 MiB"},
		{"control characters become longer", `{"x": payload}`, `"` + strings.Repeat(`\u0001`, 174_000) + `"`, ""},

		{"parentheses", strings.Repeat("(", 8000) + "1" + strings.Repeat(")", 8000), ``, "body"},
		{"lists in lists", strings.Repeat("[", 8000) + strings.Repeat("]", 8000), ``, "body"},
		{"open lists", strings.Repeat("[", 16_000), ``, "body"},
		{"minuses", strings.Repeat("-", 16_000) + "1", ``, ""},
		{"exclamation marks", strings.Repeat("!", 16_000) + "true", ``, ""},
		{"fields of fields", "payload" + strings.Repeat(".a", 8000), ``, "body"},
		{"a long sum", "1" + strings.Repeat("+1", 8000), ``, ""},
		{"a long either-or", "true" + strings.Repeat("||true", 2700), ``, ""},
		{"a long question", "1" + strings.Repeat(">0?1:1", 2000), ``, "body"},
		{"macros in macros", strings.Repeat("[1].map(a,", 300) + "1" + strings.Repeat(")", 300), ``, "body"},
		{"macros in predicates", strings.Repeat("[1].all(a,", 35) + "true" + strings.Repeat(")", 35), ``, ""},
		{"types of types", again(`[1]`, `.map(a, [a])`, 36), ``, ""},
		{"types that double", again(`[1]`, `.map(a, {"k": [a, a]})`, 36), ``, ""},
		{"a broken string", `"` + strings.Repeat(`\`, 16_001), ``, "body"},
		{"no UTF-8", "\"\xff\xfe\"", ``, ""},
		{"a NUL", "\"a\x00b\"", ``, ""},
		{"emojis", strings.Repeat("🙂", 4000), ``, "body"},
		{"too long", text(16_385), ``, "more than 16384"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			begun := time.Now()
			shaper, err := template.Compile(template.Source{Body: test.body})
			compiled := time.Since(begun)
			var shaped relay.Webhook
			if err == nil {
				shaped, err = shaper.Shape(event(test.payload))
			}
			took := time.Since(begun)
			runtime.ReadMemStats(&after)
			used := after.TotalAlloc - before.TotalAlloc
			t.Logf("compiled in %v, shaped in %v, %d KiB: %d bytes, %.200v", compiled.Round(time.Microsecond), (took - compiled).Round(time.Microsecond), used>>10, len(shaped.Body), err)
			if took > mostTime || used > mostMemory {
				t.Errorf("took %v and %d MiB", took, used>>20)
			}
			switch {
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("%.300v; want an error with %q", err, test.want)
			case err != nil && len(err.Error()) > 1000:
				t.Errorf("the error has %d bytes", len(err.Error()))
			case err == nil && len(shaped.Body) > relay.MaxBody:
				t.Errorf("the body has %d bytes", len(shaped.Body))
			}
		})
	}
}

// mapOf is the inside of a map with so many keys.
func mapOf(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"k%d":i,`, i)
	}
	return strings.TrimSuffix(b.String(), ",")
}

// object is JSON with so many keys.
func object(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"%d":0,`, i)
	}
	return "{" + strings.TrimSuffix(b.String(), ",") + "}"
}

// The bound is that of the whole template: many expressions that stay below it do
// not.
func TestExpressionsShareTheirBound(t *testing.T) {
	s := template.Source{Body: `payload.size()`, Headers: map[string]string{}}
	for i := range relay.MaxHeaders {
		s.Headers[fmt.Sprintf("X-%d", i)] = `payload.map(i, i).size()`
	}
	shaper := compile(t, s)
	if _, err := shaper.Shape(event(numbers(100))); err != nil {
		t.Fatal(err)
	}
	if _, err := shaper.Shape(event(numbers(10_000))); err == nil || !strings.Contains(err.Error(), "headers.X-1") || !strings.Contains(err.Error(), "takes more work") {
		t.Errorf("%v", err)
	}
}
