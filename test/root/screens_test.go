//go:build root && slow

package root

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var writeScreens = flag.Bool("screens", false, "write docs/screens.md")

const screensPage = "../../docs/screens.md"

// screens are the commands that the page shows. Of what depends on the node only the first
// line is compared.
var screens = []struct {
	command, about string
	firstOnly      bool
}{
	{"instance-debootstrap plan create", "What a create would do, in Ganeti's environment, and why it would be refused:", false},
	{"instance-debootstrap install --size 3G --hostname web1.example --network dhcp --ssh-key admin.pub web1.img", "An installation by hand; each line shows its seconds while it runs, and its tool's last words:", false},
	{"instance-debootstrap inspect web1.img", "What is on a disk:", false},
	{"instance-debootstrap cache list", "The trees that are kept:", true},
	{"instance-debootstrap doctor", "Whether a node is fit:", true},
}

// screen runs a command on a terminal in a folder that is /srv, and returns what stands
// there in the end, with the places of an installation instead of the test's.
func (l *lab) screen(dir, command string) string {
	l.Helper()
	bin := l.TempDir()
	must(l, os.Symlink(program, filepath.Join(bin, "instance-debootstrap")))
	cmd := exec.Command("unshare", "-m", "sh", "-c", `mount --bind "$1" /srv && cd /srv && exec script -qec "stty cols 140 rows 40; $2" /dev/null`, "sh", dir, command)
	cmd.Env = []string{"PATH=" + bin + ":/usr/sbin:/usr/bin:/sbin:/bin", "TERM=vt100"}
	if strings.Contains(command, " plan ") {
		for k, v := range l.env {
			if k != "PATH" {
				cmd.Env = append(cmd.Env, k+"="+v)
			}
		}
	}
	out, _ := cmd.Output() // doctor's exit status is the node's
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(string(out), "\r\n", "\n")) {
		line = line[strings.LastIndex(line, "\r")+1:]
		lines = append(lines, strings.TrimRight(regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]`).ReplaceAllString(line, ""), " \n"))
	}
	return strings.NewReplacer(
		realCache(l.T), "/var/cache/ganeti-instance-debootstrap", l.disk, "/dev/vg0/web1", os.Getenv("TEST_MIRROR"), "http://mirror.example/debian",
		base+"/conf", "/etc/ganeti/instance-debootstrap", base+"/default", "/etc/default/ganeti-instance-debootstrap", base+"/os", "/usr/share/ganeti/os/debootstrap",
		base+"/state", "/var/lib/instance-debootstrap", base+"/lock", "/run/instance-debootstrap/lock", base+"/run", "/run/instance-debootstrap/work", base+"/cache", "/var/cache/ganeti-instance-debootstrap",
	).Replace(strings.Join(lines, "\n"))
}

// shape is what a screen has whatever the versions, times, sizes and numbers: how its lines
// begin.
func shape(screen string, firstOnly bool) (out []string) {
	for line := range strings.Lines(screen) {
		begin := regexp.MustCompile(`^\s*([0-9]+\. )?(\[ *[0-9]+/[0-9]+\] )?[^0-9:]*`).FindString(strings.TrimRight(line, "\n"))
		if words := strings.Fields(begin); len(words) > 0 {
			out = append(out, strings.Join(words[:min(len(words), 6)], " "))
		}
		if firstOnly {
			break
		}
	}
	return out
}

// TestTheScreensInTheDocsAreWhatAnAdminSees also writes them, with -screens.
func TestTheScreensInTheDocsAreWhatAnAdminSees(t *testing.T) {
	l := realGuest(t)
	dir := t.TempDir()
	for _, name := range []string{"import", "export"} {
		must(t, os.Symlink(program, filepath.Join(base, "os", name)))
	}
	l.tool("cp", "../../ganeti_api_version", "../../parameters.list", base+"/os/")
	key := l.adminsKey()
	l.tool("cp", key+".pub", dir+"/admin.pub")
	page, err := os.ReadFile(screensPage)
	if !*writeScreens {
		must(t, err)
	}
	blocks := regexp.MustCompile("(?s)```\n# ([^\n]*)\n(.*?)```\n").FindAllStringSubmatch(string(page), -1)
	text := "# Screens\n\nWhat some commands look like on a terminal, as they were when this page was made (`-screens` of the\ntest that compares it, `test/root/screens_test.go`). Paths are those of an installation.\n"
	for i, s := range screens {
		got := l.screen(dir, s.command)
		text += fmt.Sprintf("\n%s\n\n```\n# %s\n%s\n```\n", s.about, s.command, got)
		if *writeScreens {
			continue
		}
		if i >= len(blocks) || blocks[i][1] != s.command {
			t.Errorf("the page doesn't show %s", s.command)
			continue
		}
		if want, is := shape(blocks[i][2], s.firstOnly), shape(got, s.firstOnly); !slices.Equal(want, is) {
			t.Errorf("%s: the page has lines that begin with\n%q\nand now they do with\n%q\n%s", s.command, want, is, got)
		}
	}
	if *writeScreens {
		must(t, os.WriteFile(screensPage, []byte(text), 0o644))
	}
}
