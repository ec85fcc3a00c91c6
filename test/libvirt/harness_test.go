//go:build root

package libvirt

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	program  = "/srv/instance-debootstrap"
	stateDir = "/var/lib/instance-debootstrap"
	key      = "/srv/key"
)

// packages make one tree of all layouts and locales, and test/root's too.
const packages = "EXTRA_PKGS=grub-efi-amd64-signed,shim-signed,xfsprogs,btrfs-progs,locales\n"

// pool is where the pool's volumes are: files, or volumes of LVM.
var pool = "/srv/pool"

func init() {
	if group := os.Getenv("TEST_VG"); group != "" {
		pool = "/dev/" + group
	}
}

// lab is one test's use of the node.
type lab struct{ *testing.T }

func newLab(t *testing.T) lab {
	l := lab{t}
	mirror, suite := os.Getenv("TEST_MIRROR"), os.Getenv("TEST_SUITE")
	if mirror == "" || suite == "" {
		t.Fatal("TEST_MIRROR and TEST_SUITE aren't set: test/archive prints them")
	}
	l.write("/etc/default/ganeti-instance-debootstrap", "MIRROR="+mirror+"\nSUITE="+suite+"\n"+packages)
	if _, err := os.Stat(key); err != nil {
		l.tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	}
	l.clean(0)
	t.Cleanup(func() {
		if t.Failed() { // the next test finds a clean node all the same
			for _, name := range strings.Fields(l.try("virsh", "-q", "list", "--all", "--name")) {
				l.try(program, "vm", "remove", "--yes", "--stop", "--stop-time", "0s", name)
			}
		}
	})
	return l
}

func (l lab) write(name, text string) {
	l.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		l.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		l.Fatal(err)
	}
}

// try runs a program and returns what it said on stdout, whatever came of it.
func (l lab) try(args ...string) string {
	out, _ := exec.Command(args[0], args[1:]...).Output()
	return string(out)
}

// tool runs a program that must succeed, and returns what it said on stdout.
func (l lab) tool(args ...string) string {
	l.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		l.Fatalf("%v: %v\n%s%s", args, err, out, said.String())
	}
	return string(out)
}

// vm runs a vm command that must succeed.
func (l lab) vm(args ...string) string {
	l.Helper()
	return l.tool(append([]string{program, "vm"}, args...)...)
}

// fails runs a program that must fail, and say so, and returns all that it says.
func (l lab) fails(says string, args ...string) string {
	l.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), says) {
		l.Errorf("%v: %v, and it does not say %q:\n%s", args, err, says, out)
	}
	return string(out)
}

// small are the options of a guest that QEMU's user-mode network reaches.
func small(more ...string) []string {
	return append([]string{"create", "--user-net", "--wait-time", "20m", "--ssh-key", key + ".pub", "--root-size", "3G", "--swap-size", "64M"}, more...)
}

// layoutFile puts a file of LAYOUT on the node until the end of the test.
func (l lab) layoutFile(name, text string) {
	l.Helper()
	const folder = "/etc/ganeti/instance-debootstrap/layouts"
	l.write(filepath.Join(folder, name), text)
	l.Cleanup(func() {
		os.Remove(filepath.Join(folder, name))
		os.Remove(folder) // if nobody else has files there
	})
}

// hook puts a hook on the node until the end of the test.
func (l lab) hook(script string) {
	l.Helper()
	const name = "/etc/ganeti/instance-debootstrap/hooks/50-test"
	l.write(name, script)
	l.tool("chmod", "755", name)
	l.Cleanup(func() { os.Remove(name) })
}

// loops lists the loop devices over files of the pool. Other nodes of this machine may
// have some over files of the same name, which are other inodes.
const loops = `losetup --list --noheadings --raw --output NAME,BACK-INO,BACK-FILE | while read -r name inode file; do
	case $file in
	"$1"/web*deleted*) echo "$name $file" ;;
	"$1"/*) [ "$(stat -c %i "$file" 2>&1)" != "$inode" ] || echo "$name $file" ;;
	esac
done`

// remnants lists all that a guest can leave on the node.
func (l lab) remnants() (found []string) {
	add := func(what, text string) {
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" {
				found = append(found, what+" "+line)
			}
		}
	}
	add("domain", l.try("virsh", "-q", "list", "--all", "--name"))
	l.try("virsh", "-q", "pool-refresh", "default")
	add("volume", l.try("virsh", "-q", "vol-list", "default"))
	add("loop", l.try("sh", "-c", loops, "sh", pool))
	add("mount", l.try("sh", "-c", "grep -E ' (/mnt/web|/run/instance-debootstrap/)' /proc/self/mountinfo"))
	add("process", l.try("sh", "-c", "pgrep -a -f '^(instance-debootstrap|/srv/instance-debootstrap) vm'"))
	for _, pattern := range []string{stateDir + "/*", "/mnt/*", "/var/lib/libvirt/qemu/nvram/*", "/var/log/libvirt/qemu/*console*", pool + "/*", "/run/instance-debootstrap/work/*", "/run/instance-debootstrap/guest/*", "/run/instance-debootstrap/lock/vm-*"} {
		names, _ := filepath.Glob(pattern)
		add("file", strings.Join(names, "\n"))
	}
	return found
}

// clean expects a node without any guest, within a time.
func (l lab) clean(within time.Duration) {
	l.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(100 * time.Millisecond) {
		found := l.remnants()
		if len(found) == 0 {
			return
		}
		if time.Now().After(deadline) {
			l.Fatalf("left on the node:\n%s", strings.Join(found, "\n"))
		}
	}
}

func (l lab) ssh(guest, command string) string {
	l.Helper()
	return strings.TrimSpace(l.vm("ssh", "-i", key, guest, command))
}

// steps lists the recipe's steps that a create of these options takes.
func (l lab) steps(options ...string) (steps []string) {
	l.Helper()
	for line := range strings.Lines(l.vm(append(slices.Clone(options), "--dry-run", "web3")...)) {
		number, rest, found := strings.Cut(strings.TrimSpace(line), ". ")
		if _, err := strconv.Atoi(number); err == nil && found {
			name, _, _ := strings.Cut(strings.TrimSpace(rest), ": ")
			steps = append(steps, name)
		}
	}
	return steps
}

// onTerminal runs a program on a terminal of its own (script(1)), where somebody
// types. It returns what the terminal has shown.
func (l lab) onTerminal(types string, args ...string) (shown string, err error) {
	cmd := exec.Command("script", "--quiet", "--return", "--command", strings.Join(args, " "), "/dev/null")
	cmd.Stdin = strings.NewReader(types)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// isLocked tries for all of a file what a lock of the program's, or of QEMU, would forbid.
func isLocked(path string) bool {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false // it is gone
	}
	defer f.Close()
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB),
		unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})) != nil
}

// losing has virsh carry out its calls by a script, until the end of the test. The real
// one is $real.
func (l lab) losing(script string) {
	l.Helper()
	const virsh, real, copy = "/usr/bin/virsh", "/srv/virsh.real", "/srv/virsh.losing"
	l.tool("cp", virsh, real)
	l.write(copy, "#!/bin/sh\nreal="+real+"\n"+script)
	l.tool("chmod", "755", copy)
	l.tool("mount", "--bind", copy, virsh)
	l.Cleanup(func() { l.tool("umount", virsh); os.Remove("/srv/lost") })
}
