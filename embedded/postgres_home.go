package embedded

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// home is the directory of one Postgres: the cluster in data, its log, the
// password for TCP and, where its path is short enough, the socket.
type home struct {
	dir       string
	socket    string // directory of the Unix socket
	temporary bool
	guard     *guard // of a temporary directory
	password  string
	owner     *owner // who runs Postgres; nil: we do
}

// errSharedMemory is what Postgres says while children of its predecessor live.
var errSharedMemory = errors.New("embedded: shared memory of an earlier Postgres is still in use")

const logName = "postgres.log"

// makeHome makes dir, or a temporary directory, and gives it to the user who
// is to run Postgres.
func makeHome(dir string) (_ home, err error) {
	h := home{dir: dir, temporary: dir == ""}
	if h.owner, err = chooseOwner(); err != nil {
		return h, err
	}
	if h.temporary {
		h.dir, err = os.MkdirTemp("", "relay-postgres-")
	} else if h.dir, err = filepath.Abs(dir); err == nil {
		err = h.owner.makeDir(h.dir)
	}
	if err != nil {
		return h, fmt.Errorf("embedded: directory for Postgres: %w", err)
	}
	if err := errors.Join(h.refuseStrange(), h.owner.checkPath(h.dir)); err != nil {
		return h, errors.Join(err, h.remove())
	}
	if err := h.furnish(); err != nil {
		return h, errors.Join(fmt.Errorf("embedded: directory for Postgres: %w", err), h.remove())
	}
	return h, nil
}

// refuseStrange keeps a mistyped path from becoming a database, and from being
// given to another user.
func (h *home) refuseStrange() error {
	if _, err := os.Stat(filepath.Join(h.dir, lockFile)); err == nil {
		return nil
	}
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		return fmt.Errorf("embedded: directory for Postgres: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("embedded: %s is neither empty nor made by relay: give Postgres another directory", h.dir)
	}
	return nil
}

func (h *home) furnish() (err error) {
	if err := h.owner.own(h.dir); err != nil {
		return err
	}
	if h.password, err = readOrMakePassword(filepath.Join(h.dir, "password")); err != nil {
		return err
	}
	if err := h.owner.own(filepath.Join(h.dir, "password")); err != nil {
		return err
	}
	h.socket = h.dir
	if len(h.dir)+len("/.s.PGSQL.65535") > maxSocketPath {
		h.socket = filepath.Join(os.TempDir(), "relay-pg-"+rand.Text())
	}
	if h.temporary {
		h.guard, err = startGuard(h.dir, h.socket)
	}
	return err
}

// openSocketDir makes the directory of the socket where it is not the home
// itself. It keeps its name over restarts, and is gone while nothing runs.
func (h *home) openSocketDir() error {
	if _, err := os.Lstat(h.socket); err == nil {
		return nil
	}
	if err := os.Mkdir(h.socket, 0o700); err != nil {
		return fmt.Errorf("embedded: directory for Postgres's socket: %w", err)
	}
	return errors.Join(h.owner.own(h.socket), h.owner.checkPath(h.socket))
}

func readOrMakePassword(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	password := rand.Text()
	return password, os.WriteFile(path, []byte(password+"\n"), 0o600)
}

// remove deletes what was only for this process.
func (h *home) remove() error {
	err := h.guard.release()
	h.guard = nil
	if h.socket != "" && h.socket != h.dir {
		err = errors.Join(err, os.RemoveAll(h.socket))
	}
	if h.temporary {
		err = errors.Join(err, os.RemoveAll(h.dir))
	}
	return err
}

func (h *home) data() string { return filepath.Join(h.dir, "data") }

// initialize makes the cluster if there is none. It is made under another name
// first, so that one half made is never taken for a whole.
func (h *home) initialize(ctx context.Context, bin string, durable bool) error {
	if err := h.owner.checkPath(bin); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(h.data(), "PG_VERSION")); err == nil {
		return nil
	}
	unfinished := h.data() + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return fmt.Errorf("embedded: initdb: %w", err)
	}
	args := []string{
		"-D", unfinished, "-U", superuser, "-E", "UTF8", "--no-locale", "--auth-local=trust",
		"--auth-host=scram-sha-256", "--pwfile=" + filepath.Join(h.dir, "password"),
	}
	if !durable {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), args...)
	h.prepare(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("embedded: initdb in %s: %w: %s", h.dir, err, bytes.TrimSpace(out))
	}
	if err := os.Rename(unfinished, h.data()); err != nil {
		return fmt.Errorf("embedded: initdb: %w", err)
	}
	return nil
}

// command returns the server's command, writing to its log file, which is begun
// anew at each start.
func (h *home) command(bin string, flags []string) (*exec.Cmd, error) {
	log, err := os.OpenFile(filepath.Join(h.dir, logName), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("embedded: log of Postgres: %w", err)
	}
	cmd := exec.Command(filepath.Join(bin, "postgres"), flags...) //nolint:noctx // it outlives the start; Stop and Kill end it
	h.prepare(cmd)
	cmd.Stdout, cmd.Stderr = log, log
	return cmd, nil
}

// closeLog closes this process's end of the log; the child has its own.
func (h *home) closeLog(cmd *exec.Cmd) {
	if f, ok := cmd.Stderr.(*os.File); ok {
		_ = f.Close() // nothing was written through it
	}
}

// prepare has cmd run as the owner, in a directory that the owner can enter,
// and without this process's settings for Postgres clients.
func (h *home) prepare(cmd *exec.Cmd) {
	cmd.Dir = h.dir
	cmd.SysProcAttr = processAttributes()
	h.owner.become(cmd.SysProcAttr)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PG") && !strings.HasPrefix(v, "LC_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C", "HOME="+h.dir)
}

// whyEnded makes an error of the end of the server's log.
func (h *home) whyEnded() error {
	b, err := os.ReadFile(filepath.Join(h.dir, logName))
	if err != nil {
		return fmt.Errorf("embedded: Postgres ended at once, and its log cannot be read: %w", err)
	}
	if bytes.Contains(b, []byte("pre-existing shared memory block")) {
		return errSharedMemory
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	lines = lines[max(0, len(lines)-8):]
	return fmt.Errorf("embedded: Postgres ended at once:\n%s", strings.Join(lines, "\n"))
}

// evictOrphan stops the server that a killed relay left behind. The lock on the
// directory is ours, so its owner is dead. A recorded process that is a zombie,
// or by now something else altogether, would keep Postgres from starting for
// ever, so its record is removed.
func (h *home) evictOrphan(ctx context.Context, log zerolog.Logger) error {
	record := filepath.Join(h.data(), "postmaster.pid")
	b, err := os.ReadFile(record)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("embedded: %w", err)
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(first)
	if err == nil && strings.Contains(commandLine(pid), h.data()) {
		log.Warn().Int("pid", pid).Str("dir", h.dir).Msg("stopping the Postgres that a killed relay left behind")
		if err := endOrphan(ctx, pid); err != nil {
			return fmt.Errorf("embedded: stop the Postgres that was left behind, process %d: %w", pid, err)
		}
	}
	if err := os.Remove(record); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("embedded: %w", err)
	}
	return nil
}

// endOrphan asks for a fast shutdown, and after ten seconds insists.
func endOrphan(ctx context.Context, pid int) error {
	gone := func() bool { return ctx.Err() != nil || commandLine(pid) == "" }
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		if waitUntil(10*time.Second, gone) {
			return context.Cause(ctx)
		}
	}
	return errors.New("it does not end")
}
