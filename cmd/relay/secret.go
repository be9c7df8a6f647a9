package main

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"

	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/signature"
)

// secretCommand is relay secret.
type secretCommand struct {
	Sealing bool `name:"sealing" xor:"kind" help:"Make a key for sealing.keys instead, which keeps secrets in the database unreadable."`
	Ed25519 bool `name:"ed25519" xor:"kind" help:"Make a pair: whsk_ for relay, whpk_ for the receiver, who then cannot sign."`
}

// Run shows a secret that nobody has seen. 32 bytes are within what the
// specification allows for HMAC, and are the seed of an ed25519 key.
func (c secretCommand) Run(p *program) error {
	if c.Sealing {
		_, err := fmt.Fprintln(p.stdout, string(endpoint.NewSealingKey()))
		return err
	}
	_, shown, err := makeSecret(c.Ed25519)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(p.stdout, shown)
	return err
}

// makeSecret makes a signing secret, and the lines that show it: for a pair both
// halves.
func makeSecret(pair bool) (private, shown string, err error) {
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // which never fails
	text := base64.StdEncoding.EncodeToString(seed[:])
	if !pair {
		return "whsec_" + text, "whsec_" + text + "\n", nil
	}
	private = "whsk_" + text
	public, err := signature.Public(private)
	if err != nil {
		return "", "", fmt.Errorf("make a key pair: %w", err)
	}
	return private, private + "\n" + public + "\n", nil
}
