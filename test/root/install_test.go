//go:build root

package root

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// byHand runs the program under its own name.
func (l *lab) byHand(args ...string) (out string, exit int) {
	l.Helper()
	cmd := l.byHandCommand(args...)
	b, err := cmd.CombinedOutput()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		l.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

func (l *lab) byHandCommand(args ...string) *exec.Cmd {
	cmd := exec.Command("unshare", append([]string{"-m", "sh", "-c", `mount --bind "$0" /usr/local/sbin && exec "$@"`, l.fakes, program}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

func TestInstallMakesANewImage(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	must(t, os.Remove(l.disk))
	out, exit := l.byHand("install", "--suite", "trixie", "--size", "600M", "--hostname", "guest.example", "--partition-style", "gpt", l.disk)
	if exit != 0 || !strings.Contains(out, "guest.example is installed on "+l.disk) {
		t.Fatalf("exit status %d\n%s", exit, out)
	}
	l.clean(0)
	l.checkFilesystem("ext4")
	l.mounted(func(tree string) {
		if got := l.tool("cat", tree+"/etc/hostname"); got != "guest.example" {
			t.Errorf("hostname %q", got)
		}
	})
}

func TestInstallShowsProgressOnATerminal(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	must(t, os.Remove(l.disk))
	out := l.tool("script", "-qec", fmt.Sprintf("%s install --size 600M --hostname guest.example %s", program, l.disk), "/dev/null")
	for _, want := range []string{"[ 1/", "] claim the disks: ", "] copy the filesystem image: ext4", "guest.example is installed on"} {
		if !strings.Contains(out, want) {
			t.Errorf("the terminal shows no %q:\n%s", want, out)
		}
	}
}

func TestInstallSaysHowToGetIntoTheGuest(t *testing.T) {
	l := newLab(t, 600)
	l.sshTree()
	must(t, os.Remove(l.disk))
	public, _ := l.keyFile()
	password := filepath.Join(t.TempDir(), "password")
	must(t, os.WriteFile(password, []byte("locked\n"), 0o600))
	install := []string{"install", "--suite", "trixie", "--arch", tinyArch, "--size", "600M", "--hostname", "x.example", l.disk}
	for _, c := range []struct{ options, says string }{
		{"", `(?m)^Its console lets root in without a password: set one there \(passwd\)\.\nIts ssh server lets root in with a key, and none was given: --ssh-key names one\.\n`},
		{"--root-password-file " + password + " --ssh-key " + public, `(?m)^Its console lets nobody in: root's password is locked\.\nIts ssh server lets root in with the keys that were given, once it has a network: by a hook, or by --network dhcp\.\n`},
	} {
		out := l.tool("script", "-qec", strings.Join(slices.Concat([]string{program, "install", c.options}, install[1:]), " "), "/dev/null")
		l.matches(strings.ReplaceAll(out, "\r", ""), c.says+`Its ssh server is known by ecdsa-sha2-nistp256 SHA256:[^ ]*\.\nIts ssh server is known by ssh-ed25519 SHA256:[^ ]*\.\nx\.example is installed on `)
		must(t, os.Remove(l.disk))
	}
	l.tinyTree()
	out, exit := l.byHand(install...)
	if exit != 0 {
		t.Fatal(out)
	}
	l.matches(out, `It has no ssh server: --extra-pkgs openssh-server gives it one\.\n`)
}

func TestInstallThatFailsOrIsKilledLeavesNoImage(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	must(t, os.Remove(l.disk))
	l.hook("10-fails", "exit 1")
	args := []string{"install", "--size", "600M", "--hostname", "guest.example", l.disk}
	if out, exit := l.byHand(args...); exit != 1 {
		t.Errorf("exit status %d\n%s", exit, out)
	}
	l.hook("10-fails", fmt.Sprintf("exec -a %s sleep 1000", mark()))
	cmd := exec.Command(program, args...)
	must(t, cmd.Start())
	<-l.running()
	must(t, cmd.Process.Kill())
	cmd.Wait()
	l.clean(2 * time.Second)
	if entries, _ := os.ReadDir(filepath.Dir(l.disk)); len(entries) != 0 {
		t.Errorf("left %v", entries)
	}
}

func TestInstallNeverOverwritesDataUnasked(t *testing.T) {
	for name, put := range map[string]string{
		"filesystem":      "mke2fs -q -F -t ext4 %s",
		"partition table": "echo ',,L' | sfdisk -q %s",
		"swap":            "mkswap -q %s",
		"unknown content": "printf data | dd of=%s bs=1 seek=123456 conv=notrunc status=none",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 600)
			l.tinyTree()
			l.tool("sh", "-c", fmt.Sprintf(put, l.disk))
			before := l.tool("sha256sum", l.disk)
			out, exit := l.byHand("install", "--hostname", "guest.example", l.disk)
			if exit != 1 || !strings.Contains(out, "--force") || !strings.Contains(out, "holds") {
				t.Errorf("exit status %d\n%s", exit, out)
			}
			if l.tool("sha256sum", l.disk) != before {
				t.Error("the disk was changed")
			}
			if out, exit := l.byHand("install", "--force", "--hostname", "guest.example", l.disk); exit != 0 {
				t.Errorf("with --force: exit status %d\n%s", exit, out)
			}
			l.checkFilesystem("ext4")
		})
	}
}

func TestInstallRefusesWrongUsage(t *testing.T) {
	l := newLab(t, 600)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"install"}, "expected one DISK"},
		{[]string{"install", "a", "b"}, "expected one DISK"},
		{[]string{"install", "--size", "2X", "/no/such"}, `"2X"`},
		{[]string{"install", "--size", "2G", l.disk}, "exists already"},
		{[]string{"install", "/no/such"}, "give --size"},
		{[]string{"install", "--no-such-flag", "x"}, "no-such-flag"},
		{[]string{"install", "/no/such", "--size", "2X"}, `"2X"`},
		{[]string{"nonsense"}, `unknown command "nonsense"`},
		{[]string{"plan", "verify"}, `unknown command "verify"`},
		{[]string{"--log-format", "xml", "version"}, "text or json"},
	} {
		out, exit := l.byHand(c.args...)
		if exit != 2 || !strings.Contains(out, c.want) {
			t.Errorf("%v: exit status %d, %q; want %q", c.args, exit, out, c.want)
		}
	}
	l.untouched()
}

// TestEachVerbHasAPlanThatTouchesNothing: what import does depends on what the backup holds,
// and the plan says what doesn't fit.
func TestEachVerbHasAPlanThatTouchesNothing(t *testing.T) {
	l := newMoveLab(t, 600)
	l.tinyTree()
	must(t, os.Symlink(program, filepath.Join(base, "os/instance-debootstrap")))
	l.create()
	maps.Copy(l.env, map[string]string{"OLD_INSTANCE_NAME": "old.example", "EXPORT_INDEX": "0", "EXPORT_DEVICE": l.disk, "IMPORT_INDEX": "0", "IMPORT_DEVICE": l.disk})
	before := l.tool("sha256sum", l.disk)
	plan := func(verb, stdin string, want ...string) {
		t.Helper()
		cmd := l.command("instance-debootstrap", "plan", verb)
		if stdin != "" {
			in, err := os.Open(stdin)
			must(t, err)
			defer in.Close()
			cmd.Stdin = in
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("plan %s: %v\n%s", verb, err, out)
		}
		at := 0
		for _, text := range want {
			i := strings.Index(string(out)[at:], text)
			if i < 0 {
				t.Fatalf("plan %s doesn't say %q, after what comes before it:\n%s", verb, text, out)
			}
			at += i
		}
	}
	plan("rename", "", "1. claim the disk: "+l.disk+" (600 MiB, table: msdos, holds ext4", "change the host name: old.example to ")
	plan("export", "", "1. claim the disk: "+l.disk+" (600 MiB, table: msdos, holds ext4", "write the backup")
	dir := t.TempDir()
	l.env["OSP_EXPORT_FORMAT"] = "tar"
	files, image := filepath.Join(dir, "files"), filepath.Join(dir, "image")
	for format, name := range map[string]string{"tar": files, "image": image} {
		l.env["OSP_EXPORT_FORMAT"] = format
		out, err := os.Create(name)
		must(t, err)
		cmd := l.command("export")
		cmd.Stdout = out
		must(t, cmd.Run())
		out.Close()
	}
	plan("import", files, "check that it fits", "wipe the disk", "unpack the files", "update fstab and UUIDs", "write the partition table", "commit")
	plan("import", image, "check that it fits", "write the blocks", "commit")
	if after := l.tool("sha256sum", l.disk); after != before {
		t.Error("a plan has changed the disk")
	}
	small := filepath.Join(dir, "small")
	must(t, os.WriteFile(small, nil, 0o644))
	must(t, os.Truncate(small, 20<<20))
	l.env["IMPORT_DEVICE"] = small
	cmd := l.command("instance-debootstrap", "plan", "import")
	in, err := os.Open(files)
	must(t, err)
	defer in.Close()
	cmd.Stdin = in
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "refused: ") || !strings.Contains(string(out), "too small") {
		t.Errorf("a disk that is too small: %v\n%s", err, out)
	}
	l.clean(0)
}

func TestPlanTellsTheStepsAndTouchesNothing(t *testing.T) {
	l := newLab(t, 600)
	must(t, os.Symlink(program, filepath.Join(base, "os/instance-debootstrap")))
	l.env["OSP_MIRROR"] = "http://user:secret@mirror.example/debian"
	text, exit := l.run("instance-debootstrap", "plan", "create")
	if exit != 0 || !strings.Contains(text, "partition the disk: "+l.disk+", style msdos") || !strings.Contains(text, "not in the cache yet") || !strings.Contains(text, "600 MiB, holds nothing known") {
		t.Errorf("exit status %d\n%s", exit, text)
	}
	out, exit := l.run("instance-debootstrap", "plan", "create", "--json")
	var plan struct {
		Disk  string
		Steps []struct {
			Name   string
			Needed bool
		}
	}
	if err := json.Unmarshal([]byte(out), &plan); err != nil || exit != 0 || plan.Disk != l.disk || len(plan.Steps) < 8 {
		t.Errorf("%v, exit status %d\n%s", err, exit, out)
	}
	if strings.Contains(text+out, "secret") {
		t.Errorf("the mirror's password is in the plan:\n%s", text)
	}
	l.env["DISK_0_PATH"] = "/no/such/disk"
	if text, exit := l.run("instance-debootstrap", "plan", "create"); exit != 1 || !strings.Contains(text, "no such file") {
		t.Errorf("a disk that isn't there: exit status %d\n%s", exit, text)
	}
	l.untouched()
	l.clean(0)
	if entries, _ := os.ReadDir(filepath.Join(base, "cache")); len(entries) != 0 {
		t.Errorf("the cache has %v", entries)
	}
}

func TestTwoCreatesAtOnceBuildOneTree(t *testing.T) {
	l := newLab(t, 600)
	l.fakeDebootstrap("4")
	second := filepath.Join(filepath.Dir(l.disk), "other-disk")
	must(t, os.WriteFile(second, nil, 0o600))
	must(t, os.Truncate(second, 600<<20))
	first := l.command("create")
	log1, err := os.Create(filepath.Join(t.TempDir(), "log"))
	must(t, err)
	first.Stderr = log1
	must(t, first.Start())
	<-l.running()
	l.env["DISK_0_PATH"] = second
	log2, exit := l.run("create")
	if err := first.Wait(); err != nil || exit != 0 {
		t.Fatalf("first: %v, second: exit status %d\n%s", err, exit, log2)
	}
	b, _ := os.ReadFile(log1.Name())
	if n := strings.Count(string(b)+log2, "I: Retrieving"); n != 1 {
		t.Errorf("%d bootstraps\n%s\n%s", n, b, log2)
	}
	if !strings.Contains(log2, "wait") {
		t.Errorf("the second does not say that it waits:\n%s", log2)
	}
	l.clean(0)
}

func TestSecondCreateOnOneDiskIsRefused(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.hook("10-slow", fmt.Sprintf("(exec -a %s sleep 2)", mark()))
	first := l.command("create")
	must(t, first.Start())
	<-l.running()
	out, exit := l.run("create")
	if exit != 1 || !strings.Contains(out, "another run") {
		t.Errorf("exit status %d\n%s", exit, out)
	}
	must(t, first.Wait())
	l.clean(0)
	l.checkFilesystem("ext4")
}

func TestHooksGetNoInheritedDescriptors(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.hook("10-fds", `ls -l /proc/self/fd > "$TARGET/fds"`)
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	cmd := l.command("create")
	cmd.ExtraFiles = []*os.File{w, w, w, w, w, w} // as Ganeti's node daemon leaves some open
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.Close()
	l.mounted(func(tree string) {
		for line := range strings.Lines(l.tool("cat", tree+"/fds")) {
			f := strings.Fields(line)
			if len(f) > 8 && f[8] > "3" { // 3 is ls's own
				t.Errorf("a hook has %s", line)
			}
		}
	})
}

func TestNamespaceHostShowsTargetToTheNode(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.write("default", "NAMESPACE=host\n", 0o644)
	l.hook("10-ns", `readlink /proc/self/ns/pid > "$TARGET/pid-ns"; findmnt -n -o TARGET "$TARGET" > "$TARGET/seen"`)
	l.create()
	self, err := os.Readlink("/proc/self/ns/pid")
	must(t, err)
	l.mounted(func(tree string) {
		if got := l.tool("cat", tree+"/pid-ns"); got != self {
			t.Errorf("the hook ran in %s, the node is %s", got, self)
		}
	})
}

func TestNoPasswordInAnyMessage(t *testing.T) {
	l := newLab(t, 600)
	l.fake("debootstrap", `case "$1" in --version) echo "debootstrap 1.0.0"; exit;; esac; echo "E: Failed getting release file $* by $http_proxy" >&2; exit 1`)
	l.write("default", "PROXY=http://user:CANARY@proxy.example:3128/\nKEEP_PACKAGES=no\n", 0o644)
	l.env["OSP_MIRROR"], l.env["OSP_BOOTSTRAP"] = "http://user:CANARY@mirror.example/debian", "debootstrap"
	for value, want := range map[string]string{
		"$y$j9T$CANARYCANARYCANARYCANA$CANARYCANARYCANARYCANARYCANARYCANARYCANARYC": "***@proxy.example",
		"CANARY": "ROOT_PASSWORD=(hidden)", // no hash: refused, and not shown
	} {
		l.env["OSP_ROOT_PASSWORD"], l.env["DEBUG_LEVEL"] = value, "3"
		log, exit := l.run("create")
		if exit != 1 || strings.Contains(log, "CANARY") || !strings.Contains(log, want) {
			t.Errorf("exit status %d, want %q\n%s", exit, want, log)
		}
	}
}

func TestCacheVerifyFindsADamagedEntry(t *testing.T) {
	l := newLab(t, 600)
	l.fakeDebootstrap("0")
	l.create()
	if out, exit := l.byHand("cache", "verify"); exit != 0 || !strings.Contains(out, ": ok") {
		t.Errorf("exit status %d\n%s", exit, out)
	}
	if out, exit := l.byHand("cache", "list"); exit != 0 || !strings.Contains(out, "trixie/amd64 by debootstrap") {
		t.Errorf("exit status %d\n%s", exit, out)
	}
	tars, _ := filepath.Glob(filepath.Join(base, "cache/*.tar"))
	st, err := os.Stat(tars[0])
	must(t, err)
	l.tool("sh", "-c", "printf x | dd of="+tars[0]+" bs=1 seek=20000 conv=notrunc status=none")
	must(t, os.Chtimes(tars[0], st.ModTime(), st.ModTime()))
	if out, exit := l.byHand("cache", "verify"); exit != 1 || !strings.Contains(out, filepath.Base(tars[0])) {
		t.Errorf("exit status %d\n%s", exit, out)
	}
}

func TestGenerateCacheOffInstallsWithoutACache(t *testing.T) {
	l := newLab(t, 600)
	l.fakeDebootstrap("0")
	l.write("default", "BOOTSTRAP=debootstrap\nGENERATE_CACHE=no\nSECURITY_MIRROR=none\n", 0o644)
	l.create()
	if entries, _ := os.ReadDir(filepath.Join(base, "cache")); len(entries) != 0 {
		t.Errorf("the cache has %v", entries)
	}
	l.checkFilesystem("ext4")
}

// Whether libvirt answers or not.
func TestWhatIsWrongWithAVMsOptionsIsSaidWithoutLibvirt(t *testing.T) {
	l := newLab(t, 600)
	public, _ := l.keyFile()
	out, exit := l.byHand("vm", "create", "--dry-run", "--user-net", "--ssh-key", public, "--memory", "abc", "--vcpus", "0", "--domain", "-x", "--credential", "a", "web1")
	for _, want := range []string{`--memory "abc": must be at least 128M`, `--vcpus "0": must be a number`, `--domain "-x": not a domain`, "--credential a: must be NAME=FILE"} {
		if exit != 2 || !strings.Contains(out, want) {
			t.Errorf("exit status %d, without %q:\n%s", exit, want, out)
		}
	}
}
