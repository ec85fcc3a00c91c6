//go:build root

package root

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// entryOf is the tree that create takes with these variables.
func (l *lab) entryOf(env ...string) string {
	l.Helper()
	before := l.tars()
	for i := 0; i < len(env); i += 2 {
		l.env[env[i]] = env[i+1]
	}
	l.create()
	for i := 0; i < len(env); i += 2 {
		delete(l.env, env[i])
	}
	for _, name := range l.tars() {
		if !slices.Contains(before, name) {
			return filepath.Join(base, "cache", name)
		}
	}
	l.Fatal("no new tree")
	return ""
}

func TestTreesOfParametersAreRenewedByWhatIsNotedDownOfThem(t *testing.T) {
	l := newCacheLab(t)
	l.setting("CACHE_STALE_OK=yes", "EXTRA_PKGS=base-one")
	plain := l.entryOf()
	used := l.entryOf("OSP_EXTRA_PKGS", "foo,bar", "OSP_COMPONENTS", "main,contrib")
	unused := l.entryOf("OSP_EXTRA_PKGS", "baz")
	elsewhere := l.entryOf("OSP_EXTRA_PKGS", "qux", "OSP_MIRROR", "http://other.example/debian")
	for _, tar := range []string{plain, used, unused, elsewhere} {
		l.ageEntry(tar, 50)
		if tar == unused {
			l.age(strings.TrimSuffix(tar, ".tar")+".json", 50)
		}
	}
	calls := filepath.Join(t.TempDir(), "calls")
	fake, err := os.ReadFile(filepath.Join(l.fakes, "debootstrap"))
	must(t, err)
	l.fake("debootstrap", strings.Replace(string(fake), "echo \"I: Retrieving\"", "echo \"$*\" >>"+calls, 1))
	before := map[string]uint64{}
	for _, tar := range []string{plain, used, unused, elsewhere} {
		before[tar] = inode(t, tar)
	}

	out := l.cache("warm", "--expired")
	for tar, is := range map[string]bool{plain: true, used: true, unused: false, elsewhere: true} {
		if got := inode(t, tar) != before[tar]; got != is {
			t.Errorf("%s renewed: %v\n%s", tar, got, out)
		}
	}
	l.matches(out, filepath.Base(unused)+": past its age, and not renewed: no create has used it since it was made")
	l.matches(out, `trees made: 0, renewed: 3, as they were: 0, in [0-9.]+ s`)
	said, err := os.ReadFile(calls)
	must(t, err)
	for _, want := range []string{`--include=foo,bar .*http://mirror.example/debian`, `--components=main,contrib .*--include=\S*foo|--include=\S*foo\S* .*--components=main,contrib`, `--include=\S*qux\S* .*http://other.example/debian`} {
		l.matches(string(said), want)
	}
	if again := l.cache("warm", "--expired"); !strings.Contains(again, "trees made: 0, renewed: 0, as they were: 1, in ") {
		t.Errorf("once more:\n%s", again)
	}

	// One tree is asked for, so none else is renewed; and another tool makes others.
	l.ageEntry(used, 50)
	if out := l.cache("warm", "--expired", "--suite", "trixie"); !strings.Contains(out, "renewed: 0,") {
		t.Errorf("of one suite:\n%s", out)
	}
	text, err := os.ReadFile(filepath.Join(l.fakes, "debootstrap"))
	must(t, err)
	l.fake("debootstrap", strings.Replace(string(text), "debootstrap 1.0.0", "debootstrap 1.0.1", 1))
	l.matches(l.cache("warm", "--expired"), filepath.Base(used)+": past its age, and not renewed: it was made by debootstrap 1.0.0 and other keys than there are now")
}
