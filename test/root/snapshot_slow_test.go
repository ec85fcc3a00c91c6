//go:build root && slow

package root

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// twoDays publishes the archive of the 10th, of the 20th, and of today.
func (s *snapshots) twoDays(suite string) {
	s.Helper()
	s.suite("archive/debian/20260110T000000Z", suite, "1.0", s.base, day(9))
	s.suite("archive/debian/20260120T000000Z", suite, "1.0", s.base, day(9)) // no point release since
	for _, moment := range []string{"20260110T000000Z", "20260120T000000Z"} {
		s.suite("archive/debian/"+moment, suite+"-updates", "", nil, day(9))
	}
	s.suite("archive/debian-security/20260110T000000Z", suite+"-security", "", nil, day(8))
	s.suite("archive/debian-security/20260120T000000Z", suite+"-security", "1.1", nil, day(19))
	now := time.Now().UTC().Add(-time.Hour)
	s.suite("live/debian", suite, "3.0", nil, now)
	s.suite("live/debian", suite+"-updates", "", nil, now)
	s.suite("live/debian-security", suite+"-security", "3.1", nil, now)
}

func TestATreeOfADayHasThePackagesOfThatDay(t *testing.T) {
	l := newLab(t, 1024)
	must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
	days, suite := newSnapshots(l), os.Getenv("TEST_SUITE")
	days.twoDays(suite)
	for _, tool := range []string{"debootstrap", "mmdebstrap"} {
		l.write("default", fmt.Sprintf("BOOTSTRAP=%s\nSUITE=%s\nMIRROR=%s/live/debian\nSNAPSHOT_MIRROR=%[3]s/archive/debian\nKEYRING=%s/conf/days.gpg\nBOOTLOADER=none\nEXTRA_PKGS=day-tool\nCLEAN_CACHE=14\n",
			tool, suite, days.url, base), 0o644)
		l.cacheFilesGone()
		l.matches(l.cache("warm", "--snapshot", "2026-01-10", "--filesystem", "xfs"), "published cache entry")
		first := l.theTar()
		l.matches(l.cache("show", keyOf(first)), `(?m)^day-tool 1\.0 all$`)
		l.matches(l.cache("list"), suite+"/amd64 of 2026-01-10 by "+tool)
		for _, name := range []string{"./etc/apt/sources.list", "./etc/apt/sources.list.d/debian.sources"} {
			text, _ := exec.Command("tar", "-xOf", first, name).Output() // one of them is there
			if strings.Contains(string(text), "archive/debian") {
				t.Errorf("%s: the guest's apt installs from the snapshot:\n%s", tool, text)
			}
		}
		if lists := l.tool("sh", "-c", `tar -tf "$0" | grep -E '/var/lib/apt/lists/.*(Packages|Release)' || :`, first); lists != "" {
			t.Errorf("%s: the tree has lists of the snapshot:\n%s", tool, lists)
		}

		// The mirror of today is of no account for the same bytes.
		sum := sumOf(l, first)
		must(t, os.Remove(first))
		l.env["TZ"] = "Pacific/Kiritimati"
		l.cache("warm", "--snapshot", "20260110T000000Z", "--filesystem", "xfs")
		delete(l.env, "TZ")
		if l.theTar() != first || sumOf(l, first) != sum {
			t.Errorf("%s: two trees of one day are not the same", tool)
		}

		// It is never too old for a create, and goes when it isn't used.
		l.ageEntry(first, 50)
		l.env["OSP_SNAPSHOT"], l.env["OSP_FILESYSTEM"] = "2026-01-10", "xfs"
		log := l.create()
		l.matches(log, `receipt=.*"snapshot":"20260110T000000Z"`)
		l.matches(log, fmt.Sprintf(`"sources":\["%s/live/debian %s main","%[1]s/live/debian %[2]s-updates main","%[1]s/live/debian-security %[2]s-security main"\]`, days.url, suite))
		if sumOf(l, first) != sum || strings.Contains(log, "published") {
			t.Errorf("%s: the tree of a day was built anew:\n%s", tool, log)
		}
		l.matches(l.cache("warm", "--expired", "--snapshot", "2026-01-10", "--filesystem", "xfs"), "nothing to renew")
		l.matches(l.tool(program, "inspect", l.disk), `snapshot: +2026-01-10`)
		delete(l.env, "OSP_SNAPSHOT")

		// The mirror leads from a day that it has no snapshot of to the one before it.
		l.matches(l.cache("warm", "--snapshot", "2026-01-25", "--filesystem", "xfs"), "published cache entry")
		second := filepath.Join(base, "cache", otherThan(l.tars(), filepath.Base(first)))
		l.matches(l.cache("show", keyOf(second)), `(?m)^day-tool 1\.1 all$`)
		if diff := strings.TrimSpace(l.cache("diff", keyOf(first), keyOf(second))); diff != "~ day-tool 1.0 -> 1.1 all" {
			t.Errorf("%s: from one day to the next:\n%s", tool, diff)
		}
		// By another package, a tree is made of it, without a look at today's archive.
		log = l.cache("warm", "--snapshot", "2026-01-25", "--extra-pkgs", "day-tool,less", "--filesystem", "xfs")
		l.matches(log, "making the tree from a copy of .*"+keyOf(second))
		derived := filepath.Join(base, "cache", otherThan(l.tars(), filepath.Base(first), filepath.Base(second)))
		l.matches(l.cache("show", keyOf(derived)), `(?m)^day-tool 1\.1 all$(.|\n)*^less `)
	}
}
