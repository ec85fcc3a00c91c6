package bootstrap

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// outOfReach is the text of a file that the server's own archive doesn't give it.
const outOfReach = "out of reach"

// fakeArchive serves Release files by their paths.
func fakeArchive(t *testing.T, files map[string]string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if text == outOfReach {
			http.Error(w, text, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, text)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// fields are a Release file's that was made now and is valid for a week.
func fields(components string, from, until time.Duration) string {
	now := time.Now().UTC()
	return "Origin: Test\nDate: " + now.Add(from).Format(time.RFC1123) + "\nValid-Until: " + now.Add(until).Format(time.RFC1123) + "\nComponents: " + components + "\nMD5Sum:\n"
}

const week = 7 * 24 * time.Hour

// asked is what a specification of the suite "site", which no distribution has, gets,
// and what that lacks.
func asked(t *testing.T, tool string, spec Spec) (sources, lacks, log string, err error) {
	t.Helper()
	var out bytes.Buffer
	spec.Suite, spec.WorkDir = "site", t.TempDir()
	list, without, err := spec.sources(zerolog.New(&out).Level(zerolog.InfoLevel).WithContext(t.Context()), Tool{Name: tool}, "")
	var lines []string
	for _, s := range list {
		lines = append(lines, s.URI+" "+s.Suite+" "+strings.Join(s.Components, ","))
	}
	return strings.Join(lines, "\n"), strings.Join(without, ", "), out.String(), err
}

func TestAGuestHasTheUpdatesAndTheSecurityArchiveThatItsMirrorHas(t *testing.T) {
	good := fields("main contrib", 0, week)
	for name, c := range map[string]struct {
		files    []string
		security string
		want     string // with M for the mirror's server
		warns    bool
	}{
		"all in one":             {[]string{"/debian/dists/site", "/debian/dists/site-updates", "/debian/dists/site-security"}, "", "M/debian site main\nM/debian site-updates main\nM/debian site-security main", false},
		"security beside it":     {[]string{"/debian/dists/site", "/debian/dists/site-updates", "/debian-security/dists/site-security"}, "auto", "M/debian site main\nM/debian site-updates main\nM/debian-security site-security main", false},
		"before bullseye":        {[]string{"/debian/dists/site", "/debian-security/dists/site/updates"}, "", "M/debian site main\nM/debian-security site/updates main", false},
		"nothing but the suite":  {[]string{"/debian/dists/site"}, "", "M/debian site main", true},
		"where it is told":       {[]string{"/debian/dists/site", "/debian-security/dists/site-security", "/other/dists/site-security"}, "M/other/", "M/debian site main\nM/other site-security main", false},
		"told to have none":      {[]string{"/debian/dists/site", "/debian/dists/site-updates", "/debian/dists/site-security"}, "none", "M/debian site main", false},
		"an archive that is old": {[]string{"/debian/dists/site"}, "none", "M/debian site main", false},
	} {
		files := map[string]string{}
		for _, path := range c.files {
			kind := "/InRelease"
			if name == "an archive that is old" {
				kind = "/Release"
			}
			files[path+kind] = good
		}
		server := fakeArchive(t, files)
		for _, tool := range []string{Debootstrap, Mmdebstrap} {
			got, lacks, log, err := asked(t, tool, Spec{Mirror: server + "/debian/", Security: strings.ReplaceAll(c.security, "M", server)})
			if want := strings.ReplaceAll(c.want, "M", server); err != nil || got != want || lacks != "" {
				t.Errorf("%s, %s: %v\n%s\nwant\n%s\nlacks %q", name, tool, err, got, want, lacks)
			}
			if warns := strings.Contains(log, "set SECURITY_MIRROR"); warns != c.warns {
				t.Errorf("%s, %s: %s", name, tool, log)
			}
		}
	}
}

func TestWhatIsWrongWithAnArchiveIsSaidBeforeAnythingIsInstalled(t *testing.T) {
	for name, c := range map[string]struct {
		spec    Spec
		release string
		want    []string
	}{
		"no such component":       {Spec{Components: []string{"main", "universe"}}, fields("main contrib", 0, week), []string{"COMPONENTS", `"universe"`, "main, contrib"}},
		"no such suite":           {Spec{}, "", []string{"no suite site", "set MIRROR", "archive.debian.org"}},
		"a clock that is behind":  {Spec{}, fields("main", 48*time.Hour, week), []string{"clock is behind"}},
		"out of date":             {Spec{RefuseExpired: true}, fields("main", -2*week, -week), []string{"EXPIRED_ARCHIVE=refuse", "valid until"}},
		"no security where it is": {Spec{Security: "M/nowhere"}, fields("main", 0, week), []string{"SECURITY_MIRROR", "/nowhere"}},
	} {
		files := map[string]string{"/debian/dists/site/InRelease": c.release}
		if c.release == "" {
			files = nil
		}
		server := fakeArchive(t, files)
		for _, tool := range []string{Debootstrap, Mmdebstrap} {
			spec := c.spec
			spec.Mirror, spec.Security = server+"/debian", strings.ReplaceAll(c.spec.Security, "M", server)
			_, _, _, err := asked(t, tool, spec)
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%s, %s: %v, want %q", name, tool, err, want)
				}
			}
		}
	}
}

func TestAnArchiveThatIsOutOfDateIsWarnedOfByBothTools(t *testing.T) {
	server := fakeArchive(t, map[string]string{"/debian/dists/site/InRelease": fields("main", -2*week, -week)})
	for _, tool := range []string{Debootstrap, Mmdebstrap} {
		_, _, log, err := asked(t, tool, Spec{Mirror: server + "/debian", Security: SecurityNone})
		if err != nil || strings.Count(log, "was valid until") != 1 {
			t.Errorf("%s: %v\n%s", tool, err, log)
		}
	}
}

func TestAnArchiveThatDoesNotAnswerIsTheToolsToComplainOf(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	got, lacks, log, err := asked(t, Mmdebstrap, Spec{Mirror: server.URL + "/debian"})
	if err != nil || lacks != "updates, security updates" || got != server.URL+"/debian site main" || strings.Count(log, "goes without updates") != 1 {
		t.Errorf("%v\n%s\n%s", err, got, log)
	}
}

func TestWhatNoArchiveCouldBeReachedForIsToldApartFromWhatNoneHas(t *testing.T) {
	suite := fields("main", 0, week)
	for name, c := range map[string]struct {
		files        map[string]string
		want, lacks  string
		saysOfReason string
	}{
		"security": {map[string]string{"/debian/dists/site-updates/InRelease": suite, "/debian-security/dists/site-security/InRelease": outOfReach},
			"M/debian site main\nM/debian site-updates main", LacksSecurity, "503"},
		"updates": {map[string]string{"/debian/dists/site-updates/InRelease": outOfReach, "/debian/dists/site-security/InRelease": suite},
			"M/debian site main\nM/debian site-security main", LacksUpdates, "503"},
		"neither": {map[string]string{"/debian/dists/site-updates/InRelease": outOfReach, "/debian/dists/site-security/InRelease": outOfReach},
			"M/debian site main", LacksUpdates + ", " + LacksSecurity, "503"},
		"one of two places": {map[string]string{"/debian/dists/site-security/InRelease": outOfReach, "/debian-security/dists/site-security/InRelease": suite},
			"M/debian site main\nM/debian-security site-security main", "", ""},
		"none is there": {nil, "M/debian site main", "", "none has one"},
	} {
		files := map[string]string{"/debian/dists/site/InRelease": suite}
		maps.Copy(files, c.files)
		server := fakeArchive(t, files)
		for _, tool := range []string{Debootstrap, Mmdebstrap} {
			got, lacks, log, err := asked(t, tool, Spec{Mirror: server + "/debian"})
			if want := strings.ReplaceAll(c.want, "M", server); err != nil || got != want || lacks != c.lacks || !strings.Contains(log, c.saysOfReason) {
				t.Errorf("%s, %s: %v\n%s\nwant\n%s\nlacks %q, not %q\n%s", name, tool, err, got, want, lacks, c.lacks, log)
			}
		}
	}
}

func TestASnapshotsSecurityArchiveIsAtTheSamePlace(t *testing.T) {
	got := siblings("http://snapshot.example/archive/debian/20260101T000000Z")
	if len(got) == 0 || got[0] != "http://snapshot.example/archive/debian-security/20260101T000000Z" {
		t.Error(got)
	}
	if got := siblings("http://mirror.example/debian"); len(got) != 1 || got[0] != "http://mirror.example/debian-security" {
		t.Error(got)
	}
	if got := siblings("http://mirror.example"); len(got) != 1 || got[0] != "http://mirror.example/debian-security" {
		t.Error(got)
	}
}

// A mirror, or a proxy, may take one connection of a client only.
func TestAnArchiveThatIsAskedTooMuchAtOnceIsAskedOnceMore(t *testing.T) {
	good := fields("main", 0, week)
	var now atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer now.Add(-1)
		if now.Add(1) > 1 {
			http.Error(w, "one at a time", http.StatusTooManyRequests)
			return
		}
		time.Sleep(100 * time.Millisecond)
		switch r.URL.Path {
		case "/debian/dists/site/InRelease", "/debian/dists/site-updates/InRelease", "/debian-security/dists/site-security/InRelease":
			fmt.Fprint(w, good)
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	for _, tool := range []string{Debootstrap, Mmdebstrap} {
		got, lacks, log, err := asked(t, tool, Spec{Mirror: server.URL + "/debian"})
		want := strings.ReplaceAll("M/debian site main\nM/debian site-updates main\nM/debian-security site-security main", "M", server.URL)
		if err != nil || got != want || lacks != "" {
			t.Errorf("%s: %v\n%s\nlacks %q\n%s", tool, err, got, lacks, log)
		}
	}
}
