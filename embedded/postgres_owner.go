package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// owner is the user who runs Postgres where relay is root: Postgres refuses to
// be. A nil owner means that relay's own user does; its methods do nothing.
type owner struct {
	name     string
	uid, gid uint32
}

func chooseOwner() (*owner, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // a nil owner is a good one
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("embedded: user %s: %w", name, err)
		}
		return &owner{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
	}
	return nil, errors.New("embedded: Postgres cannot run as root, and this machine has neither a user postgres nor nobody")
}

// makeDir makes path and what is missing above it, such that the owner can get
// there.
func (o *owner) makeDir(path string) error {
	above := fs.FileMode(0o700)
	if o != nil {
		above = 0o711
	}
	if err := os.MkdirAll(filepath.Dir(path), above); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (o *owner) own(path string) error {
	if o == nil {
		return nil
	}
	return os.Chown(path, int(o.uid), int(o.gid))
}

func (o *owner) become(attributes *syscall.SysProcAttr) {
	if o != nil {
		attributes.Credential = &syscall.Credential{Uid: o.uid, Gid: o.gid, Groups: []uint32{}}
	}
}

// checkPath fails if the owner cannot pass through a directory above path.
func (o *owner) checkPath(path string) error {
	if o == nil {
		return nil
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("embedded: %w", err)
	}
	for dir := filepath.Dir(resolved); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("embedded: %w", err)
		}
		if !o.mayPass(info) {
			return fmt.Errorf("embedded: relay is root, so the user %s runs Postgres, and cannot enter %s: "+
				"give a directory outside it, or run relay as another user", o.name, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func (o *owner) mayPass(info fs.FileInfo) bool {
	var bit fs.FileMode = 0o001
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		switch {
		case s.Uid == o.uid:
			bit = 0o100
		case s.Gid == o.gid:
			bit = 0o010
		}
	}
	return info.Mode().Perm()&bit != 0
}
