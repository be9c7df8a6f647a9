package embedded

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
)

// guard is a shell that removes a temporary directory, and the server in it,
// when this process ends, however it ends: it waits for the end of a pipe that
// only this process holds.
type guard struct {
	cmd  *exec.Cmd
	pipe io.Closer
}

const guardScript = `
read -r _
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" 2>/dev/null
for _ in $(seq 200); do
	[ -n "$pid" ] && kill -0 "$pid" 2>/dev/null || break
	sleep 0.05
done
rm -rf "$@"
`

func startGuard(dirs ...string) (*guard, error) {
	cmd := exec.Command("sh", append([]string{"-c", guardScript, "sh"}, dirs...)...) //nolint:noctx // it must outlive everything
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}                            // out of reach of Ctrl-C
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("embedded: guard of %s: %w", dirs[0], err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("embedded: guard of %s: %w", dirs[0], err)
	}
	return &guard{cmd: cmd, pipe: pipe}, nil
}

// release has the guard do its work now and waits for it.
func (g *guard) release() error {
	if g == nil {
		return nil
	}
	if err := errors.Join(g.pipe.Close(), g.cmd.Wait()); err != nil {
		return fmt.Errorf("embedded: remove temporary directory: %w", err)
	}
	return nil
}
