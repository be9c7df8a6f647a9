package main

import (
	"fmt"
	"strings"

	"github.com/relaywebhooks/relay/admin"
)

// tokenCommand is relay token.
type tokenCommand struct {
	Scope []admin.Scope `required:"" help:"What it may read: metrics, ready (what is wrong, in /readyz) or profiles. Repeatable."`
	Name  string        `help:"What it is called in the configuration. Defaults to its scopes."`
}

// Run shows a token that nobody has seen, and what is to be configured: relay
// itself never needs the token.
func (c tokenCommand) Run(p *program) error {
	token, hash := admin.NewToken()
	words := make([]string, len(c.Scope))
	for i, s := range c.Scope {
		words[i] = string(s)
	}
	name := c.Name
	if name == "" {
		name = strings.Join(words, "-")
	}
	_, err := fmt.Fprintf(p.stdout, `%s

# The token is shown this once. Its hash goes into the configuration:
admin:
  tokens:
    %q:
      hash: %s
      scopes: [%s]
`, string(token), name, hash, strings.Join(words, ", "))
	return err
}
