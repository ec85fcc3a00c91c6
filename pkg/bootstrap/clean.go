package bootstrap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// aptsTraces are what the tools leave of their work: it tells of the node and the hour, and two
// trees of the same packages would differ by it.
var aptsTraces = []string{
	"var/cache/apt/pkgcache.bin", "var/cache/apt/srcpkgcache.bin", "var/cache/ldconfig/aux-cache", "var/lib/apt/lists/auxfiles",
	"var/log/apt/eipp.log.xz", "var/log/apt/history.log", "var/log/apt/term.log", "var/log/dpkg.log", "var/log/alternatives.log",
	"var/log/bootstrap.log",
}

// clean removes from a new tree what must not be in every guest made from it,
// and what is of no use: package files, the identity of one machine, the tools' logs, and /run,
// which is a tmpfs in a running guest.
func clean(target string) error {
	root, err := os.OpenRoot(target)
	if err != nil {
		return fmt.Errorf("clean the new tree: %w", err)
	}
	defer root.Close()
	err = errors.Join(
		removeIn(root, "var/cache/apt/archives", func(name string) bool { return strings.HasSuffix(name, ".deb") }),
		removeIn(root, "var/cache/apt/archives/partial", func(string) bool { return true }),
		removeIn(root, "var/cache/debconf", func(name string) bool { return name == "tmp.ci" }), // dpkg-preconfigure(8)'s
		removeIn(root, "etc/udev/rules.d", func(name string) bool {
			return name == "z25_persistent-net.rules" || name == "70-persistent-net.rules"
		}),
		removeIn(root, "etc/ssh", func(name string) bool { return strings.HasPrefix(name, "ssh_host_") }),
		removeIn(root, "var/lib/dbus", func(name string) bool { return name == "machine-id" }),
		removeIn(root, "var/lib/systemd", func(name string) bool { return name == "random-seed" || name == "credential.secret" }),
		removeIn(root, "var/lib/urandom", func(name string) bool { return name == "random-seed" }),
		removeIn(root, "run", func(name string) bool { return name != "lock" }),
		emptyMachineID(root),
		removePolicy(root),
	)
	for _, path := range aptsTraces {
		err = errors.Join(err, root.RemoveAll(path))
	}
	if err != nil {
		return fmt.Errorf("clean the new tree: %w", err)
	}
	return nil
}

// removeIn removes the entries of a folder that match; a missing folder has
// none. A symlink named machine-id stays: it leads to /etc/machine-id.
func removeIn(root *os.Root, dir string, match func(name string) bool) error {
	f, err := root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return err
	}
	var faults []error
	for _, e := range entries {
		if !match(e.Name()) || e.Name() == "machine-id" && e.Type()&fs.ModeSymlink != 0 {
			continue
		}
		faults = append(faults, root.RemoveAll(dir+"/"+e.Name()))
	}
	return errors.Join(faults...)
}

// emptyMachineID empties /etc/machine-id, so that a guest's first boot makes its
// own: machine-id(5), "First Boot Semantics". Where there is none there stays none.
func emptyMachineID(root *os.Root) error {
	const path = "etc/machine-id"
	st, err := root.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !st.Mode().IsRegular() {
		return err
	}
	f, err := root.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o444), f.Close())
}

// removePolicy removes a policy-rc.d that the tool left: both write one that
// says exit 101 (start no daemon) for the time of the run.
func removePolicy(root *os.Root) error {
	const path = "usr/sbin/policy-rc.d"
	st, err := root.Lstat(path)
	if err != nil || !st.Mode().IsRegular() || st.Size() > 64 {
		return nil //nolint:nilerr // none there, or not the tool's
	}
	raw, err := root.ReadFile(path)
	if err != nil || strings.TrimSpace(string(raw)) != "#!/bin/sh\nexit 101" {
		return err
	}
	return root.Remove(path)
}
