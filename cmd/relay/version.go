package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// versionCommand is relay version.
type versionCommand struct{}

// Run shows the version, and with what it was built.
func (versionCommand) Run(p *program) error {
	_, err := fmt.Fprintf(p.stdout, "relay %s (%s, %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// version is what the go command stamped into the program: a tag, a commit, or
// "devel" where it was told not to look.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}
