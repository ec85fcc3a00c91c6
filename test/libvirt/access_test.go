//go:build root

package libvirt

import (
	"fmt"
	"io"
	"io/fs"
	"net"
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

// intruderMark has this program try, as the user who runs it, each path and port that
// stands on a line of stdin.
const intruderMark = "TEST_LIBVIRT_INTRUDER"

// intrude prints what can be read, written, listed or connected to.
func intrude(in io.Reader) {
	text, _ := io.ReadAll(in)
	for name := range strings.Lines(string(text)) {
		name = strings.TrimSpace(name)
		if !strings.HasPrefix(name, "/") {
			if c, err := net.DialTimeout("tcp", name, time.Second); err == nil {
				fmt.Println("connects to", name)
				c.Close()
			}
			continue
		}
		if c, err := net.Dial("unix", name); err == nil {
			fmt.Println("connects to", name)
			c.Close()
		}
		for what, flags := range map[string]int{"reads": os.O_RDONLY, "writes": os.O_WRONLY} {
			if f, err := os.OpenFile(name, flags|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0); err == nil {
				fmt.Println(what, name)
				f.Close()
			}
		}
	}
}

// asNobody lists what an ordinary user of the node reaches.
func (l lab) asNobody(things []string) []string {
	l.Helper()
	cmd := exec.Command("/srv/tests")
	cmd.Env = append(os.Environ(), intruderMark+"=yes")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Stdin, cmd.Stderr, cmd.Dir = strings.NewReader(strings.Join(things, "\n")), os.Stderr, "/"
	out, err := cmd.Output()
	if err != nil {
		l.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// harmless is what everybody reaches on every node of libvirt's, without a guest. Who
// connects to its sockets has to be let in by polkit.
var harmless = regexp.MustCompile(`^reads (/var/lib/libvirt|/var/log/libvirt(/lxc|/qemu)?|/run/libvirt(/hostdevmgr|/qemu|/qemu/(passt|slirp)|/network|/storage)?|/run/libvirt/(network|storage|qemu)/(driver|autostarted|web1)\.pid|` +
	`/run/libvirt/network/.*|/run/libvirt/storage/.*|/var/log/libvirt/(qemu|lxc)/\.placeholder|/etc/libvirt/qemu(/networks)?(/autostart)?|/srv/pool|/mnt|/run/instance-debootstrap(/work)?|/dev/pts|/dev/pts/ptmx)$` +
	`|^(connects to|writes) /run/libvirt/libvirt-sock(-ro)?$|^(reads|writes) /dev/pts/ptmx$`)

// sockets lists what the emulator of a guest listens on, on TCP.
func (l lab) ports() (found []string) {
	for line := range strings.Lines(l.tool("ss", "-tlnpH")) {
		if f := strings.Fields(line); strings.Contains(line, "qemu") && len(f) > 3 {
			found = append(found, f[3])
		}
	}
	return found
}

// TestAGuestThatRuns is several tests of one guest, and one boot.
func TestAGuestThatRuns(t *testing.T) {
	l := newLab(t)
	l.vm(small("--graphics", "vnc", "--wait", "web1")...)
	t.Run("it is reached at once by the keys that its domain keeps", func(t *testing.T) {
		l := lab{t}
		l.vm("ssh", "-i", key, "web1", "true")
		if kept := l.tool("virsh", "-q", "metadata", "web1", "urn:instance-debootstrap:vm"); !strings.Contains(kept, "<hostkey>"+strings.TrimSpace(l.ssh("web1", "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub"))) {
			t.Errorf("the domain keeps:\n%s", kept)
		}
	})
	t.Run("an ordinary user of the node reaches nothing of it", func(t *testing.T) { lab{t}.keepsOthersOut() })
	t.Run("it is removed in order", func(t *testing.T) { lab{t}.removedInOrder("web1") })
	l.clean(5 * time.Second)
}

// keepsOthersOut has a user without rights try all that there is of web1, which is mounted.
func (l lab) keepsOthersOut() {
	l.vm("mount", "--read-only", "web1")
	ports := l.ports()
	if len(ports) != 1 || !strings.HasPrefix(ports[0], "127.0.0.1:") {
		l.Errorf("the guest's emulator listens on %v: only ssh's port on 127.0.0.1 was asked for", ports)
	}
	things := []string{"/mnt/web1/etc/passwd", "/mnt/web1/root", "/mnt/web1"}
	sockets := 0
	for _, top := range []string{"/var/lib/libvirt", "/var/log/libvirt", "/run/libvirt", "/etc/libvirt/qemu", pool, stateDir, "/run/instance-debootstrap", "/dev/pts", "/mnt"} {
		filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return nil // it is gone
			}
			things = append(things, path)
			if e.Type() == fs.ModeSocket && strings.Contains(path, "-web1/") {
				sockets++
			}
			if strings.Count(path, "/") > 7 {
				return fs.SkipDir
			}
			return nil
		})
	}
	if sockets != 3 || len(things) < 100 { // monitor, agent and VNC, and the tree that is mounted
		l.Errorf("of the guest's sockets %d are seen, and %d things in all", sockets, len(things))
	}
	for _, reached := range l.asNobody(things) {
		if !harmless.MatchString(reached) {
			l.Errorf("nobody %s", reached)
		}
	}
	// The same list is reached by root, so it is no list of what isn't there.
	for _, needed := range []string{"vnc.sock", "monitor.sock", "org.qemu.guest_agent.0", ".console", "/web1-root", "/web1.xml", "/mnt/web1/etc/passwd"} {
		if !slices.ContainsFunc(things, func(s string) bool { return strings.HasSuffix(s, needed) }) {
			l.Errorf("%s was not tried", needed)
		}
	}
	l.vm("umount", "web1")
}

// access returns the definition of web1's domain and the field of root's password. What its
// create printed must end with a line that says says.
func (l lab) access(shown, says string) (xml, password string) {
	l.Helper()
	lines := strings.Split(strings.TrimSpace(shown), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, says) {
		l.Fatalf("the last line does not say %q:\n%s", says, shown)
	}
	xml = l.tool("virsh", "-q", "dumpxml", "web1")
	l.vm("mount", "web1")
	shadow, _ := os.ReadFile("/mnt/web1/etc/shadow")
	l.vm("umount", "web1")
	field := regexp.MustCompile(`(?m)^root:([^:]*):`).FindSubmatch(shadow)
	if field == nil {
		l.Fatalf("no root in\n%s", shadow)
	}
	return xml, string(field[1])
}

// isLocked expects a guest that was made without an option of access.
func (l lab) isLocked(shown string) {
	xml, password := l.access(shown, "Ways in: vm ssh -i "+key+" web1; vm mount web1 while it is off. Root's password is locked")
	if password != "*" || strings.Contains(xml, "<graphics") || strings.Contains(xml, "<video") {
		l.Errorf("root's password is %q, in\n%s", password, xml)
	}
}
