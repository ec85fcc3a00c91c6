//go:build root

// Package root runs the built program on loop devices, as Ganeti would, and
// looks at what it leaves with tools that had no part in it.
package root

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain builds the program once, with every compiled-in folder below one
// temporary folder, so that nothing of the machine's is used or changed.
func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "needs root")
		os.Exit(1)
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "instance-debootstrap-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		build(dir)
		return m.Run()
	}())
}

var program string // the built binary

// stamped are the compiled-in folders, below the folder that base() names at run time.
var base string

func build(dir string) {
	base = dir
	if err := os.Chmod(base, 0o755); err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "instance-debootstrap")
	if err := buildProgram(program); err != nil {
		panic(err)
	}
}

// buildProgram builds the program as output, with more of go's options.
func buildProgram(output string, options ...string) error {
	ldflags := ""
	for name, path := range map[string]string{
		"OSDir": "os", "DefaultsFile": "default", "ConfDir": "conf", "CacheDir": "cache", "RunDir": "run", "LockDir": "lock", "StateDir": "state",
	} {
		ldflags += fmt.Sprintf(" -X instance-debootstrap/pkg/paths.%s=%s", name, filepath.Join(base, path))
	}
	cmd := exec.Command("go", append(append([]string{"build", "-ldflags", ldflags}, options...), "-o", output, "instance-debootstrap/cmd/instance-debootstrap")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// lab is one test's node: fresh settings, cache and hooks, one disk.
type lab struct {
	*testing.T
	disk  string
	env   map[string]string
	fakes string                       // tools put before the node's own
	alone bool                         // the node has no network
	limit time.Duration                // of one run; 0 is 15 minutes
	used  map[string][sha256.Size]byte // the disks that had something before an import
}

const tinyArch = "amd64"

// newLab resets the compiled-in folders and makes a disk file of sizeMiB.
func newLab(t *testing.T, sizeMiB int64) *lab {
	t.Helper()
	for _, d := range []string{"os", "conf/hooks", "conf/variants", "cache", "run", "lock", "state"} {
		must(t, os.RemoveAll(filepath.Join(base, d)))
		must(t, os.MkdirAll(filepath.Join(base, d), 0o755))
	}
	for _, name := range []string{"default", "conf/parameters.list"} {
		must(t, os.RemoveAll(filepath.Join(base, name)))
	}
	l := &lab{T: t, disk: filepath.Join(t.TempDir(), "root-disk"), fakes: t.TempDir(), used: map[string][sha256.Size]byte{}}
	must(t, os.WriteFile(l.disk, nil, 0o600))
	must(t, os.Truncate(l.disk, sizeMiB<<20))
	must(t, os.Symlink(program, filepath.Join(base, "os/create")))
	must(t, os.Symlink(program, filepath.Join(base, "os/verify")))
	must(t, os.Symlink(program, filepath.Join(base, "os/rename")))
	must(t, os.Symlink(filepath.Join(base, "conf/variants.list"), filepath.Join(base, "os/variants.list")))
	l.write("conf/variants.list", "default\n", 0o644)
	l.write("conf/variants/default.conf", "", 0o644)
	l.env = map[string]string{
		"PATH": "/sbin:/bin:/usr/sbin:/usr/bin", "OS_API_VERSION": "20", "OS_NAME": "debootstrap", "OS_VARIANT": "default",
		"INSTANCE_OS": "debootstrap+default", "INSTANCE_NAME": "inst1.example", "INSTANCE_UUID": "6c7b4cc2-6a3c-4a3a-9f8d-1b8f0c3a5a11",
		"HYPERVISOR": "kvm", "INSTANCE_HV_serial_console": "True", "DISK_COUNT": "1", "NIC_COUNT": "0", "DEBUG_LEVEL": "0",
		"DISK_0_PATH": l.disk, "DISK_0_ACCESS": "w", "DISK_0_SIZE": fmt.Sprint(sizeMiB),
	}
	return l
}

// write makes a file below the compiled-in folders.
func (l *lab) write(name, content string, mode os.FileMode) {
	l.Helper()
	path := filepath.Join(base, name)
	must(l, os.WriteFile(path, []byte(content), mode))
	must(l, os.Chmod(path, mode))
}

// fake puts a shell script before the node's tool of that name.
func (l *lab) fake(name, script string) {
	l.Helper()
	must(l, os.WriteFile(filepath.Join(l.fakes, name), []byte("#!/bin/bash\n"+script+"\n"), 0o755))
}

// tinyTree makes the admin's own cache-trixie-amd64.tar of a tree that has
// just enough files to be a guest.
func (l *lab) tinyTree() {
	l.Helper()
	dir := l.TempDir()
	for path, content := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/bash\n", "etc/shadow": "root:*:19000:0:99999:7:::\n",
		"etc/debian_version": "13.1\n", "etc/network/interfaces": "", "sbin/ifup": "", "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
		"lib/systemd/systemd": "", "etc/os-release": "ID=debian\n", "usr/share/big": strings.Repeat("x", 1<<20),
	} {
		must(l, os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755))
		must(l, os.WriteFile(filepath.Join(dir, path), []byte(content), 0o644))
	}
	l.tool("tar", "-cf", l.tar(), "-C", dir, ".")
}

func (l *lab) tar() string { return filepath.Join(base, "cache/cache-trixie-"+tinyArch+".tar") }

// tool runs a tool that must succeed and returns its output.
func (l *lab) tool(args ...string) string {
	l.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	for try := 0; err != nil && try < 20 && args[0] == "losetup" && slices.Contains(args, "-f"); try++ {
		time.Sleep(20 * time.Millisecond) // another program took the free device that losetup found
		out, err = exec.Command(args[0], args[1:]...).CombinedOutput()
	}
	if err != nil {
		l.Fatalf("%v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// command is the OS script, called as Ganeti calls it: umask 077, the OS
// directory as working folder, the fakes before the node's tools.
func (l *lab) command(script string, args ...string) *exec.Cmd {
	sh := fmt.Sprintf(`mount --bind %s /usr/local/sbin && umask 077 && cd %s && exec "$0" "$@"`, l.fakes, filepath.Join(base, "os"))
	namespaces := "--mount"
	if l.alone {
		namespaces = "--mount --net"
	}
	cmd := exec.Command("unshare", append(append(strings.Fields(namespaces), "sh", "-c", sh, filepath.Join(base, "os", script)), args...)...)
	for k, v := range l.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	if dir := os.Getenv("GOCOVERDIR"); dir != "" { // the program was built with -cover
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+dir)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// run runs the OS script to its end and returns its messages.
func (l *lab) run(script string, args ...string) (log string, exit int) {
	l.Helper()
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(l.limit, 15*time.Minute))
	defer cancel()
	cmd := l.command(script, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	must(l, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-done:
	case <-ctx.Done():
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		l.Fatalf("%s does not end:\n%s", script, out.String())
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// create must succeed, and leave nothing.
func (l *lab) create() string {
	l.Helper()
	log, exit := l.run("create")
	if exit != 0 {
		l.Fatalf("create: exit status %d\n%s", exit, log)
	}
	l.clean(0)
	return log
}

// fails runs create, which must fail with a last line that has the text, and
// leave nothing.
func (l *lab) fails(want string) string {
	l.Helper()
	log, exit := l.run("create")
	if exit != 1 {
		l.Fatalf("create: exit status %d, not 1\n%s", exit, log)
	}
	lines := strings.Split(strings.TrimSpace(log), "\n")
	last := lines[len(lines)-1]
	if !strings.Contains(last, want) {
		l.Errorf("the last line of the failure is %q, without %q; all of it:\n%s", last, want, log)
	}
	l.clean(0)
	return log
}

// matches fails unless a text has what the regular expression says.
func (l *lab) matches(text, want string) {
	l.Helper()
	if !regexp.MustCompile(want).MatchString(text) {
		l.Errorf("%q is not in\n%s", want, text)
	}
}

// clean fails when anything is left of a run within the time given: a process,
// a mount, a loop device, a temporary file.
func (l *lab) clean(within time.Duration) {
	l.Helper()
	deadline := time.Now().Add(within)
	for {
		left := l.leftovers()
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			l.Fatalf("left behind:\n%s", strings.Join(left, "\n"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (l *lab) leftovers() (left []string) {
	for line := range strings.Lines(l.tool("losetup", "-n", "-O", "NAME,BACK-FILE")) {
		if strings.Contains(line, base) || strings.Contains(line, filepath.Dir(l.disk)) {
			left = append(left, "loop device "+line)
		}
	}
	nodes, _ := filepath.Glob("/dev/loop*p*")
	for _, node := range nodes {
		// A node without a device is a leak; one with may be another's.
		if _, err := os.Stat("/sys/class/block/" + filepath.Base(node)); err != nil {
			left = append(left, "device node "+node)
		}
	}
	for _, p := range l.processes() {
		left = append(left, "process "+p)
	}
	mounts, _ := filepath.Glob("/proc/[0-9]*/mountinfo")
	for _, m := range append(mounts, "/proc/self/mountinfo") {
		b, _ := os.ReadFile(m)
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, base+"/run") {
				left = append(left, m+": "+line)
			}
		}
	}
	for _, dir := range []string{"run", "cache"} {
		entries, _ := os.ReadDir(filepath.Join(base, dir))
		for _, e := range entries {
			if name := e.Name(); dir == "cache" && name == "packages" {
				unfinished, _ := filepath.Glob(filepath.Join(base, "cache/packages/.*"))
				left = append(left, unfinished...)
			} else if dir == "run" || !strings.HasSuffix(name, ".tar") && !strings.HasSuffix(name, ".json") && !strings.HasSuffix(name, ".img") && !strings.HasSuffix(name, ".corrupt") {
				left = append(left, filepath.Join(dir, name))
			}
		}
	}
	return left
}

// processes lists those of the program, and those that carry this test's mark.
func (l *lab) processes() (found []string) {
	pids, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range pids {
		exe, _ := os.Readlink(p + "/exe")
		cmdline, _ := os.ReadFile(p + "/cmdline")
		if exe == program || bytes.Contains(cmdline, []byte("left-by-"+filepath.Base(base))) {
			found = append(found, filepath.Base(p)+" "+string(bytes.ReplaceAll(cmdline, []byte{0}, []byte(" "))))
		}
	}
	return found
}

// mark is an argument by which clean finds a process that a hook started.
func mark() string { return "left-by-" + filepath.Base(base) }

// partition returns the offset and size in bytes of partition n, by sfdisk.
func (l *lab) partition(n int) (offset, size int64) {
	l.Helper()
	for line := range strings.Lines(l.tool("sfdisk", "--dump", l.disk)) {
		if strings.HasPrefix(line, fmt.Sprintf("%s%d :", l.disk, n)) {
			line = strings.NewReplacer(",", " ", "=", " ").Replace(line)
			f := strings.Fields(line)
			fmt.Sscan(f[slices.Index(f, "start")+1], &offset)
			fmt.Sscan(f[slices.Index(f, "size")+1], &size)
			return offset * 512, size * 512
		}
	}
	l.Fatalf("no partition %d on %s", n, l.disk)
	return 0, 0
}

// root gives a loop device over the root filesystem: partition 1, or the whole
// disk.
func (l *lab) root() string {
	l.Helper()
	args := []string{"losetup", "--show", "-f"}
	if l.table() != "" {
		offset, size := l.partition(1)
		args = append(args, "-o", fmt.Sprint(offset), "--sizelimit", fmt.Sprint(size))
	}
	dev := l.tool(append(args, l.disk)...)
	detachAtEnd(l, dev, l.disk)
	return dev
}

// detachAtEnd detaches the loop device over a file when the test ends, unless it is another's by
// then: tests detach theirs by themselves, too, and what runs beside them takes the next free one.
func detachAtEnd(t testing.TB, dev, file string) {
	t.Cleanup(func() {
		if back, _ := exec.Command("losetup", "-n", "-O", "BACK-FILE", dev).Output(); strings.TrimSpace(string(back)) == file {
			exec.Command("losetup", "-d", dev).Run()
		}
	})
}

// table is the disk's kind of partition table: dos, gpt or none ("").
func (l *lab) table() string {
	return l.tool("sh", "-c", "blkid -p -s PTTYPE -o value "+l.disk+" || true")
}

// mounted mounts the root read-only and calls look with the tree.
func (l *lab) mounted(look func(tree string)) {
	l.Helper()
	dev, dir := l.root(), l.TempDir()
	l.tool("mount", "-o", "ro", dev, dir)
	defer func() { l.tool("umount", dir); l.tool("losetup", "-d", dev) }()
	look(dir)
}

func must(t interface {
	Helper()
	Fatal(...any)
}, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
