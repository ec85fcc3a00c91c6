package bootstrap

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const exampleMirror = "http://mirror.example/debian"

var tool = Tool{Name: Debootstrap, Version: "1", Keyring: "/keys.gpg"}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDebootstrapIsRunWithSignaturesChecked(t *testing.T) {
	spec := Spec{Suite: "bookworm", Arch: "i386", Mirror: exampleMirror + "//", Components: []string{"main", "contrib"}, ExtraPkgs: []string{"ssh", "vim"}, NodeArch: "amd64"}
	want := []string{
		"debootstrap", "--arch=i386", "--keyring=/keys.gpg", "--force-check-gpg", "--components=main,contrib",
		"--include=ssh,vim", "bookworm", "/target", exampleMirror,
	}
	if diff := cmp.Diff(want, debootstrapArgs(tool, spec, "/target")); diff != "" {
		t.Error(diff)
	}
	want = []string{"debootstrap", "--arch=amd64", "--keyring=/keys.gpg", "--force-check-gpg", "--components=main", "bookworm", "/target"}
	if diff := cmp.Diff(want, debootstrapArgs(tool, Spec{Suite: "bookworm", NodeArch: "amd64"}, "/target")); diff != "" {
		t.Error(diff)
	}
}

func TestMmdebstrapIsRunForDebootstrapsTree(t *testing.T) {
	common := []string{
		"mmdebstrap", "--mode=root", "--format=directory", "--variant=debootstrap", "--architectures=amd64", "--components=main",
		"--skip=cleanup/apt/lists,check/signed-by,check/empty", "--keyring=/k/trusted",
	}
	tests := map[string]struct {
		tool Tool
		spec Spec
		rest []string
	}{
		"base-files merges /usr": {Tool{}, Spec{Suite: "trixie"}, []string{"trixie", "/target"}},
		"the hook merges /usr":   {Tool{}, Spec{Suite: "bookworm"}, []string{"--setup-hook=/usr/share/mmdebstrap/hooks/merged-usr/setup00.sh", "--customize-hook=" + noDummy, "bookworm", "/target"}},
		"links merge /usr":       {Tool{}, Spec{Suite: "bullseye"}, []string{"--setup-hook=" + makeLinks, "--customize-hook=" + removeEmpty, "bullseye", "/target"}},
		"an unknown suite": {
			Tool{}, Spec{Suite: "chimaera", Sources: []Source{{URI: exampleMirror, Suite: "chimaera", Components: []string{"main"}}}},
			[]string{"--hook-directory=/usr/share/mmdebstrap/hooks/maybe-merged-usr", "chimaera", "/target", "deb " + exampleMirror + " chimaera main"},
		},
		"Ubuntu has no package for it": {
			Tool{distribution: "ubuntu"}, Spec{Suite: "noble"}, []string{"--setup-hook=" + makeLinks, "--customize-hook=" + removeEmpty, "noble", "/target"},
		},
		"in Ubuntu before 18.10 it isn't merged": {
			Tool{distribution: "ubuntu"}, Spec{Suite: "bionic"}, []string{"--hook-directory=/usr/share/mmdebstrap/hooks/maybe-merged-usr", "bionic", "/target"},
		},
	}
	for name, tc := range tests {
		tc.spec.NodeArch = "amd64"
		want := slices.Clone(common)
		if tc.spec.Suite == "bookworm" {
			want = append(want, "--include=usr-is-merged")
		}
		want = append(append(want, "--setup-hook="+aptOptions), tc.rest...)
		// After the hooks that install something, before the suite.
		at := slices.Index(want, tc.spec.Suite)
		want = slices.Insert(want, at, prefetch()...)
		if diff := cmp.Diff(want, mmdebstrapArgs(tc.tool, tc.spec, "/target", "", []string{"/k/trusted"})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	scripts := []string{Spec{Suite: "trixie", NodeArch: "amd64"}.fetchLater([]string{"ssh"})}
	for _, hook := range prefetch() {
		_, script, _ := strings.Cut(hook, "=")
		scripts = append(scripts, script)
	}
	for _, script := range scripts {
		if out, err := exec.Command("sh", "-n", "-c", script).CombinedOutput(); err != nil {
			t.Errorf("%v: %s\n%s", err, out, script)
		}
	}
	spec := Spec{Suite: "trixie", NodeArch: "amd64", Mirror: "https://mirror.example/debian", ExtraPkgs: []string{"ssh"}}
	if args := mmdebstrapArgs(Tool{}, spec, "/target", "", nil); !strings.Contains(strings.Join(args, " "), " --include=ca-certificates,ssh ") {
		t.Errorf("an https mirror without ca-certificates: %q", args)
	}
}

func TestAllFaultsOfASpecificationComeAtOnce(t *testing.T) {
	spec := Spec{
		Tool: "cdebootstrap", Suite: "--help", Arch: "AMD64", Mirror: "deb http://user:secret@mirror.example/ x main",
		Components: []string{"main", "-x"}, ExtraPkgs: []string{"ssh", "Vim", "a b", "../x.deb", "--simulate"},
	}
	_, err := Choose(t.Context(), spec)
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{`"cdebootstrap"`, `"--help"`, `"AMD64"`, `"-x"`, `"Vim"`, `"a b"`, `"../x.deb"`, `"--simulate"`, "mirror"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error doesn't name %s: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error shows a password: %v", err)
	}
	must(t, errors.Join(Spec{Suite: "trixie", Arch: "amd64", Mirror: "https://u@mirror.example/a", ExtraPkgs: []string{"libstdc++6", "g++"}, Components: []string{"non-free-firmware"}}.check()...))
}

func TestWithoutDpkgTheArchitectureMustBeSet(t *testing.T) {
	_, err := Choose(t.Context(), Spec{Suite: "trixie"})
	if err == nil || !strings.Contains(err.Error(), "set ARCH") {
		t.Errorf("error %v", err)
	}
}

func TestTheHostArchitectureIsDpkgs(t *testing.T) {
	want, err := exec.Command("dpkg", "--print-architecture").Output()
	must(t, err)
	got, err := HostArch(t.Context())
	must(t, err)
	if got != strings.TrimSpace(string(want)) || got != goArch() {
		t.Errorf("got %q, goArch %q, dpkg says %q", got, goArch(), want)
	}
}

// hostSpec is a specification for this node's architecture.
func hostSpec(t *testing.T, tool, suite string) Spec {
	t.Helper()
	arch, err := HostArch(t.Context())
	must(t, err)
	return Spec{Tool: tool, Suite: suite, NodeArch: arch}
}

func TestAutoTakesMmdebstrapWhereItGivesDebootstrapsTree(t *testing.T) {
	tests := []struct{ tool, suite, mirror, want string }{
		{Auto, "bookworm", "", Mmdebstrap},
		{"", "trixie", exampleMirror, Mmdebstrap},
		{Auto, "forky", exampleMirror, Mmdebstrap},
		{Auto, "buster", exampleMirror, Debootstrap},
		{Auto, "bookworm", "file:///srv/mirror", Debootstrap},
		{Debootstrap, "bookworm", exampleMirror, Debootstrap},
		{Mmdebstrap, "buster", exampleMirror, Mmdebstrap},
	}
	for _, tc := range tests {
		spec := hostSpec(t, tc.tool, tc.suite)
		spec.Mirror = tc.mirror
		got, err := Choose(t.Context(), spec)
		if err != nil || got.Name != tc.want {
			t.Errorf("%+v: %+v, %v", tc, got, err)
			continue
		}
		out, err := exec.Command("sha256sum", got.Keyring).Output()
		must(t, err)
		if !strings.HasPrefix(string(out), got.KeyringSHA256+" ") || got.Version == "" {
			t.Errorf("%+v: %+v, sha256sum says %s", tc, got, out)
		}
	}
}

// Suites that nobody knows, since the node's debootstrap may come to know the others.
func TestUbuntusNextSuitesAreMmdebstraps(t *testing.T) {
	for _, tc := range []struct{ tool, suite, mirror, want, says string }{
		{Auto, "noble", "", Debootstrap, ""},
		{Auto, "zany", "http://mirror.example/ubuntu", Mmdebstrap, ""},
		{Auto, "zany", "http://mirror.example/debian", Debootstrap, ""},
		{Debootstrap, "zany", "http://mirror.example/ubuntu", Debootstrap, ""}, // a site's own, say
		{Mmdebstrap, "zany", "file:///srv/ubuntu", "", "mirrors only, and not file:///srv/ubuntu: set another MIRROR"},
	} {
		spec := hostSpec(t, tc.tool, tc.suite)
		spec.Mirror, spec.Keyring = tc.mirror, filepath.Join(t.TempDir(), "site.gpg")
		must(t, os.WriteFile(spec.Keyring, []byte("keys"), 0o644))
		got, err := Choose(t.Context(), spec)
		if got.Name != tc.want || (err == nil) != (tc.want != "") || err != nil && (!strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "BOOTSTRAP=debootstrap")) {
			t.Errorf("%+v: %+v, %v", tc, got, err)
		}
	}
	if exists(filepath.Join(scriptsDir, nextUbuntu)) {
		return // who wrote that has seen to SHA-512
	}
	spec := hostSpec(t, Debootstrap, nextUbuntu)
	spec.Keyring = ubuntuKeyring
	if _, err := Choose(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "SHA-512") {
		t.Error(err)
	}
}

func TestAnUnknownSuiteIsNamedAndWhereTheKnownOnesAre(t *testing.T) {
	for _, tool := range []string{Auto, Debootstrap, Mmdebstrap} {
		_, err := Choose(t.Context(), hostSpec(t, tool, "bookwurm"))
		if err == nil || !strings.Contains(err.Error(), `"bookwurm"`) || !strings.Contains(err.Error(), "ls "+scriptsDir) {
			t.Errorf("%s: error %v", tool, err)
		}
	}
}

func TestWithoutAKeyringASuiteIsRefused(t *testing.T) {
	// debootstrap names no keyring for Ubuntu's first release.
	_, err := Spec{Suite: "warty"}.ownKeyring()
	if err == nil || !strings.Contains(err.Error(), "can't be checked") {
		t.Errorf("warty: %v", err)
	}
	path, err := Spec{Suite: "jammy"}.ownKeyring()
	if !exists("/usr/share/keyrings/ubuntu-archive-keyring.gpg") {
		if err == nil || !strings.Contains(err.Error(), "install ubuntu-keyring") {
			t.Errorf("jammy: %v", err)
		}
	} else if err != nil || path != "/usr/share/keyrings/ubuntu-archive-keyring.gpg" {
		t.Errorf("jammy: %s, %v", path, err)
	}
	for keyring, pkg := range map[string]string{
		"/usr/share/keyrings/debian-archive-keyring.pgp":      "debian-archive-keyring",
		"/usr/share/keyrings/debian-archive-removed-keys.gpg": "debian-archive-keyring",
		"/usr/share/keyrings/kali-archive-keyring.gpg":        "kali-archive-keyring",
	} {
		if got := keyringPackage(keyring); got != pkg {
			t.Errorf("%s is in %s, want %s", keyring, got, pkg)
		}
	}
}

// A guest gets its distribution's kernel, also by a site's own KEYRING, and of a suite that is newer
// than the node's debootstrap.
func TestWhoseSuiteItIsIsKnownBeforeItsArchiveIsAsked(t *testing.T) {
	for _, c := range []struct{ suite, keyring, mirror, want string }{
		{"jammy", "", "", "ubuntu"},
		{"jammy", "/etc/keys/site.gpg", "", "ubuntu"},
		{"noble", "", "", "ubuntu"},
		{"noble", "/etc/keys/site.gpg", "http://mirror.example/u", "ubuntu"},
		{"zany", "/etc/keys/ubuntu-archive-keyring.gpg", "http://mirror.example/u", "ubuntu"},
		{"zany", "/etc/keys/site.gpg", "http://mirror.example/ubuntu", "ubuntu"},
		{"zany", "/etc/keys/site.gpg", "http://mirror.example/ubuntu-ports", "ubuntu"},
		{"zany", "/etc/keys/site.gpg", "http://mirror.example/debian", "debian"},
		{"zany", "/etc/keys/ubuntu-site.gpg", "http://mirror.example/debian", "debian"},
		{"zany", "", "http://mirror.example/ubuntu/", "ubuntu"},
		{"forky", "", "http://mirror.example/ubuntu", "debian"},
		{"trixie", "/etc/keys/site.gpg", "http://mirror.example/ubuntu", "debian"},
		{"zany", "/etc/keys/site.gpg", "http://ubuntu.example", "debian"},
		{"sid", "", "", "debian"},
	} {
		if got := (Spec{Suite: c.suite, Keyring: c.keyring, Mirror: c.mirror}).distributionOf(); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// A tree of one's own is installed without a tool, and for its distribution's GRUB all the same.
func TestWhoseSuiteItIsIsKnownWithoutATool(t *testing.T) {
	spec := hostSpec(t, "nosuch", "noble")
	if tool, err := Choose(t.Context(), spec); err == nil || tool.Distribution() != "ubuntu" {
		t.Errorf("%s, %v", tool.Distribution(), err)
	}
}

func TestUbuntusOtherArchitecturesHaveTheirSecurityUpdatesInPorts(t *testing.T) {
	for arch, want := range map[string]string{"amd64": "http://security.ubuntu.com/ubuntu", "arm64": "http://ports.ubuntu.com/ubuntu-ports"} {
		if got := (Spec{Suite: "noble", Arch: arch}).ownSecurity(Tool{distribution: "ubuntu"}); got != want {
			t.Errorf("%s: %s", arch, got)
		}
		if got := (Spec{Suite: "sid", Arch: arch}).ownSecurity(Tool{}); got != "http://security.debian.org/debian-security" {
			t.Errorf("%s: %s", arch, got)
		}
	}
}

func TestAnArchitectureThatUbuntuHasElsewhereIsSaidToBeThere(t *testing.T) {
	for _, c := range []struct{ arch, distribution, mirror, said, more string }{
		{"arm64", "ubuntu", "http://m.example/ubuntu", "E: Couldn't download http://m.example/ubuntu/dists/noble/main/binary-arm64/Packages", "set MIRROR to that"},
		{"arm64", "ubuntu", "http://m.example/ubuntu-ports", "E: Couldn't download http://m.example/ubuntu-ports/dists/noble/main/binary-arm64/Packages", ""},
		{"arm64", "ubuntu", "", "E: Couldn't download http://ports.ubuntu.com/ubuntu-ports/dists/noble/main/binary-arm64/Packages", ""},
		{"armel", "ubuntu", "http://m.example/ubuntu", "E: Couldn't download http://m.example/ubuntu/dists/noble/main/binary-armel/Packages", ""},
		{"arm64", "ubuntu", "http://m.example/ubuntu", "E: Couldn't find these debs: ngnix", ""},
		{"amd64", "ubuntu", "http://m.example/ubuntu", "E: Couldn't download http://m.example/ubuntu/dists/noble/main/binary-amd64/Packages", ""},
		{"arm64", "debian", "http://m.example/debian", "E: Couldn't download http://m.example/debian/dists/sid/main/binary-arm64/Packages", ""},
	} {
		got := Spec{Arch: c.arch, Mirror: c.mirror}.blamePorts(Tool{distribution: c.distribution}, errors.New(c.said)).Error()
		if !strings.HasPrefix(got, c.said) || !strings.HasSuffix(got, c.said+c.more) && !strings.Contains(got, "ports.ubuntu.com/ubuntu-ports: "+c.more) {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestUbuntusI386IsRefusedSinceItIsNoWholeSystem(t *testing.T) {
	for suite, want := range map[string]bool{"noble": true, "jammy": true, "bionic": false, "bookworm": false} {
		err := Spec{Suite: suite, Arch: "i386", NodeArch: "amd64"}.checkArch(t.Context())
		if got := err != nil && strings.Contains(err.Error(), "set ARCH=amd64"); got != want {
			t.Errorf("%s: %v", suite, err)
		}
	}
}

func TestASuiteOfUbuntusThatDebootstrapDoesNotKnowIsMadeByItsOwnScript(t *testing.T) {
	spec := Spec{Suite: "resolute", Keyring: "/etc/keys/site.gpg", NodeArch: "amd64"}
	args := debootstrapArgs(Tool{Name: Debootstrap, Keyring: spec.Keyring, distribution: spec.distributionOf()}, spec, "/target")
	if got := strings.Join(args[len(args)-4:], " "); got != "resolute /target http://archive.ubuntu.com/ubuntu "+scriptsDir+"/gutsy" {
		t.Error(got)
	}
}

func TestAnArchitectureTheNodeCannotRunIsRefused(t *testing.T) {
	for _, tool := range []string{Debootstrap, Mmdebstrap} {
		spec := hostSpec(t, tool, "bookworm")
		spec.Arch = "hurd-amd64"
		_, err := Choose(t.Context(), spec)
		if err == nil || !strings.Contains(err.Error(), "hurd-amd64") || !strings.Contains(err.Error(), spec.NodeArch) || !strings.Contains(err.Error(), "qemu-user-static") {
			t.Errorf("%s: %v", tool, err)
		}
	}
	if spec := hostSpec(t, Auto, "bookworm"); spec.NodeArch == "amd64" {
		spec.Arch = "i386"
		_, err := Choose(t.Context(), spec)
		must(t, err)
	}
}

func TestVersionsAreComparedByNumber(t *testing.T) {
	for version, want := range map[string]bool{"1.3.5": true, "1.3": true, "1.10.0": true, "2": true, "1.2.9": false, "0.7.5-2.2": false, "1": false, "x": false} {
		if got := atLeast(version, 1, 3); got != want {
			t.Errorf("%s: %v", version, got)
		}
	}
}

func TestPasswordsAreMasked(t *testing.T) {
	spec := Spec{Mirror: "http://user:se@cret@mirror.example/debian", Proxy: "http://p:w@proxy.example:3128"}
	err := spec.mask(fmt.Errorf("get http://user:se@cret@mirror.example/debian/dists by http://p:w@proxy.example:3128: %w", os.ErrPermission))
	if got := err.Error(); got != "get http://xxxxx@mirror.example/debian/dists by http://xxxxx@proxy.example:3128: permission denied" {
		t.Error(got)
	}
	if !errors.Is(err, os.ErrPermission) {
		t.Error("the cause is lost")
	}
	if got := (Spec{Mirror: exampleMirror}).maskText(exampleMirror + "/a@b"); got != exampleMirror+"/a@b" {
		t.Error(got)
	}
}

func TestAFullTargetIsRefused(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "lost+found"), 0o700))
	must(t, checkTarget(dir))
	must(t, os.WriteFile(filepath.Join(dir, "precious"), nil, 0o600))
	_, err := Run(t.Context(), tool, hostSpec(t, Debootstrap, "bookworm"), dir)
	if err == nil || !strings.Contains(err.Error(), "precious") {
		t.Errorf("error %v", err)
	}
}

func TestAMirrorsPasswordMustStandInANetrc(t *testing.T) {
	for mirror, ok := range map[string]bool{
		"http://mirror.example/debian": true, "http://user:pass@mirror.example/debian": true, "https://user@mirror.example:8443": true,
		"http://user:p%40s%2Fs@mirror.example": true, "http://user:a%20b@mirror.example": false, "http://user:a%23b@mirror.example": false, "http://:pass@mirror.example": false,
	} {
		_, err := Spec{Mirror: mirror}.mirrorLogin()
		if (err == nil) != ok || err != nil && strings.Contains(err.Error(), "pass@") {
			t.Errorf("%s: %v", mirror, err)
		}
	}
}
