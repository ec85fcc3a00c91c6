//go:build root

package root

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// spied are the tools that a create runs on the node. Those of the guest's tree,
// and those in a cell, which can't write anything down, are seen by the look at all
// processes only.
var spied = strings.Fields("apt-config arch-test dpkg gpgv losetup mmdebstrap sfdisk wget")

// spy puts before each tool one that writes down its arguments and its
// environment into a file of a folder, and returns that, and how to read them.
func (l *lab) spy() (notes string, told func() string) {
	l.Helper()
	dir := l.TempDir()
	for _, name := range spied {
		tool, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		l.fake(name, fmt.Sprintf(`{ tr '\0' '\n' </proc/$$/cmdline; tr '\0' '\n' </proc/$$/environ; } >%s/%s.$$; exec -a %[2]s %[3]s "$@"`, dir, name, tool))
	}
	return dir, func() string {
		var all strings.Builder
		files, _ := filepath.Glob(dir + "/*")
		for _, file := range files {
			b, _ := os.ReadFile(file)
			all.WriteString(filepath.Base(file) + ":\n" + string(b))
		}
		return all.String()
	}
}

// watch looks over and over at the arguments and the environment of each process
// that the program has started, hooks and theirs left out: these are given all that
// Ganeti gives. It returns how to end that, and to read what was seen.
func (l *lab) watch() (told func() (seen map[string]bool)) {
	quit, done := make(chan bool), make(chan bool)
	seen := map[string]bool{}
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			default:
				lookAtTools(seen)
			}
		}
	}()
	stop := sync.OnceFunc(func() { close(quit); <-done })
	l.Cleanup(stop)
	return func() map[string]bool { stop(); return seen }
}

func lookAtTools(seen map[string]bool) {
	type process struct{ parent, exe, said string }
	all := map[string]process{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		stat, _ := os.ReadFile(dir + "/stat")
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(f) < 2 {
			continue
		}
		exe, _ := os.Readlink(dir + "/exe")
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		environ, _ := os.ReadFile(dir + "/environ")
		all[filepath.Base(dir)] = process{f[1], exe, string(cmdline) + "\n" + string(environ)}
	}
	for _, p := range all {
		hook, ours := strings.Contains(p.said, "/conf/hooks/"), false
		for up, ok := all[p.parent]; ok; up, ok = all[up.parent] {
			hook = hook || strings.Contains(up.said, "/conf/hooks/")
			ours = ours || up.exe == program
		}
		if ours && !hook && p.exe != program {
			seen[p.said] = true
		}
	}
}

func TestASecretIsNowhereButWhereItBelongs(t *testing.T) {
	hash := "$6$CANARYhash$" + strings.Repeat("x", 86)
	for _, tool := range []string{"debootstrap", "mmdebstrap"} {
		l := newLab(t, 600)
		notes, told := l.spy()
		l.fakeBootstrap(tool, notes)
		l.write("default", "BOOTSTRAP="+tool+"\nEXTRA_PKGS=openssh-server\n", 0o644)
		l.env["DEBUG_LEVEL"] = "1"
		l.env["OSP_ROOT_PASSWORD"], l.env["OSP_MIRROR"] = hash, "http://CANARYuser:CANARYpassword@mirror.example/debian"
		l.env["OSP_BOOTLOADER"], l.env["OSP_OWN_TOKEN"] = "none", "CANARYtoken" // of a hook's own
		l.env["DISK_COUNT"], l.env["DISK_1_PATH"], l.env["DISK_1_ACCESS"], l.env["DISK_1_NAME"] = "2", l.blankDisk("swap", 64), "w", "swap"
		l.hook("10-token", `test "$OSP_OWN_TOKEN" = CANARYtoken && test "$OSP_ROOT_PASSWORD" && sleep 0.2`)
		found := map[string]string{}
		for _, args := range [][]string{{"plan", "create"}, {"plan", "create", "--json"}} {
			found[strings.Join(args, " ")] = l.planned(args...)
		}
		watching := l.watch()
		found["the log, cold"] = l.create()
		found["the log, warm"] = l.create()
		seen := watching()
		for said := range seen {
			if strings.HasPrefix(said, "/bin/bash\x00--norc\x00") { // reads the settings: it has Ganeti's environment, as we have
				said, _, _ = strings.Cut(said, "\x00"+base+"/os/create\x00")
			}
			found["a process: "+strings.ReplaceAll(said, "\x00", " ")] = said
		}
		found["what tools were given"] = told()
		if !strings.Contains(found["what tools were given"], tool+".") {
			t.Errorf("%s was not seen", tool)
		}
		inACell := func(said string) bool {
			name, _, _ := strings.Cut(said, "\x00")
			return slices.Contains(strings.Fields("tar mke2fs tune2fs resize2fs e2fsck dumpe2fs debugfs blkid wipefs mkswap"), name)
		}
		if len(seen) < 5 || !slices.ContainsFunc(slices.Collect(maps.Keys(seen)), inACell) {
			t.Errorf("%s: %d processes were seen, none of them in a cell", tool, len(seen))
		}
		cached, _ := filepath.Glob(filepath.Join(base, "cache/*"))
		for _, file := range cached {
			b, err := os.ReadFile(file)
			must(t, err)
			found["the cache's "+filepath.Base(file)] = filepath.Base(file) + string(b)
		}
		l.mounted(func(tree string) {
			holders := strings.Fields(l.tool("sh", "-c", "grep -rl CANARY "+tree+" || true"))
			if want := tree + "/etc/shadow"; !slices.Equal(holders, []string{want}) {
				t.Errorf("%s: in the guest these files hold a secret: %q", tool, holders)
			}
			l.receiptOf(tree, found["the log, warm"])
		})
		_, found["inspect"] = l.inspect()
		for where, text := range found {
			if i := strings.Index(text, "CANARY"); i >= 0 {
				t.Errorf("%s: a secret is in %s: …%s", tool, where, text[max(0, i-100):min(len(text), i+60)])
			}
		}
	}
}

// planned runs a command by hand with the environment that Ganeti gives.
func (l *lab) planned(args ...string) string {
	l.Helper()
	cmd := exec.Command(program, args...)
	for k, v := range l.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		l.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}

// fakeBootstrap stands in for a bootstrap tool: it makes a tree that names its
// mirror, and writes down what it was given.
func (l *lab) fakeBootstrap(name, notes string) {
	l.Helper()
	l.fake(name, fmt.Sprintf(`
case "$1" in --version) echo "%[1]s 1.5.0"; exit;; esac
{ tr '\0' '\n' </proc/$$/cmdline; tr '\0' '\n' </proc/$$/environ; } >%[3]s/%[1]s.$$
target=; for a; do mirror=$a; case "$a" in %[2]s/*) target=$a;; esac; done
mkdir -p "$target/etc/apt" "$target/usr"
echo "deb $mirror trixie main" >"$target/etc/apt/sources.list"
echo 'root:x:0:0:root:/root:/bin/bash' >"$target/etc/passwd"; echo 'root:*:19000:0:99999:7:::' >"$target/etc/shadow"
env >"$target/usr/env"; sleep 0.2`, name, base, notes))
}
