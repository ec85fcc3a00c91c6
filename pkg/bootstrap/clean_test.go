package bootstrap

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCleaningLeavesNoIdentityAndNoPackageFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{
		"var/cache/apt/archives/bash_5_amd64.deb", "var/cache/apt/archives/partial/x.deb", "var/cache/apt/archives/lock",
		"etc/udev/rules.d/70-persistent-net.rules", "etc/udev/rules.d/z25_persistent-net.rules", "etc/udev/rules.d/80-own.rules",
		"etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_rsa_key.pub", "etc/ssh/sshd_config", "etc/machine-id",
		"var/lib/dbus/machine-id", "var/lib/systemd/random-seed", "var/lib/urandom/random-seed", "var/lib/apt/lists/x_Packages",
		"run/systemd/x", "run/utmp", "run/lock/keep",
	} {
		must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("0123456789abcdef\n"), 0o600))
	}
	must(t, os.MkdirAll(filepath.Join(dir, "usr/sbin"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "usr/sbin/policy-rc.d"), []byte("#!/bin/sh\nexit 101\n"), 0o755))
	must(t, clean(dir))
	var left []string
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, path); !d.IsDir() {
			left = append(left, rel)
		}
		return err
	}))
	want := []string{
		"etc/machine-id", "etc/ssh/sshd_config", "etc/udev/rules.d/80-own.rules", "run/lock/keep",
		"var/cache/apt/archives/lock", "var/lib/apt/lists/x_Packages",
	}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Error(diff)
	}
	if st, err := os.Stat(filepath.Join(dir, "etc/machine-id")); err != nil || st.Size() != 0 || st.Mode() != 0o444 {
		t.Errorf("machine-id: %v, %v", st, err)
	}
}

func TestCleaningAddsNothingAndKeepsWhatIsTheAdmins(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	must(t, clean(dir))
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("an empty tree got %v", entries)
	}
	must(t, os.WriteFile(filepath.Join(outside, "x.deb"), nil, 0o600))
	must(t, os.MkdirAll(filepath.Join(dir, "usr/sbin"), 0o755))
	policy := filepath.Join(dir, "usr/sbin/policy-rc.d")
	must(t, os.WriteFile(policy, []byte("#!/bin/sh\n# mine\nexit 101\n"), 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "var/lib/dbus"), 0o755))
	must(t, os.Symlink("/etc/machine-id", filepath.Join(dir, "var/lib/dbus/machine-id")))
	must(t, clean(dir))
	// A symlink that leads out of the tree is an error, not a way out.
	must(t, os.MkdirAll(filepath.Join(dir, "var/cache/apt"), 0o755))
	must(t, os.Symlink(outside, filepath.Join(dir, "var/cache/apt/archives")))
	if err := clean(dir); err == nil {
		t.Error("went along a symlink out of the tree")
	}
	for _, path := range []string{filepath.Join(outside, "x.deb"), policy, filepath.Join(dir, "var/lib/dbus/machine-id")} {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
}

func TestATreesOwnAptResolvesNamesThoughItsResolverDoesNotRun(t *testing.T) {
	nodes := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(nodes, []byte("nameserver 192.0.2.53\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, at := range map[string]string{
		"../run/systemd/resolve/stub-resolv.conf": "run/systemd/resolve/stub-resolv.conf", "/run/resolvconf/resolv.conf": "run/resolvconf/resolv.conf",
		"../../../etc/passwd": "", "/var/lib/x": "",
	} {
		dir := t.TempDir()
		must(t, os.Mkdir(filepath.Join(dir, "etc"), 0o755))
		must(t, os.Symlink(link, filepath.Join(dir, "etc/resolv.conf")))
		root, err := os.OpenRoot(dir)
		must(t, err)
		must(t, resolveAsNode(root, nodes))
		root.Close()
		if at == "" {
			if files, _ := os.ReadDir(dir); len(files) != 1 {
				t.Errorf("%s: %v", link, files)
			}
			continue
		}
		if text, err := os.ReadFile(filepath.Join(dir, at)); string(text) != "nameserver 192.0.2.53\n" {
			t.Errorf("%s: %q, %v", link, text, err)
		}
	}
}

func TestWhatIsNoSystemIsNotTakenForOne(t *testing.T) {
	for users, want := range map[string]string{
		"": "no root", "daemon:x:1:1::/:\nkroot:x:0:0::/:\n": "no root",
		"root:x:0:0:root:/root:/bin/bash\n": "", "daemon:x:1:1::/:\nroot:x:0:0::/:\n": "",
	} {
		dir := t.TempDir()
		if users != "" {
			if err := errors.Join(os.Mkdir(dir+"/etc", 0o755), os.WriteFile(dir+"/etc/passwd", []byte(users), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		err = checkMade(root, Tool{Name: Debootstrap})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), "debootstrap reported no failure") || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", users, err)
		}
	}
}
