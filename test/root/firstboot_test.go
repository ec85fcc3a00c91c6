//go:build root

package root

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	canaryData   = "#cloud-config\npassword: CANARYpassword\n"
	canaryScript = "#!/bin/sh\necho CANARYscript\n"
)

// firstBootTree is the tiny tree with files that have the names of systemd's and cloud-init's.
func (l *lab) firstBootTree(names ...string) {
	l.Helper()
	l.tinyTree()
	dir := l.TempDir()
	l.tool("tar", "-xf", l.tar(), "-C", dir)
	for _, name := range append(names, "bin/sh") {
		must(l, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(l, os.WriteFile(filepath.Join(dir, name), nil, 0o755))
	}
	l.tool("tar", "-cf", l.tar(), "-C", dir, ".")
}

func TestWhatTheFirstBootRunsIsRootsAlone(t *testing.T) {
	for _, how := range []string{"text", "file"} {
		l := newLab(t, 600)
		l.firstBootTree("usr/bin/cloud-init")
		l.env["OSP_USER_DATA"], l.env["OSP_FIRST_BOOT"] = canaryData, canaryScript
		if how == "file" {
			l.write("conf/user-data", canaryData, 0o600)
			l.write("conf/first-boot", canaryScript, 0o600)
			l.env["OSP_USER_DATA"], l.env["OSP_FIRST_BOOT"] = filepath.Join(base, "conf/user-data"), filepath.Join(base, "conf/first-boot")
		}
		l.env["DEBUG_LEVEL"] = "1"
		_, told := l.spy()
		watching := l.watch()
		log := l.planned("plan", "create") + l.create()
		for said := range watching() {
			if !strings.HasPrefix(said, "/bin/bash\x00--norc\x00") {
				log += said
			}
		}
		log += told()
		for _, never := range []string{"CANARY", "has no cloud-init", "has no /bin/sh"} {
			if at := strings.Index(log, never); at >= 0 {
				t.Errorf("%s: …%s", how, log[max(0, at-300):min(len(log), at+100)])
			}
		}
		l.mounted(func(tree string) {
			for name, want := range map[string]string{
				"var/lib/cloud/seed/nocloud/user-data":              canaryData,
				"var/lib/cloud/seed/nocloud/meta-data":              "instance-id: \"6c7b4cc2-6a3c-4a3a-9f8d-1b8f0c3a5a11\"\nlocal-hostname: \"inst1.example\"\n",
				"var/lib/instance-debootstrap/first-boot":           canaryScript,
				"etc/cloud/cloud.cfg.d/95-instance-debootstrap.cfg": "",
			} {
				b, err := os.ReadFile(filepath.Join(tree, name))
				if err != nil || want != "" && string(b) != want {
					t.Errorf("%s: %s: %v, %q", how, name, err, b)
				}
				st, err := os.Stat(filepath.Join(tree, name))
				must(t, err)
				if st.Sys().(*syscall.Stat_t).Uid != 0 || want != "" && st.Mode().Perm()&0o077 != 0 {
					t.Errorf("%s has mode %v", name, st.Mode())
				}
			}
			if link, err := os.Readlink(tree + "/etc/systemd/system/multi-user.target.wants/instance-debootstrap-first-boot.service"); err != nil || link == "" {
				t.Error(err)
			}
			holders := strings.Fields(l.tool("sh", "-c", "cd "+tree+"; grep -rl CANARY . | sort"))
			if got := strings.Join(holders, " "); got != "./var/lib/cloud/seed/nocloud/user-data ./var/lib/instance-debootstrap/first-boot" {
				t.Errorf("these hold a secret: %s", got)
			}
		})
	}
}

func TestARenameTellsCloudInitTheNameAndNothingElse(t *testing.T) {
	l := newLab(t, 600)
	l.firstBootTree("usr/bin/cloud-init")
	l.env["OSP_USER_DATA"] = canaryData
	l.create()
	l.env["OLD_INSTANCE_NAME"], l.env["INSTANCE_NAME"], l.env["INSTANCE_UUID"] = "inst1.example", "inst2.example", "00000000-6a3c-4a3a-9f8d-1b8f0c3a5a11"
	if log, exit := l.run("rename"); exit != 0 {
		t.Fatal(log)
	}
	const meta = "/var/lib/cloud/seed/nocloud/meta-data"
	l.mounted(func(tree string) {
		b, err := os.ReadFile(tree + meta)
		if err != nil || string(b) != "instance-id: \"6c7b4cc2-6a3c-4a3a-9f8d-1b8f0c3a5a11\"\nlocal-hostname: \"inst2.example\"\n" {
			t.Errorf("%v\n%s", err, b)
		}
		if st, err := os.Stat(tree + meta); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", err, st.Mode())
		}
	})
	l.change(func(tree string) { // the guest's own
		must(t, os.WriteFile(tree+meta, []byte("instance-id: mine\nlocal-hostname: other\n"), 0o600))
	})
	l.env["OLD_INSTANCE_NAME"], l.env["INSTANCE_NAME"] = "inst2.example", "inst3.example"
	if log, exit := l.run("rename"); exit != 0 {
		t.Fatal(log)
	}
	l.mounted(func(tree string) {
		if b, err := os.ReadFile(tree + meta); err != nil || string(b) != "instance-id: mine\nlocal-hostname: other\n" {
			t.Errorf("%v\n%s", err, b)
		}
	})
}

func TestWhatTheFirstBootCouldNotRunIsRefusedBeforeTheDiskIsTouched(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/open", []byte(canaryData), 0o600))
	must(t, os.Chmod(dir+"/open", 0o666))
	must(t, os.WriteFile(dir+"/text", []byte("CANARY\n"), 0o600))
	for want, set := range map[string][2]string{
		"USER_DATA: file " + dir + "/none on this node: no such file": {"OSP_USER_DATA", dir + "/none"},
		"can be written by everybody":                                 {"OSP_USER_DATA", dir + "/open"},
		"USER_DATA: file " + dir + "/text on this node: its first":    {"OSP_USER_DATA", dir + "/text"},
		"FIRST_BOOT: file " + dir + "/text on this node: must begin":  {"OSP_FIRST_BOOT", dir + "/text"},
		"FIRST_BOOT=(hidden): must begin with #!":                     {"OSP_FIRST_BOOT", "CANARY"},
		"USER_DATA=(hidden): is no YAML: line 2":                      {"OSP_USER_DATA", "#cloud-config\n\tCANARY: [\n"},
		"USER_DATA needs systemd":                                     {"OSP_USER_DATA", canaryData},
	} {
		l := newLab(t, 600)
		l.tinyTree()
		if l.env[set[0]] = set[1]; strings.HasSuffix(want, "systemd") {
			l.env["OSP_EXTRA_PKGS"] = "sysvinit-core"
		}
		if log := l.fails(want); strings.Contains(log, "CANARY") {
			t.Error(log)
		}
		l.untouched()
		if log, exit := l.run("verify", "parameters"); exit != 1 || !strings.Contains(log, want) {
			t.Errorf("verify: exit status %d\n%s", exit, log)
		}
	}
}

func TestAGuestThatLacksWhatItsFirstBootNeedsIsWarnedOf(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.env["OSP_USER_DATA"], l.env["OSP_FIRST_BOOT"] = canaryData, "#!/usr/bin/python3\n"
	log := l.create()
	for _, want := range []string{"has no cloud-init", "has no /usr/bin/python3"} {
		if !strings.Contains(log, want) {
			t.Errorf("%q is not in\n%s", want, log)
		}
	}
}

func TestUserDataBringsCloudInitIntoTheTree(t *testing.T) {
	l := newLab(t, 600)
	l.fakeDebootstrap("0")
	l.env["OSP_USER_DATA"] = canaryData
	l.create()
	if out, exit := l.byHand("cache", "list"); exit != 0 || !strings.Contains(out, "cloud-init") || strings.Contains(out, "CANARY") {
		t.Errorf("exit status %d\n%s", exit, out)
	}
}

func TestInstallByHandTakesWhatTheFirstBootRunsFromFiles(t *testing.T) {
	l := newLab(t, 600)
	l.firstBootTree("usr/bin/cloud-init")
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/data", []byte(canaryData), 0o600))
	must(t, os.WriteFile(dir+"/script", []byte(canaryScript), 0o600))
	cmd := exec.Command(program, "install", "--cloud-init", "data", "--first-boot", "script", l.disk)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l.mounted(func(tree string) {
		for name, want := range map[string]string{"cloud/seed/nocloud/user-data": canaryData, "instance-debootstrap/first-boot": canaryScript} {
			if b, _ := os.ReadFile(tree + "/var/lib/" + name); string(b) != want {
				t.Errorf("%s: %q", name, b)
			}
		}
	})
}

// The runner is run on this machine, with folders of the test's own in the place of the
// guest's.
func TestTheScriptOfTheFirstBootRunsOnceHoweverItEnds(t *testing.T) {
	for name, c := range map[string]struct{ script, log, left string }{
		"well":              {"#!/bin/sh\nset -u\necho \"home is $HOME, at $(pwd)\"\n", "home is /root, at /\n", ""},
		"with a failure":    {"#!/bin/sh\necho hello\nexit 7\n", "ended with exit status 7", "first-boot.begun"},
		"in a crash":        {"#!/bin/sh\necho hello\nkill -9 $PPID\nsleep 5\n", "hello", "first-boot.begun"},
		"without a program": {"#!/no/such\n", "ended with exit status 127", "first-boot.begun"},
	} {
		l := newLab(t, 600)
		l.firstBootTree()
		l.env["OSP_FIRST_BOOT"] = c.script
		l.create()
		lib, logs := t.TempDir(), t.TempDir()
		l.mounted(func(tree string) { l.tool("sh", "-c", "cp -p "+tree+"/var/lib/instance-debootstrap/*first-boot* "+lib) })
		for range 2 {
			sh := fmt.Sprintf("mount -t tmpfs none /var/lib && mkdir /var/lib/instance-debootstrap && mount --bind %s /var/lib/instance-debootstrap && mount --bind %s /var/log && exec env -i /var/lib/instance-debootstrap/run-first-boot", lib, logs)
			exec.Command("unshare", "--mount", "sh", "-c", sh).Run()
			time.Sleep(100 * time.Millisecond)
		}
		b, err := os.ReadFile(logs + "/instance-debootstrap-first-boot.log")
		if err != nil || strings.Count(string(b), "begins") != 1 || !strings.Contains(string(b), c.log) {
			t.Errorf("%s: %v\n%s", name, err, b)
		}
		if st, err := os.Stat(logs + "/instance-debootstrap-first-boot.log"); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: the log has %v, %v", name, st.Mode(), err)
		}
		left, _ := filepath.Glob(lib + "/first-boot*")
		for i := range left {
			left[i] = filepath.Base(left[i])
		}
		if got := strings.Join(left, " "); got != c.left {
			t.Errorf("%s: left is %q, want %q", name, got, c.left)
		}
	}
}

func TestAGuestWithoutSystemdRunsItsFirstBootByAnInitScript(t *testing.T) {
	l := newLab(t, 600)
	l.firstBootTree("etc/inittab", "usr/bin/true")
	dir := l.TempDir()
	l.tool("tar", "-xf", l.tar(), "-C", dir)
	must(t, os.Remove(dir+"/lib/systemd/systemd"))
	l.tool("sh", "-e", "-c", `rm "$1/bin/sh"; cp /bin/dash "$1/bin/sh"; mkdir -p "$1/usr/sbin"
for lib in $(ldd /bin/dash | grep -o '/[^ ]*'); do mkdir -p "$1/${lib%/*}"; cp "$lib" "$1/$lib"; done
printf '#!/bin/sh\necho "$@" >/etc/update-rc.d-said\n' >"$1/usr/sbin/update-rc.d"; chmod 755 "$1/usr/sbin/update-rc.d" "$1/bin/sh"; tar -cf "$2" -C "$1" .`, "sh", dir, l.tar())
	l.env["OSP_FIRST_BOOT"] = canaryScript
	l.create()
	l.mounted(func(tree string) {
		if b, _ := os.ReadFile(tree + "/etc/update-rc.d-said"); string(b) != "instance-debootstrap-first-boot defaults\n" {
			t.Errorf("update-rc.d was called with %q", b)
		}
		l.tool("sh", "-n", tree+"/etc/init.d/instance-debootstrap-first-boot")
	})
}
