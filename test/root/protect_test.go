//go:build root

package root

import (
	"regexp"
	"strings"
	"testing"
)

// spy is put before a tool that the program runs on a guest's disk, and tells what
// a tool that was led astray would find. It is a script of nothing but bash.
const spy = `
shopt -s nullglob dotglob globstar
printf 'sees %s\n' /* /dev/** /etc/** /proc/** /run/** /home/* /root/* /var/* /tmp/* /usr/* >&2
for dir in / /dev /etc /usr /usr/lib /run; do
  ( : >"$dir/led-astray" ) 2>/dev/null && echo "could write to $dir" >&2
done
exit 0`

func TestAToolOnAGuestsDiskSeesThatDiskAndNothingElseOfTheNode(t *testing.T) {
	for _, namespace := range []string{"private", "host"} {
		t.Run(namespace, func(t *testing.T) {
			l := newLab(t, 600)
			l.guest("msdos", "ext4")
			l.write("default", "NAMESPACE="+namespace+"\n", 0o644)
			l.fake("e2fsck", spy)
			l.env["DEBUG_LEVEL"] = "1"
			log, exit := l.run("rename")
			if exit != 0 {
				t.Fatalf("exit status %d\n%s", exit, log)
			}
			var seen []string
			for line := range strings.Lines(log) {
				if _, path, ok := strings.Cut(line, "sees "); ok {
					seen = append(seen, strings.TrimSuffix(strings.TrimSpace(path), "/"))
				}
			}
			want := regexp.MustCompile(`^/(dev|dev/(loop[0-9]+|null|urandom)|etc|etc/(ld\.so\.cache|mtab)|proc|proc/(mounts|self|self/mounts)|bin|lib(32|64|x32)?|usr|usr/(lib(32|64|x32)?|local|sbin))$`)
			disks := 0
			for _, path := range seen {
				if strings.HasPrefix(path, "/dev/loop") {
					disks++
				}
				if !want.MatchString(path) {
					t.Errorf("the tool sees %s", path)
				}
			}
			if disks != 1 {
				t.Errorf("the tool sees %d disks:\n%s", disks, log)
			}
			if strings.Contains(log, "could write to") {
				t.Errorf("the node's tree could be changed:\n%s", log)
			}
			l.clean(0)
		})
	}
}
