//go:build root

package root

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// initTree is sshTree with a shell and rm; of sysvinit, where that is wanted, with an
// update-rc.d that writes down what it is asked for.
func (l *lab) initTree(sysvinit bool) {
	l.Helper()
	l.sshTree()
	dir := l.TempDir()
	l.tool("tar", "-xf", l.tar(), "-C", dir)
	l.tool("sh", "-e", "-c", `mkdir -p "$1/bin"
for tool in sh rm; do tool=$(readlink -f "$(command -v $tool)"); cp "$tool" "$1/bin/${tool##*/}"
for lib in $(ldd "$tool" | grep -o '/[^ ]*'); do mkdir -p "$1/${lib%/*}"; cp "$lib" "$1/$lib"; done; done
ln -sf dash "$1/bin/sh"`, "sh", dir)
	if sysvinit {
		l.tool("rm", "-r", dir+"/lib/systemd")
		must(l, os.WriteFile(dir+"/etc/inittab", []byte("id:2:initdefault:\n"), 0o644))
		must(l, os.WriteFile(dir+"/usr/sbin/update-rc.d", []byte("#!/bin/sh\necho \"$@\" >/asked\n"), 0o755))
	}
	l.tool("tar", "-cf", l.tar(), "-C", dir, ".")
}

func TestTheGuestMakesItsRSAHostKeyAtItsFirstBootAndNeverAgain(t *testing.T) {
	const name, key = "instance-debootstrap-rsa-key", "/etc/ssh/ssh_host_rsa_key"
	for _, sysvinit := range []bool{false, true} {
		l := newLab(t, 600)
		l.initTree(sysvinit)
		l.create()
		l.change(func(tree string) {
			boot := []string{"chroot", tree, "/etc/init.d/" + name, "start"}
			if sysvinit {
				if asked := l.tool("cat", tree+"/asked"); asked != name+" defaults" {
					t.Errorf("update-rc.d was asked for %q", asked)
				}
			} else {
				unit := l.tool("cat", tree+l.tool("readlink", tree+"/etc/systemd/system/multi-user.target.wants/"+name+".service"))
				_, command, _ := strings.Cut(unit, "ExecStart=/bin/sh -c \"")
				command, _, found := strings.Cut(command, "\"\n")
				if !found || !strings.Contains(unit, "\nBefore=ssh.service ") {
					t.Errorf("the unit:\n%s", unit)
				}
				own := filepath.Join(t.TempDir(), name+".service")
				must(t, os.WriteFile(own, []byte(unit), 0o644))
				if out, err := exec.Command("systemd-analyze", "verify", "--man=no", own).CombinedOutput(); err != nil || strings.Contains(string(out), name) {
					t.Errorf("systemd says %s, %v", out, err)
				}
				boot = []string{"chroot", tree, "/bin/sh", "-c", command}
			}
			if _, err := os.Stat(tree + key); err == nil {
				t.Error("the key is made at create")
			}
			l.tool(boot...)
			if says := l.tool("ssh-keygen", "-l", "-f", tree+key); !strings.HasSuffix(says, "(RSA)") {
				t.Errorf("the key is %s", says)
			}
			if mode := l.tool("stat", "-c", "%a %u", tree+key); mode != "600 0" {
				t.Errorf("its mode is %s", mode)
			}
			l.tool("rm", tree+key)
			if out, err := exec.Command(boot[0], boot[1:]...).CombinedOutput(); err != nil && sysvinit {
				t.Errorf("at the second boot: %v, %s", err, out)
			}
			// systemd looks at its condition first
			_, wanted := os.Stat(tree + "/var/lib/instance-debootstrap/rsa-key-is-wanted")
			if _, err := os.Stat(tree + key); wanted == nil || sysvinit && err == nil {
				t.Error("a key that was removed is made again")
			}
		})
	}
}
