//go:build root

package root

import (
	"os"
	"strings"
	"testing"
)

// spy is put before a tool that the program runs on a guest's disk, and tries
// what a tool that was led astray would do.
const spy = `
echo "devices: $(find /dev -type b | tr '\n' ' ')" >&2
for dir in / /etc /usr /var/tmp /tmp /sys /boot "$HOME"; do
  touch "$dir/led-astray" 2>/dev/null && echo "could write to $dir" >&2
done
exec /usr/sbin/e2fsck "$@"`

func TestToolsOnAGuestsDiskSeeNoOtherDiskAndCannotChangeTheNode(t *testing.T) {
	l := newLab(t, 600)
	l.guest("msdos", "ext4")
	l.fake("e2fsck", spy)
	l.env["DEBUG_LEVEL"] = "1"
	log, exit := l.run("rename")
	if exit != 0 {
		t.Fatalf("exit status %d\n%s", exit, log)
	}
	devices := ""
	for line := range strings.Lines(log) {
		if _, list, ok := strings.Cut(line, "devices: "); ok {
			devices = strings.TrimSpace(list)
		}
	}
	if fields := strings.Fields(devices); len(fields) != 1 || !strings.HasPrefix(fields[0], "/dev/loop") {
		t.Errorf("block devices in /dev: %q, want the disk's own loop device only\n%s", devices, log)
	}
	if strings.Contains(log, "could write to") {
		t.Errorf("the node's tree could be changed:\n%s", log)
	}
	for _, path := range []string{"/led-astray", "/etc/led-astray", "/tmp/led-astray"} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is there", path)
			os.Remove(path)
		}
	}
	l.clean(0)
}
