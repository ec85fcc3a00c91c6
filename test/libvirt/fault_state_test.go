//go:build root

package libvirt

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"instance-debootstrap/test/fault"
)

// state is what there is of web1.
type state struct {
	found []string // what is on the node, without numbers that differ from run to run
	xml   string   // the domain, the same
	root  string   // its files, and the filesystem's size
	bytes int64    // the root's volume
}

func (s state) has(what string) bool {
	return slices.ContainsFunc(s.found, func(f string) bool { return strings.HasPrefix(f, what) })
}

func (s state) isSame(other state) bool {
	return slices.Equal(s.found, other.found) && s.xml == other.xml && s.root == other.root && s.bytes == other.bytes
}

func (s state) String() string {
	return fmt.Sprintf("%q, root of %d bytes:\n%s\n%s", s.found, s.bytes, s.root, s.xml)
}

// ownNumbers are what differs between two guests that were made alike.
var ownNumbers = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|52:54:00(:[0-9a-f]{2}){3}|hostfwd=tcp:127.0.0.1:[0-9]+|<instance-debootstrap:port>[0-9]+|port[>=]'?[0-9]+|/dev/loop[0-9]+|2222[0-9]|:222[0-9]+`)

// numberFields are those of mountinfo that say nothing.
var numberFields = regexp.MustCompile(`^mount [0-9]+ [0-9]+ [0-9:]+ (\S+ \S+).*`)

// lookAtRoot ends when the kernel has given up its loop device, which the next look would see.
const lookAtRoot = `n=$(losetup --associated "$1" | wc -l); start=$(sfdisk --dump "$1" 2>/dev/null | sed -n 's/.*start= *\([0-9]*\).*/\1/p' | tail -n 1)
d=$(mktemp -d) && mount -o ro,noload,loop,offset=$((${start:-0} * 512)) "$1" "$d" && df --output=size "$d" | tail -n 1 &&
(cd "$d" && find . -xdev ! -type d -printf '%P %y %s %m\n' | grep -v '^lost+found' | sort); umount "$d"; rmdir "$d"
for i in $(seq 100); do [ $(losetup --associated "$1" | wc -l) -gt $n ] || break; sleep 0.05; done`

// look is not of a guest whose root is mounted elsewhere: what is there is as it may be.
func (c *vmCase) look() (s state) {
	l := c.l
	for _, f := range l.remnants() {
		s.found = append(s.found, ownNumbers.ReplaceAllString(numberFields.ReplaceAllString(f, "mount $1"), "N"))
	}
	if strings.Contains(l.try("virsh", "-q", "list", "--name"), "web1") {
		s.found = append(s.found, "running web1")
	}
	files, _ := filepath.Glob(credentials + "/*/*")
	for _, file := range files {
		s.found = append(s.found, "credential "+filepath.Base(file))
	}
	slices.Sort(s.found)
	if s.has("domain web1") {
		lines := strings.Split(ownNumbers.ReplaceAllString(l.try("virsh", "-q", "dumpxml", "--inactive", "web1"), "N"), "\n")
		slices.Sort(lines) // libvirtd orders devices anew when it starts
		s.xml = strings.Join(lines, "\n")
	}
	for _, path := range []string{pool + "/web1-root", pool + "/web1"} {
		if st, err := os.Stat(path); err == nil {
			s.bytes = st.Size()
			s.root = l.try("sh", "-c", lookAtRoot, "sh", path)
		}
	}
	return s
}

// processes are those that a run could leave.
func (l lab) processes() (list []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		comm, _ := os.ReadFile(dir + "/comm")
		status, _ := os.ReadFile(dir + "/stat")
		name := strings.TrimSpace(string(comm))
		if name == "" || strings.Contains(string(status), ") Z ") || slices.Contains([]string{"libvirtd", "virtlogd", "dnsmasq", "inside", "tests", "bash", "rpc-libvirtd"}, name) || strings.Contains(name, "rpc-") {
			continue
		}
		exe, err := os.Readlink(dir + "/exe")
		if err != nil { // the kernel's
			continue
		}
		line, _ := os.ReadFile(dir + "/cmdline")
		list = append(list, filepath.Base(dir)+" "+exe+" "+strings.ReplaceAll(string(line), "\x00", " "))
	}
	return list
}

// leaves is what a run that has ended leaves, and must not, whatever became of the guest.
func (c *vmCase) leaves(within time.Duration) (problems []string) {
	for deadline := time.Now().Add(within); ; time.Sleep(50 * time.Millisecond) {
		problems = nil
		runs := strings.TrimSpace(c.l.try("virsh", "-q", "list", "--name")) != "" // and so is QEMU, which has its disks
		for _, p := range c.l.processes() {
			if !slices.Contains(c.processes, p) && !(runs && strings.Contains(p, "qemu-system")) {
				problems = append(problems, "process "+p)
			}
		}
		files, _ := filepath.Glob("/run/instance-debootstrap/lock/*")
		if disks, _ := filepath.Glob(pool + "/*"); !runs && c.l.try("grep", "/run/instance-debootstrap/guest/", "/proc/self/mountinfo") == "" { // what is mounted is locked
			files = append(files, disks...)
		}
		for _, file := range files {
			if isLocked(file) {
				problems = append(problems, file+" is locked")
			}
		}
		work, _ := filepath.Glob("/run/instance-debootstrap/work/*")
		problems = append(problems, work...)
		if len(problems) == 0 || time.Now().After(deadline) {
			return problems
		}
	}
}

const savedDir = "/srv/fault/saved"

// reset removes all that there is of web1.
func (c *vmCase) reset() {
	c.l.try("sh", "-c", `grep -o ' /run/instance-debootstrap/guest/[^ ]*' /proc/self/mountinfo | sort -r | xargs -r umount
virsh -q destroy web1; virsh -q undefine --nvram --managed-save web1
rm -rf `+pool+`/* `+stateDir+`/* `+credentials+` /mnt/* /run/instance-debootstrap/guest/* /run/instance-debootstrap/lock/* /var/log/libvirt/qemu/web1*
virsh -q pool-refresh default`)
}

// save keeps web1, for restore.
func (c *vmCase) save() {
	c.l.tool("sh", "-e", "-c", `rm -rf "$0"; mkdir -p "$0"; cp -a --sparse=always "$1" "$0/pool"; virsh -q dumpxml --inactive web1 >"$0/web1.xml"; cp -a `+credentials+` "$0/credentials"`, savedDir, pool)
}

// restore has web1 as it was before, or none.
func (c *vmCase) restore() {
	c.l.Helper()
	c.reset()
	if c.isThere {
		c.l.tool("sh", "-e", "-c", `cp -a --sparse=always "$0/pool/." "$1"; cp -a "$0/credentials" `+credentials+`; virsh -q pool-refresh default; virsh -q define "$0/web1.xml"`, savedDir, pool)
	}
	if c.path == "running" {
		c.l.virsh("start", "web1")
	}
}

// judgeCreate: after success web1 is there, and otherwise nothing is, unless libvirt couldn't be
// asked to remove it, which the run says; or the guest was whole.
func (c *vmCase) judgeCreate(r fault.Ran, now state, cell fault.Cell) string {
	whole := now.isSame(c.good)
	switch {
	case r.Exit == 0 && !whole:
		return fmt.Sprintf("success, and it is not the guest: %v\n  but it was: %v", now, c.good)
	case whole && r.Exit > 0 && !strings.Contains(r.Log, "stays"):
		return "it failed, and the guest is there"
	case len(now.found) == 0, whole:
		return ""
	case now.has("file "+stateDir+"/web1.making") && spoilsLibvirt(cell) && (r.Exit < 0 || strings.Contains(r.Log, "vm list tries again")):
		return ""
	}
	return fmt.Sprintf("left are %q", now.found)
}

// spoilsLibvirt tells whether a cell's fault keeps libvirt from being asked at the end.
func spoilsLibvirt(c fault.Cell) bool {
	return c.Kind == libvirtdEnds || c.Kind == libvirtdHangs || c.Kind == poolInactive
}

// judgeRemove: the domain goes last, so that what is left is found by it; but for disks in no active
// pool, which are told.
func (c *vmCase) judgeRemove(r fault.Ran, now state, _ fault.Cell) string {
	switch {
	case r.Exit == 0 && len(now.found) > 0:
		return fmt.Sprintf("success, and left are %q", now.found)
	case len(now.found) == 0 || now.has("domain web1"):
		return ""
	case r.Exit == 1 && strings.Contains(r.Log, "the guest web1 is removed, but these disks of it are not: ") && !slices.ContainsFunc(now.found, func(f string) bool {
		return !strings.HasPrefix(f, "file "+pool) && !strings.HasPrefix(f, "volume ")
	}):
		return ""
	}
	return fmt.Sprintf("the domain is gone, and left are %q", now.found)
}

// judgeGrow: the guest is as it was, but for sizes.
func (c *vmCase) judgeGrow(r fault.Ran, now state, _ fault.Cell) string {
	_, files, _ := strings.Cut(now.root, "\n")
	_, before, _ := strings.Cut(c.before.root, "\n")
	switch {
	case r.Exit == 0 && !now.isSame(c.good):
		return fmt.Sprintf("success, and it is %v\n  not %v", now, c.good)
	case !slices.Equal(now.found, c.before.found) || now.xml != c.before.xml || files != before:
		return fmt.Sprintf("it was %v\n  and is %v", c.before, now)
	case now.bytes != c.before.bytes && now.bytes != c.good.bytes:
		return fmt.Sprintf("the volume has %d bytes", now.bytes)
	}
	return ""
}

// judgeMount: what a run that was killed has mounted stays until vm umount; and what one has that
// could only not tell it.
func (c *vmCase) judgeMount(r fault.Ran, now state, cell fault.Cell) string {
	switch {
	case r.Exit == 0 && !slices.Equal(now.found, c.good.found):
		return fmt.Sprintf("success, and there are %q, not %q", now.found, c.good.found)
	case r.Exit > 0 && !slices.Equal(now.found, c.before.found) && !(slices.Equal(now.found, c.good.found) && strings.Contains(r.Log, "and stays (unmount it: ")):
		return fmt.Sprintf("it failed, and there are %q, not %q", now.found, c.before.found)
	case now.xml != c.before.xml:
		return "the domain is another"
	}
	return ""
}
