//go:build root

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestAnOrdinaryUserIsToldWhatOnlyRootMayDo(t *testing.T) {
	dir := t.TempDir()
	for _, parent := range []string{dir, filepath.Dir(dir)} { // of t.TempDir's two
		if err := os.Chmod(parent, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "instance-debootstrap")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cache := filepath.Join(dir, "cache")
	tree := filepath.Join(cache, "cache-trixie-amd64-0123456789abcdef")
	if err := os.Mkdir(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{tree + ".tar", tree + ".json"} {
		if err := os.WriteFile(name, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ args, says, never string }{
		{"cache list", "what went into the trees of " + cache + " is only root's to read: run it as root", "the admin's own"},
		{"inspect " + tree + ".tar", "root is needed: run it as root, or by sudo", "/proc/self/exe"},
		{"doctor", "root is needed: run it as root, or by sudo", "/proc/self/exe"},
	} {
		cmd := exec.Command(program, strings.Fields(c.args)...)
		cmd.Dir, cmd.Env = "/", append(os.Environ(), "CACHE_DIR="+cache)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.says) || strings.Contains(string(out), c.never) {
			t.Errorf("%s: %v\n%s", c.args, err, out)
		}
	}
}
