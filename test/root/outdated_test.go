//go:build root

package root

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// outdated is what inspect and cache show say of it as JSON.
type outdated struct {
	Suite    string
	Sources  []string
	Outdated []struct{ Name, Architecture, Version, Newest string }
	Unknown  []struct{ Name string } `json:"not_in_the_archive"`
}

func (o outdated) String() string {
	var words []string
	for _, p := range o.Outdated {
		words = append(words, p.Name+" "+p.Version+" "+p.Newest)
	}
	for _, p := range o.Unknown {
		words = append(words, p.Name)
	}
	return strings.Join(words, ", ")
}

func TestWhatTheArchiveHasInLaterVersionsIsTold(t *testing.T) {
	l := newLab(t, 600)
	must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
	days := newSnapshots(l)
	now := time.Now().UTC().Add(-time.Hour)
	list := func(names ...string) (text string) {
		for i := 0; i < len(names); i += 2 {
			text += fmt.Sprintf("Package: %s\nArchitecture: amd64\nVersion: %s\nFilename: pool/x.deb\nSize: 1\nSHA256: %064d\n\n", names[i], names[i+1], 0)
		}
		return text
	}
	days.suite("live/debian", "bookworm", "", []byte(list("dpkg", "1.21.22", "same", "2.0", "older", "1:1.0-1", "newer", "1.0")), now)
	days.suite("live/debian", "bookworm-updates", "", []byte(list("older", "1:1.0-1+deb12u1")), now)
	days.suite("live/debian-security", "bookworm-security", "", []byte(list("older", "1:1.0-1~u0", "dpkg", "1.21.22+deb12u9")), now)
	settings := fmt.Sprintf("SUITE=bookworm\nMIRROR=%s/live/debian\nKEYRING=%s/conf/days.gpg\nBOOTLOADER=none\n", days.url, base)
	l.write("default", settings, 0o644)

	status := func(versions ...string) string {
		text := ""
		for i := 0; i < len(versions); i += 2 {
			text += fmt.Sprintf("Package: %s\nStatus: install ok installed\nArchitecture: amd64\nVersion: %s\n\n", versions[i], versions[i+1])
		}
		return text
	}
	l.guestWith(status("dpkg", "1.21.22", "same", "2.0", "older", "2.0", "newer", "1.0+b1", "own-tool", "1", "trap", "\x1b[2J"))
	const want = "dpkg 1.21.22 1.21.22+deb12u9, older 2.0 1:1.0-1+deb12u1, own-tool, trap"
	var in struct {
		Packages []any
		Outdated outdated
	}
	read := func(into any, args ...string) {
		t.Helper()
		cmd := l.command("instance-debootstrap", args...)
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err = errors.Join(err, json.Unmarshal(out, into)); err != nil {
			t.Fatalf("%v: %v\n%s%s", args, err, out, said.String())
		}
	}
	read(&in, "inspect", "--outdated", "--json", l.disk)
	if in.Outdated.String() != want || in.Outdated.Suite != "bookworm" || len(in.Outdated.Sources) != 3 || in.Packages != nil {
		t.Errorf("%+v", in)
	}
	before := sumOf(l, l.disk)
	text := l.tool(program, "inspect", "--outdated", l.disk)
	l.matches(text, `(?m)^outdated: +dpkg 1\.21\.22 -> 1\.21\.22\+deb12u9 amd64$`)
	l.matches(text, `archive: +2 packages are older than in bookworm/amd64 of .*, 2 are not in it`)
	if strings.ContainsRune(text, 0x1b) || strings.Contains(text, "same") || sumOf(l, l.disk) != before {
		t.Errorf("inspect:\n%q", text)
	}
	l.clean(0)
	var tree outdated
	name := filepath.Base(l.tars()[0])
	out, exit := l.run("instance-debootstrap", "cache", "show", "--outdated", name)
	l.matches(out, "(?m)^"+name+": 2 packages are older")
	l.matches(out, `(?m)^older 2\.0 -> 1:1\.0-1\+deb12u1 amd64$`)
	read(&tree, "cache", "show", "--outdated", "--json", name)
	if tree.String() != want || exit != 0 {
		t.Errorf("of the tree: %+v", tree)
	}

	// A mirror that isn't what the keys say is not believed, nor is one that has less.
	fails := func(want string) {
		t.Helper()
		out, exit := l.run("instance-debootstrap", "inspect", "--outdated", l.disk)
		if exit != 1 || !strings.Contains(out, want) || strings.Contains(out, "older") {
			t.Errorf("exit status %d, without %q:\n%s", exit, want, out)
		}
		l.clean(0)
	}
	gz := days.dir + "/live/debian/dists/bookworm/main/binary-amd64/Packages"
	for _, ending := range []string{"", ".gz"} {
		must(t, os.WriteFile(gz+ending, []byte(list("older", "0")), 0o644))
	}
	fails("unexpected size")
	days.suite("live/debian", "bookworm", "", nil, now)
	release := days.dir + "/live/debian/dists/bookworm/InRelease"
	signed, err := os.ReadFile(release)
	must(t, err)
	must(t, os.WriteFile(release, []byte(strings.Replace(string(signed), "Origin: Days", "Origin: Daze", 1)), 0o644))
	fails("bookworm")
	must(t, os.WriteFile(release, signed, 0o644))
	l.write("default", strings.Replace(settings, "/conf/days.gpg", "/conf/none.gpg", 1), 0o644)
	l.write("conf/none.gpg", "", 0o644)
	fails("bookworm")
	l.write("default", settings, 0o644)

	// What a guest says can be anything.
	for what, text := range map[string]string{
		"which archive is its own isn't known": status("same", "1"),
		"has none for riscv64: set MIRROR":     strings.ReplaceAll(status("dpkg", "1"), "amd64", "riscv64"),
		`architecture "../../x"`:               strings.Replace(status("dpkg", "1"), "amd64", "../../x", 1),
		"no packages to compare":               "",
	} {
		l.guestWith(text)
		fails(what)
	}
}

// guestWith installs a guest of an admin's own tree with this list of packages.
func (l *lab) guestWith(status string) {
	l.Helper()
	dir := l.TempDir()
	for path, content := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/bash\n", "etc/shadow": "root:*:19000:0:99999:7:::\n", "etc/network/interfaces": "", "sbin/ifup": "",
		"lib/systemd/systemd": "", "etc/os-release": "ID=debian\nVERSION_CODENAME=bookworm\n", "var/lib/dpkg/status": status,
	} {
		must(l, os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755))
		must(l, os.WriteFile(filepath.Join(dir, path), []byte(content), 0o644))
	}
	l.tool("tar", "-cf", base+"/cache/cache-bookworm-amd64.tar", "-C", dir, ".")
	l.create()
}
