package bootstrap

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// then is a Release file of a day, which was valid for a week.
func then(date time.Time) string {
	return "Origin: Test\nDate: " + date.Format(time.RFC1123) + "\nValid-Until: " + date.Add(week).Format(time.RFC1123) + "\nComponents: main\n"
}

func TestASnapshotIsWholeOrRefused(t *testing.T) {
	moment := time.Date(2024, 1, 2, 0, 0, 0, 0, time.UTC)
	day := then(moment.Add(-time.Hour))
	const at, security = "/archive/debian/20240102T000000Z/dists/", "/archive/debian-security/20240102T000000Z/dists/"
	live := map[string]string{"/debian/dists/site/InRelease": fields("main", 0, week), "/debian-security/dists/site-security/InRelease": fields("main", 0, week)}
	for name, c := range map[string]struct {
		files      map[string]string
		security   string
		then       string // with M for the mirror's server
		today      string
		warns, err string
	}{
		"all of it": {map[string]string{at + "site/InRelease": day, at + "site-updates/InRelease": day, security + "site-security/InRelease": day}, "auto",
			"M/archive/debian/20240102T000000Z site\nM/archive/debian/20240102T000000Z site-updates\nM/archive/debian-security/20240102T000000Z site-security",
			"M/debian site\nM/debian-security site-security", "has less than the snapshot", ""},
		"before there were updates": {map[string]string{at + "site/InRelease": day, security + "site/updates/InRelease": day}, "auto",
			"M/archive/debian/20240102T000000Z site\nM/archive/debian-security/20240102T000000Z site/updates", "M/debian site\nM/debian-security site-security", "", ""},
		"the suite alone":      {map[string]string{at + "site/InRelease": day}, "none", "M/archive/debian/20240102T000000Z site", "M/debian site", "", ""},
		"no security then":     {map[string]string{at + "site/InRelease": day}, "auto", "M/archive/debian/20240102T000000Z site", "M/debian site\nM/debian-security site-security", "no security updates of site from 20240102T000000Z", ""},
		"nothing of that day":  {nil, "auto", "", "", "", "there is no suite site of 20240102T000000Z"},
		"it doesn't answer":    {map[string]string{at + "site/InRelease": outOfReach}, "auto", "", "", "", "503"},
		"updates don't answer": {map[string]string{at + "site/InRelease": day, at + "site-updates/InRelease": outOfReach}, "auto", "", "", "", "503"},
		"security doesn't":     {map[string]string{at + "site/InRelease": day, security + "site-security/InRelease": outOfReach}, "auto", "", "", "", "503"},
		"another day's":        {map[string]string{at + "site/InRelease": then(moment.Add(time.Hour))}, "auto", "", "", "", "after 20240102T000000Z"},
	} {
		for path, text := range live {
			if c.files != nil {
				c.files[path] = text
			}
		}
		server := fakeArchive(t, c.files)
		var log bytes.Buffer
		ctx := zerolog.New(&log).Level(zerolog.InfoLevel).WithContext(t.Context())
		spec := Spec{Suite: "site", Mirror: server + "/debian", Security: c.security, WorkDir: t.TempDir(), Snapshot: Snapshot{"20240102T000000Z", server + "/archive/debian/"}, RefuseExpired: true}
		tool := Tool{Name: Debootstrap}
		list, lacks, err := spec.sources(ctx, tool, "")
		if err != nil || c.err != "" {
			if err == nil || c.err == "" || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, not %q", name, err, c.err)
			}
			continue
		}
		spec.Sources = list
		today, err := spec.sourcesToday(ctx, tool, "")
		if err != nil || len(lacks) > 0 || suitesOf(list, server) != c.then || suitesOf(today, server) != c.today {
			t.Errorf("%s: %v, without %q\nthen\n%s\ntoday\n%s", name, err, lacks, suitesOf(list, server), suitesOf(today, server))
		}
		if c.warns == "" && log.Len() > 0 || !strings.Contains(log.String(), c.warns) {
			t.Errorf("%s: log %s, not %q", name, log.String(), c.warns)
		}
	}
}

func suitesOf(list []Source, server string) string {
	var lines []string
	for _, s := range list {
		lines = append(lines, strings.ReplaceAll(s.URI, server, "M")+" "+s.Suite)
	}
	return strings.Join(lines, "\n")
}

func TestWhereTodaysArchiveCantBeAskedItsSourcesAreThoseOfTheSnapshot(t *testing.T) {
	dead := fakeArchive(t, map[string]string{"/debian/dists/site/InRelease": outOfReach})
	made := []Source{{URI: "http://snapshot.example/debian/20240102T000000Z", Suite: "site", Components: []string{"main"}, own: true},
		{URI: "http://snapshot.example/debian-security/20240102T000000Z", Suite: "site-security", Components: []string{"main"}}}
	for mirror, want := range map[string]string{
		"":               "http://deb.debian.org/debian site\nhttp://security.debian.org/debian-security site-security",
		dead + "/debian": "M/debian site\nhttp://security.debian.org/debian-security site-security",
	} {
		spec := Spec{Suite: "site", Mirror: mirror, Sources: made, WorkDir: t.TempDir(), Snapshot: Snapshot{Moment: "20240102T000000Z"}}
		got, err := spec.sourcesToday(t.Context(), Tool{Name: Debootstrap}, "")
		if err != nil || suitesOf(got, dead) != want {
			t.Errorf("MIRROR=%s: %v\n%s", mirror, err, suitesOf(got, dead))
		}
		spec.Security = "http://mirror.example/security/"
		if got, err = spec.sourcesToday(t.Context(), Tool{Name: Debootstrap}, ""); mirror == "" && (err != nil || got[1].URI != "http://mirror.example/security") {
			t.Errorf("SECURITY_MIRROR: %v\n%s", err, suitesOf(got, dead))
		}
	}
}

func TestTheDistributionsMirrorOfSnapshotsIsTakenUnlessAnotherIsNamed(t *testing.T) {
	ubuntu := Tool{Keyring: "/usr/share/keyrings/ubuntu-archive-keyring.gpg"}
	for _, c := range []struct {
		tool   Tool
		mirror string
		want   string
	}{
		{Tool{}, "", "http://snapshot.debian.org/archive/debian/20240102T000000Z"},
		{ubuntu, "", "http://snapshot.ubuntu.com/ubuntu/20240102T000000Z"},
		{ubuntu, "http://snapshot.example/u/", "http://snapshot.example/u/20240102T000000Z"},
	} {
		spec := Spec{Suite: "noble", Mirror: "http://mirror.example/debian", Snapshot: Snapshot{"20240102T000000Z", c.mirror}}
		if got := spec.mirrorOf(c.tool); got != c.want {
			t.Errorf("%q: %s, not %s", c.mirror, got, c.want)
		}
		if args := strings.Join(debootstrapArgs(c.tool, spec, "/t"), " "); !strings.Contains(args, " /t "+c.want) {
			t.Errorf("debootstrap gets another: %s", args)
		}
	}
}
