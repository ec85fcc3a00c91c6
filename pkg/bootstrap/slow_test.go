//go:build root && slow

package bootstrap

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/filesystem"
)

// archive returns the suite and the mirror to test with: TEST_SUITE, by default
// this machine's own, and TEST_MIRROR.
func archive(t *testing.T) (suite, mirror string) {
	t.Helper()
	if mirror = os.Getenv("TEST_MIRROR"); mirror == "" {
		t.Fatal("TEST_MIRROR must be the URL of a Debian mirror")
	}
	if suite = os.Getenv("TEST_SUITE"); suite == "" {
		out, err := exec.Command("sh", "-c", `. /etc/os-release && printf %s "$VERSION_CODENAME"`).Output()
		must(t, err)
		suite = string(out)
	}
	return suite, mirror
}

// allowed are the differences between both tools' trees, with the reason.
var allowed = []*regexp.Regexp{
	// Logs are about the run, not about the guest: mmdebstrap removes its own.
	regexp.MustCompile(`^var/log/(alternatives\.log|bootstrap\.log|dpkg\.log|apt/.*)$`),
	// A cache that ldconfig makes again.
	regexp.MustCompile(`^var/cache/ldconfig/aux-cache$`),
	// debootstrap fetches with wget, mmdebstrap with apt and its locks and its user.
	regexp.MustCompile(`^var/(cache/apt/archives|lib/apt/lists)/(lock|partial|auxfiles)$`),
	regexp.MustCompile(`^var/lib/apt/lists/.*_Release(\.gpg)?$`),
	// apt notes which packages came as dependencies; debootstrap knows no such thing.
	regexp.MustCompile(`^var/lib/apt/extended_states$`),
	// dpkg's notes of the architecture and, for dselect, of packages not installed.
	regexp.MustCompile(`^var/lib/dpkg/(arch|available|cmethopt)$`),
	// For a dependency "a | b" debootstrap takes a even where b is there already.
	regexp.MustCompile(`^(usr/share/doc/lsb-base(/.*)?|var/lib/dpkg/info/lsb-base\..*)$`),
	// The program of a group, whose number comes from the order in which packages are installed.
	regexp.MustCompile(`^usr/bin/ssh-agent$`),
	// The same unit, enabled before or after /usr was merged.
	regexp.MustCompile(`^etc/systemd/system/timers\.target\.wants/apt-daily(-upgrade)?\.timer$`),
}

// allowedContent are files that are in both trees and differ inside.
var allowedContent = []*regexp.Regexp{
	// Backups and the order in which packages made accounts, units and notes.
	regexp.MustCompile(`^etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$`),
	// Binary caches that name times and inodes.
	regexp.MustCompile(`^etc/ld\.so\.cache$|^var/cache/`),
	// dpkg's and apt's own notes, in the order of installation.
	regexp.MustCompile(`^var/lib/(dpkg|apt|ucf|systemd|pam)/`),
	regexp.MustCompile(`^var/log/`),
}

func matches(list []*regexp.Regexp, name string) bool {
	for _, re := range list {
		if re.MatchString(name) {
			return true
		}
	}
	return false
}

// listing runs a command that prints "NAME\tREST" lines and returns the REST of
// each name.
func listing(t *testing.T, dir, script string) map[string]string {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
	out, err := cmd.Output()
	must(t, err)
	m := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, rest, _ := strings.Cut(strings.TrimRight(line, "\n"), "\t")
		m[name] = rest
	}
	return m
}

// compare reports the names for which two listings differ.
func compare(t *testing.T, what string, a, b map[string]string, allowed []*regexp.Regexp) {
	t.Helper()
	names := map[string]bool{}
	for name := range a {
		names[name] = true
	}
	for name := range b {
		names[name] = true
	}
	var diffs []string
	for name := range names {
		if a[name] != b[name] && !matches(allowed, name) {
			diffs = append(diffs, name+": debootstrap "+a[name]+", mmdebstrap "+b[name])
		}
	}
	sort.Strings(diffs)
	for _, d := range diffs {
		t.Errorf("%s differ: %s", what, d)
	}
}

func TestBothToolsGiveTheSameTree(t *testing.T) {
	suite, mirror := archive(t)
	// The mirror asks for a password, which must be found nowhere, and signs by itself;
	// what is beside it is signed by the distribution.
	site := newSigner(t)
	guarded := guard(t, mirror, signsAnew(t, site, filepath.Base(strings.TrimRight(mirror, "/"))))
	more := sitePackages(t)
	trees := map[string]string{}
	for _, name := range []string{Debootstrap, Mmdebstrap} {
		spec := hostSpec(t, name, suite)
		spec.Mirror, spec.ExtraPkgs, spec.WorkDir = withLogin(guarded)+"/", []string{"openssh-server", "site-tool"}, t.TempDir()
		spec.Keyring, spec.Files, spec.MoreSources, spec.Scratch = site.keyring, more, true, true
		seen := watchTools(t)
		tool, err := Choose(t.Context(), spec)
		must(t, err)
		trees[name] = t.TempDir()
		var log bytes.Buffer
		start := time.Now()
		if _, err := Run(zerolog.New(&log).WithContext(t.Context()), tool, spec, trees[name]); err != nil {
			t.Fatalf("%v\n%s", err, log.String())
		}
		t.Logf("%s: %s", name, time.Since(start).Round(time.Second))
		if ahead := regexp.MustCompile(`"([1-9][0-9]*) of ([1-9][0-9]*) packages were decompressed ahead`).FindStringSubmatch(log.String()); ahead == nil && runtime.NumCPU() > 1 {
			t.Errorf("%s: nothing was decompressed ahead of dpkg\n%s", name, log.String())
		} else {
			t.Log(name, ahead)
		}
		if strings.Contains(log.String(), "left these running") {
			t.Errorf("%s started daemons: %s", name, log.String())
		}
		nothingLeft(t, trees[name])
		checkTree(t, trees[name], guarded, suite)
		if _, err := os.Stat(trees[name] + "/usr/share/site-tool/there"); err != nil {
			t.Errorf("%s: the site's own package: %v", name, err)
		}
		if found := seen(); len(found) > 0 {
			t.Errorf("%s: these processes had the password: %q", name, found)
		}
		if strings.Contains(log.String(), "CaNaRy7Bird") {
			t.Errorf("%s: the password is in its log:\n%s", name, log.String())
		}
		if out, err := exec.Command("grep", "-rl", "CaNaRy7Bird", trees[name]).CombinedOutput(); err == nil || len(out) > 0 {
			t.Errorf("%s: the password is in the tree: %s", name, out)
		}
		if left, _ := os.ReadDir(spec.WorkDir); len(left) > 0 {
			t.Errorf("%s left %v", name, left)
		}
	}
	deb, mm := trees[Debootstrap], trees[Mmdebstrap]
	const packages = `dpkg-query --root=. -W -f '${Package}:${Architecture}\t${Version} ${db:Status-Abbrev}\n'`
	compare(t, "packages", listing(t, deb, packages), listing(t, mm, packages), []*regexp.Regexp{regexp.MustCompile(`^lsb-base:`)})
	const files = `find . -xdev -printf '%P\t%y %m %U:%G %l\n'`
	compare(t, "files", listing(t, deb, files), listing(t, mm, files), allowed)
	const sums = `find . -xdev -type f -printf '%P\0' | xargs -0 sha256sum | sed -E 's/^([^ ]*)  (.*)/\2\t\1/'`
	compare(t, "contents", listing(t, deb, sums), listing(t, mm, sums), append(append([]*regexp.Regexp{}, allowed...), allowedContent...))
}

// A tree whose init is sysvinit has the same packages by either tool, but for the
// package that makes systemd the init.
func TestSysvinitTakesSystemdsPlaceByBothTools(t *testing.T) {
	suite, mirror := archive(t)
	packages := map[string]map[string]string{}
	for _, name := range []string{Debootstrap, Mmdebstrap} {
		spec := hostSpec(t, name, suite)
		spec.Mirror, spec.ExtraPkgs, spec.WorkDir = mirror, []string{"sysvinit-core"}, t.TempDir()
		spec.Files = map[string]string{"/etc/before/packages": "mine\n"}
		tool, err := Choose(t.Context(), spec)
		must(t, err)
		tree := t.TempDir()
		_, err = Run(t.Context(), tool, spec, tree)
		must(t, err)
		if init, _ := os.Readlink(tree + "/sbin/init"); strings.Contains(init, "systemd") {
			t.Errorf("%s: /sbin/init leads to %s", name, init)
		}
		if out, err := exec.Command("chroot", tree, "dpkg", "--audit").CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v %s", name, err, out)
		}
		if text, err := os.ReadFile(tree + "/etc/before/packages"); err != nil || string(text) != "mine\n" {
			t.Errorf("%s: %v %q", name, err, text)
		}
		packages[name] = listing(t, tree, `dpkg-query --root=. -W -f '${Package}:${Architecture}\t${Version} ${db:Status-Abbrev}\n'`)
	}
	for name := range packages[Mmdebstrap] {
		if strings.HasPrefix(name, "systemd-sysv:") {
			t.Error(name + " is there")
		}
	}
	compare(t, "packages", packages[Debootstrap], packages[Mmdebstrap], []*regexp.Regexp{regexp.MustCompile(`^lsb-base:`)})
}

// checkTree checks what holds for either tool's tree.
func checkTree(t *testing.T, target, mirror, suite string) {
	t.Helper()
	// What apt itself takes from its sources, in whatever format they are.
	uris, err := exec.Command("chroot", target, "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages").CombinedOutput()
	must(t, err)
	security := strings.TrimSuffix(mirror, "/debian") + "/debian-security/"
	for _, want := range []string{mirror + "/ " + suite + " main", mirror + "/ " + suite + "-updates main", security + " " + suite + "-security main"} {
		if !strings.Contains(string(uris), want+"\n") {
			t.Errorf("apt's sources lack %q:\n%s", want, uris)
		}
	}
	// It is patched: its own apt has nothing newer.
	if out, err := exec.Command("chroot", target, "apt-get", "-s", "dist-upgrade").CombinedOutput(); err != nil || !strings.Contains(string(out), "\n0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n") {
		t.Errorf("apt has newer packages: %v\n%s", err, out)
	}
	out, err := exec.Command("chroot", target, "apt-cache", "policy", "hello").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Candidate: ") || strings.Contains(string(out), "Candidate: (none)") {
		t.Errorf("apt knows no packages yet: %v\n%s", err, out)
	}
	for _, name := range []string{
		"etc/ssh/ssh_host_*", "var/cache/apt/archives/*.deb", "usr/sbin/policy-rc.d", "sbin/start-stop-daemon.REAL", scratchName,
		"debootstrap", "etc/apt/apt.conf.d/*mmdebstrap*", "etc/dpkg/dpkg.cfg.d/*mmdebstrap*", "etc/apt/trusted.gpg", "run/[^l]*", "tmp/*",
	} {
		if found, _ := filepath.Glob(filepath.Join(target, name)); len(found) > 0 {
			t.Errorf("left in the tree: %q", found)
		}
	}
	if st, err := os.Stat(filepath.Join(target, "etc/machine-id")); err == nil && st.Size() != 0 {
		t.Errorf("machine-id has %d bytes", st.Size())
	}
	if out, err := exec.Command("grep", "-rlI", "-i", "proxy \"", filepath.Join(target, "etc/apt")).Output(); err == nil {
		t.Errorf("a proxy stayed in the guest: %s", out)
	}
	if out, err := exec.Command("chroot", target, "dpkg", "--audit").CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("dpkg --audit: %v %s", err, out)
	}
}

func TestCancellingWhilePackagesInstallLeavesNothing(t *testing.T) {
	suite, mirror := archive(t)
	for _, name := range []string{Debootstrap, Mmdebstrap} {
		spec := hostSpec(t, name, suite)
		spec.Mirror = mirror
		tool, err := Choose(t.Context(), spec)
		must(t, err)
		target := t.TempDir()
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { // when something is mounted in the tree its programs run
			for ctx.Err() == nil {
				if points, err := filesystem.MountsBelow(target); err == nil && len(points) > 0 {
					time.Sleep(2 * time.Second)
					cancel(errors.New("told to stop"))
				}
				time.Sleep(50 * time.Millisecond)
			}
		}()
		_, err = Run(ctx, tool, spec, target)
		if err == nil || !strings.Contains(err.Error(), "told to stop") {
			t.Errorf("%s: %v", name, err)
		}
		nothingLeft(t, target)
	}
}

func TestARehearsalSaysInSecondsWhetherTheTreeCanBeMade(t *testing.T) {
	suite, mirror := archive(t)
	guarded := withLogin(guard(t, mirror, nil))
	for _, name := range []string{Debootstrap, Mmdebstrap} {
		spec := hostSpec(t, name, suite)
		spec.Mirror, spec.WorkDir, spec.Security = guarded, t.TempDir(), SecurityNone
		tool, err := Choose(t.Context(), spec)
		must(t, err)
		for pkg, want := range map[string]string{"linux-image-cloud-" + spec.NodeArch: "", "linux-image-of-nobody": "linux-image-of-nobody"} {
			spec.ExtraPkgs = []string{pkg}
			dir, start := t.TempDir(), time.Now()
			err := Rehearse(t.Context(), tool, spec, dir)
			t.Logf("%s, %s: %s", name, pkg, time.Since(start).Round(time.Second))
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s, %s: %v", name, pkg, err)
			}
			nothingLeft(t, dir)
			if _, err := os.Stat(filepath.Join(dir, "usr/bin/dpkg")); err == nil {
				t.Errorf("%s has made the tree", name)
			}
		}
	}
}
