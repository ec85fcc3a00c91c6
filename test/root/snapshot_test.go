//go:build root

package root

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// snapshots is a mirror of two days of an archive, the second of which has security updates
// that bring day-tool in another version, and of the archive of today. Packages other than
// day-tool are those of the test's mirror. All is signed by a key of its own.
type snapshots struct {
	*lab
	url  string
	home string // GnuPG's
	dir  string // what is served
	base []byte // the mirror's list of packages
}

func newSnapshots(l *lab) *snapshots {
	l.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "s") // short, for gpg-agent's socket
	must(l, err)
	s := &snapshots{lab: l, home: dir + "/k", dir: dir + "/served"}
	l.Cleanup(func() {
		exec.Command("gpgconf", "--homedir", s.home, "--kill", "all").Run()
		os.RemoveAll(dir)
	})
	must(l, os.Mkdir(s.home, 0o700))
	must(l, os.Mkdir(s.dir, 0o755))
	s.tool("gpg", "--homedir", s.home, "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "days <days@mirror.example>", "ed25519", "sign", "never")
	s.tool("gpg", "--homedir", s.home, "--batch", "--quiet", "--yes", "--output", base+"/conf/days.gpg", "--export")
	must(l, os.Chmod(base+"/conf/days.gpg", 0o644))

	mirror, err := url.Parse(os.Getenv("TEST_MIRROR"))
	must(l, err)
	packages := exec.Command("xz", "-dc")
	answer, err := http.Get(mirror.String() + "/dists/" + os.Getenv("TEST_SUITE") + "/main/binary-amd64/Packages.xz")
	must(l, err)
	defer answer.Body.Close()
	packages.Stdin = answer.Body
	s.base, err = packages.Output()
	must(l, err)
	// The base system is as small as it gets.
	s.base = bytes.ReplaceAll(s.base, []byte("\nPriority: important\n"), []byte("\nPriority: optional\n"))
	upstream := httputil.NewSingleHostReverseProxy(mirror)
	files := http.FileServer(http.Dir(s.dir))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before := s.snapshotBefore(r.URL.Path); before != "" {
			http.Redirect(w, r, before, http.StatusFound)
			return
		}
		at := strings.Index(r.URL.Path, "/pool/")
		if _, err := os.Stat(s.dir + r.URL.Path); err != nil && at >= 0 {
			r.URL.Path, r.Host = r.URL.Path[at:], mirror.Host
			upstream.ServeHTTP(w, r)
			return
		}
		files.ServeHTTP(w, r)
	}))
	l.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// snapshotBefore leads from a moment that there is no snapshot of to the one before it, as
// snapshot.debian.org does; "" is that there is one, or none before it.
func (s *snapshots) snapshotBefore(address string) string {
	m := inSnapshot.FindStringSubmatch(address)
	if m == nil {
		return ""
	}
	moments, _ := filepath.Glob(s.dir + m[1] + "*")
	at := ""
	for _, path := range moments { // in their order
		if moment := filepath.Base(path); moment <= m[2] {
			at = moment
		}
	}
	if at == "" || at == m[2] {
		return ""
	}
	return m[1] + at + m[3]
}

var inSnapshot = regexp.MustCompile(`^(/archive/[^/]+/)([0-9]{8}T[0-9]{6}Z)(/.*)$`)

// suite publishes one: in an archive's folder, as of a time, with a version of day-tool; "" is
// without it.
func (s *snapshots) suite(archive, suite, version string, base []byte, date time.Time) {
	s.Helper()
	packages := bytes.Clone(base)
	if version != "" {
		packages = append(packages, s.dayTool(archive, version)...)
	}
	dists := filepath.Join(s.dir, archive, "dists", suite)
	must(s, os.MkdirAll(dists+"/main/binary-amd64", 0o755))
	var small bytes.Buffer
	z, err := gzip.NewWriterLevel(&small, gzip.BestSpeed)
	must(s, err)
	_, err = z.Write(packages)
	must(s, errors.Join(err, z.Close()))
	must(s, os.WriteFile(dists+"/main/binary-amd64/Packages", packages, 0o644))
	must(s, os.WriteFile(dists+"/main/binary-amd64/Packages.gz", small.Bytes(), 0o644))
	const layout = "Mon, 02 Jan 2006 15:04:05 UTC"
	release := fmt.Sprintf("Origin: Days\nLabel: Days\nSuite: %s\nCodename: %[1]s\nDate: %s\nValid-Until: %s\nArchitectures: amd64\nComponents: main\nSHA256:\n %x %d main/binary-amd64/Packages\n %x %d main/binary-amd64/Packages.gz\n",
		suite, date.Format(layout), date.AddDate(0, 0, 7).Format(layout), sha256.Sum256(packages), len(packages), sha256.Sum256(small.Bytes()), small.Len())
	must(s, os.WriteFile(dists+"/Release", []byte(release), 0o644))
	s.sign(dists)
}

func (s *snapshots) sign(dists string) {
	s.Helper()
	gpg := []string{"gpg", "--homedir", s.home, "--batch", "--quiet", "--yes", "--output"}
	s.tool(append(gpg, dists+"/InRelease", "--clearsign", dists+"/Release")...)
	s.tool(append(gpg, dists+"/Release.gpg", "--armor", "--detach-sign", dists+"/Release")...)
}

// dayTool puts the package into an archive's pool, and returns its stanza for the list.
func (s *snapshots) dayTool(archive, version string) string {
	s.Helper()
	tree := s.TempDir()
	control := "Package: day-tool\nVersion: " + version + "\nArchitecture: all\nMaintainer: Days <days@mirror.example>\nPriority: optional\nDescription: of a day\n"
	must(s, os.MkdirAll(tree+"/DEBIAN", 0o755))
	must(s, os.WriteFile(tree+"/DEBIAN/control", []byte(control), 0o644))
	name := "pool/main/d/day-tool/day-tool_" + version + "_all.deb"
	path := filepath.Join(s.dir, archive, name)
	must(s, os.MkdirAll(filepath.Dir(path), 0o755))
	s.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	s.tool("dpkg-deb", "--root-owner-group", "--build", tree, path)
	raw, err := os.ReadFile(path)
	must(s, err)
	return control + fmt.Sprintf("Filename: %s\nSize: %d\nSHA256: %x\n\n", name, len(raw), sha256.Sum256(raw))
}

func day(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }

func TestADayThatCantBeHadIsRefusedBeforeTheDiskIsTouched(t *testing.T) {
	l := newCacheLab(t)
	days := newSnapshots(l)
	days.suite("archive/debian/20260110T000000Z", "trixie", "1.0", nil, day(9))
	days.suite("archive/debian/20260111T000000Z", "trixie", "1.0", nil, day(20)) // what no mirror of snapshots has
	days.suite("archive/debian/20260112T000000Z", "trixie", "1.0", nil, day(11))
	l.setting("MIRROR="+days.url+"/live/debian", "SNAPSHOT_MIRROR="+days.url+"/archive/debian/")
	must(t, os.WriteFile(l.disk, []byte("what was there"), 0o600))
	must(t, os.Truncate(l.disk, 600<<20))
	for snapshot, want := range map[string]string{
		"yesterday":        "must be a day such as 2026-01-31",
		"2026-02-30":       "there is no such day",
		"2126-01-01":       "has not come yet",
		"2026-01-09":       "there is no suite trixie of 20260109T000000Z",
		"2026-01-11":       "is of 2026-01-20 00:00:00, after 20260111T000000Z",
		"20260112T000000Z": "the guest's own sources: there is no suite trixie in " + days.url + "/live/debian",
	} {
		l.env["OSP_SNAPSHOT"] = snapshot
		l.fails(want)
		head, err := os.Open(l.disk)
		must(t, err)
		first, err := io.ReadAll(io.LimitReader(head, 14))
		head.Close()
		if err != nil || string(first) != "what was there" {
			t.Errorf("SNAPSHOT=%s: the disk was written to: %q, %v", snapshot, first, err)
		}
		if strings.HasPrefix(snapshot, "2026-01-1") || strings.HasPrefix(snapshot, "2026-01-0") || strings.Contains(snapshot, "T") {
			continue // what only the mirror knows
		}
		for _, args := range [][]string{{"plan", "create"}, {"cache", "warm", "--snapshot", snapshot}} {
			out, exit := l.run("instance-debootstrap", args...)
			if exit == 0 || !strings.Contains(out, want) {
				t.Errorf("%v with SNAPSHOT=%s: exit status %d\n%s", args, snapshot, exit, out)
			}
		}
	}
	l.env["OSP_SNAPSHOT"] = "2026-01-10"
	out, _ := l.run("instance-debootstrap", "plan", "create")
	l.matches(out, "trixie.* of 2026-01-10")
	out, _ = l.run("verify")
	l.matches(out, "new trees are made of the archive of 2026-01-10")
	delete(l.env, "OSP_SNAPSHOT")
	l.setting("SNAPSHOT=2026-01-10")
	out, _ = l.run("instance-debootstrap", "doctor")
	l.matches(out, "trixie/amd64 of 2026-01-10")
}
