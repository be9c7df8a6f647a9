package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/endpoint"
)

// devKeyFile keeps the sealing key of relay dev in the directory of its Postgres,
// whose secrets it opens: they come and go together.
const devKeyFile = "sealing.key"

// readDevKey returns the key that an earlier relay dev made.
func readDevKey(dir string) (relay.Secret, error) {
	b, err := os.ReadFile(filepath.Join(dir, devKeyFile))
	return relay.Secret(strings.TrimSpace(string(b))), err
}

// keepDevKey returns the key of the relay dev whose Postgres is in dir, and makes
// it if there is none. Only whoever runs relay can read the file.
func keepDevKey(dir string) (relay.Secret, error) {
	key, err := readDevKey(dir)
	if err == nil {
		return key, nil
	}
	path := filepath.Join(dir, devKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		key = endpoint.NewSealingKey()
		err = os.WriteFile(path+".new", []byte(string(key)+"\n"), 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path) // a crash leaves no half of a key
	}
	if err != nil {
		return "", fmt.Errorf("the sealing key of relay dev: %w", err)
	}
	return key, nil
}
