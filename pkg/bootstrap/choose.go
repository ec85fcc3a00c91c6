package bootstrap

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/ubuntu"
)

// scriptsDir holds one script for each suite that debootstrap knows.
const scriptsDir = "/usr/share/debootstrap/scripts"

// functionsFile has what all of debootstrap's scripts do.
const functionsFile = "/usr/share/debootstrap/functions"

// The oldest mmdebstrap with the options and hooks that are used here: Debian 12's.
const mmMajor, mmMinor = 1, 3

// Choose checks the whole specification and the node, writes nothing, and
// returns the tool to run: with Tool auto that is mmdebstrap where it is
// installed and gives debootstrap's tree for the suite, else debootstrap. Every
// fault is in the one error.
func Choose(ctx context.Context, spec Spec) (Tool, error) {
	none := Tool{distribution: spec.distributionOf()} // which a tree that is there is of, too
	faults := spec.check()
	if len(faults) > 0 {
		return none, spec.mask(errors.Join(faults...))
	}
	name, err := spec.chooseName(ctx)
	if err != nil {
		return none, err
	}
	tool := Tool{Name: name, Keyring: spec.Keyring, distribution: none.distribution}
	if spec.Keyring == "" {
		tool.Keyring, err = spec.ownKeyring()
	}
	if err == nil {
		tool.KeyringSHA256, err = digest(tool.Keyring)
	}
	if err != nil {
		faults = append(faults, err)
	}
	if err := spec.checkArch(ctx); err != nil {
		faults = append(faults, err)
	}
	if tool.Version, err = version(ctx, name); err != nil {
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return none, err
	}
	return tool, nil
}

// chooseName returns the tool that the specification asks for, or the better
// one that can do it.
func (s Spec) chooseName(ctx context.Context) (string, error) {
	deb, mm := s.lacksDebootstrap(), s.lacksMmdebstrap(ctx)
	switch s.Tool {
	case Debootstrap:
		return Debootstrap, deb
	case Mmdebstrap:
		return Mmdebstrap, mm
	}
	if mm == nil && (mmSuites[s.Suite] != "" || s.isUbuntusNext()) {
		return Mmdebstrap, nil
	}
	if deb == nil {
		zerolog.Ctx(ctx).Debug().AnErr("reason", mm).Msgf("mmdebstrap can't do it or isn't known to give debootstrap's tree for %s: taking debootstrap", s.Suite)
		return Debootstrap, nil
	}
	if (s.knows() || s.Keyring != "") && mm != nil {
		return "", fmt.Errorf("%w; nor can mmdebstrap be taken: %w", deb, mm)
	}
	return "", deb
}

// lacksDebootstrap says why debootstrap can't make the tree, nil is nothing.
func (s Spec) lacksDebootstrap() error {
	var missing []string
	for _, name := range []string{Debootstrap, "wget"} { // package and program have one name
		if !onNode(name) {
			missing = append(missing, name)
		}
	}
	if !slices.ContainsFunc(checkers(), onNode) {
		missing = append(missing, checkers()[0])
	}
	if len(missing) > 0 {
		return fmt.Errorf("debootstrap can't run on this node: install the packages %s", strings.Join(missing, ", "))
	}
	if !s.knows() && s.Keyring == "" {
		return fmt.Errorf("suite %q: this node's debootstrap doesn't know it; `ls %s` shows the suites it knows, and KEYRING names the keys of another", s.Suite, scriptsDir)
	}
	if ubuntu.Since(s.Suite, nextUbuntu) && s.isUbuntusNext() {
		return fmt.Errorf("suite %q: this node's debootstrap can't read its Release file, whose digests are SHA-512 alone: install mmdebstrap, and leave BOOTSTRAP at auto", s.Suite)
	}
	return nil
}

// checkers are the programs of which debootstrap takes one to check an archive's signature: Debian
// 13's also those that its apt has in place of gpgv.
func checkers() []string {
	if bytes.Contains(head(functionsFile, 256<<10), []byte("in_path sqv")) {
		return []string{"gpgv", "sopv", "sqv"}
	}
	return []string{"gpgv"}
}

func onNode(program string) bool {
	_, err := command.Look(program)
	return err == nil
}

// lacksMmdebstrap says why mmdebstrap can't make the tree, nil is nothing.
func (s Spec) lacksMmdebstrap(ctx context.Context) error {
	for _, name := range []string{Mmdebstrap, "apt-get", "apt-config", "dpkg"} {
		if _, err := command.Look(name); err != nil {
			return fmt.Errorf("mmdebstrap can't run on this node: %w: install the packages mmdebstrap and apt", err)
		}
	}
	v, err := version(ctx, Mmdebstrap)
	if err != nil {
		return err
	}
	if !atLeast(v, mmMajor, mmMinor) {
		return fmt.Errorf("mmdebstrap %s is too old: install %d.%d or later%s", v, mmMajor, mmMinor, s.orDebootstrap())
	}
	if !s.knows() && s.Keyring == "" {
		return fmt.Errorf("suite %q: neither debootstrap nor we know it; `ls %s` shows the suites that debootstrap knows, and KEYRING names the keys of another", s.Suite, scriptsDir)
	}
	if _, err := command.Look("arch-test"); err != nil && s.foreign() {
		return fmt.Errorf("mmdebstrap needs arch-test for architecture %s: %w: install the package arch-test", s.arch(), err)
	}
	if scheme, _, _ := strings.Cut(s.Mirror, ":"); s.Mirror != "" && scheme != "http" && scheme != "https" {
		return fmt.Errorf("mmdebstrap takes http and https mirrors only, and not %s: set another MIRROR%s", s.maskText(s.Mirror), s.orDebootstrap())
	}
	if merge, ok := mmSuites[s.Suite]; (!ok || merge == mergeByHook) && !exists(mmHooks+mergeHook) {
		return fmt.Errorf("mmdebstrap: its hooks are missing in %s; install the package again%s", mmHooks, s.orDebootstrap())
	}
	return nil
}

// orDebootstrap ends a remedy with the other tool, if that can make the suite.
func (s Spec) orDebootstrap() string {
	if s.isUbuntusNext() {
		return ""
	}
	return ", or BOOTSTRAP=debootstrap"
}

// knows tells whether the suite's keyring is known, by debootstrap or by us.
func (s Spec) knows() bool { return s.isListed() || s.isNamed() }

// isListed tells whether debootstrap or we know the suite by its name.
func (s Spec) isListed() bool { return s.isOurs() || exists(filepath.Join(scriptsDir, s.Suite)) }

func (s Spec) isOurs() bool {
	return mmSuites[s.Suite] != "" || ubuntu.Since(s.Suite, newUbuntu)
}

// isNamed tells whether we know the suite by ourselves. One that nobody knows is Ubuntu's next if
// MIRROR is.
func (s Spec) isNamed() bool {
	return s.isOurs() || s.mirrorsDistribution() == "ubuntu"
}

var (
	suitePattern = pattern.New(`^[a-z][a-z0-9._+-]*$`)
	archPattern  = pattern.New(`^[a-z][a-z0-9-]*$`)
	// packagePattern is Debian policy 5.6.7's rule for package names. A "-" at the end has apt
	// remove the package (apt-get(8)).
	packagePattern   = pattern.New(`^[a-z0-9][a-z0-9+.-]*[a-z0-9+.]$`)
	componentPattern = pattern.New(`^[a-z][a-z0-9./_-]*$`)
)

// check returns all faults of the specification alone.
func (s Spec) check() (faults []error) {
	switch s.Tool {
	case "", Auto, Debootstrap, Mmdebstrap:
	default:
		faults = append(faults, fmt.Errorf("bootstrap tool %q: must be %s, %s or %s", s.Tool, Auto, Debootstrap, Mmdebstrap))
	}
	if !suitePattern().MatchString(s.Suite) || s.Suite == "debian-common" {
		faults = append(faults, fmt.Errorf("suite %q: not a suite's name; `ls %s` shows those that debootstrap knows", s.Suite, scriptsDir))
	}
	if s.arch() == "" {
		faults = append(faults, errNoArch)
	} else if !archPattern().MatchString(s.arch()) {
		faults = append(faults, fmt.Errorf("architecture %q: not a Debian architecture's name (amd64, arm64, …)", s.arch()))
	}
	for _, c := range s.Components {
		if !componentPattern().MatchString(c) {
			faults = append(faults, fmt.Errorf("component %q: not a component's name (main, contrib, …)", c))
		}
	}
	for _, p := range s.ExtraPkgs {
		if !packagePattern().MatchString(p) {
			faults = append(faults, fmt.Errorf("extra package %q: not a package's name", p))
		}
	}
	if _, err := s.mirrorLogin(); err != nil {
		faults = append(faults, err)
	}
	if u, err := url.Parse(s.Mirror); s.Mirror != "" && (err != nil || u.Scheme == "" || strings.ContainsAny(s.Mirror, " \t\n\"'|[]")) {
		faults = append(faults, fmt.Errorf("mirror %q: not a URL such as http://mirror.example/debian", s.maskText(s.Mirror)))
	}
	return faults
}

var errNoArch = errors.New("this node has no dpkg to tell its architecture: set ARCH (amd64, arm64, …)")

// HostArch returns the node's architecture in Debian's words. On a node without
// dpkg that is an error which says to set ARCH.
func HostArch(ctx context.Context) (string, error) {
	if _, err := command.Look("dpkg"); err != nil {
		return "", errNoArch
	}
	arch, err := command.Output(ctx, "dpkg", "--print-architecture")
	if err != nil {
		return "", fmt.Errorf("node's architecture: %w", err)
	}
	if !archPattern().MatchString(arch) {
		return "", fmt.Errorf("node's architecture: dpkg --print-architecture says %s", pattern.Quote(arch))
	}
	return arch, nil
}

// goArch is Debian's name for the machine we were built for, for nodes without
// dpkg.
func goArch() string {
	names := map[string]string{"386": "i386", "arm": "armhf", "ppc64le": "ppc64el"}
	if name, ok := names[runtime.GOARCH]; ok {
		return name
	}
	return runtime.GOARCH
}

func (s Spec) node() string {
	if s.NodeArch == "" {
		return goArch()
	}
	return s.NodeArch
}

func (s Spec) foreign() bool { return s.arch() != s.node() }

// checkArch tells whether the node can run the guest's programs, which every
// bootstrap does: by itself, or by binfmt_misc and qemu-user.
func (s Spec) checkArch(ctx context.Context) error {
	if s.arch() == "i386" && ubuntu.Since(s.Suite, withoutI386) {
		return fmt.Errorf("architecture i386: Ubuntu's %s has only libraries for it, and no whole system: set ARCH=amd64", s.Suite)
	}
	if !s.foreign() {
		return nil
	}
	if _, err := command.Look("arch-test"); err != nil {
		if s.node() == "amd64" && s.arch() == "i386" {
			return nil
		}
		return fmt.Errorf("architecture %s on this %s node: install arch-test, to tell whether it can run", s.arch(), s.node())
	}
	_, err := command.Output(ctx, "arch-test", s.arch())
	if status := command.ExitStatus(err); err != nil && status > 0 {
		return fmt.Errorf("architecture %s: this %s node can't run its programs (`arch-test %s`); install qemu-user-static and binfmt-support; if they are installed, /proc/sys/fs/binfmt_misc may not be mounted: `systemctl restart binfmt-support`", s.arch(), s.node(), s.arch())
	}
	return err
}

// versionLine is where both tools, which are scripts, say their version.
var versionLine = pattern.New(`(?m)^\s*(?:our \$)?VERSION\s*=\s*'([^']+)'`)

// printedVersion is the version that a tool prints, behind its name.
var printedVersion = pattern.New(`^[a-z]+ (?:version )?([0-9][0-9A-Za-z.+~-]*)\s*$`)

// version returns the tool's version: as its script says it, for starting Perl
// to ask it costs a quarter of a second in each create, else what `TOOL
// --version` tells.
func version(ctx context.Context, tool string) (string, error) {
	if path, err := command.Look(tool); err == nil {
		if m := versionLine().FindSubmatch(head(path, 16<<10)); m != nil {
			return string(m[1]), nil
		}
	}
	out, err := command.Output(ctx, tool, "--version")
	if err != nil {
		return "", fmt.Errorf("version of %s: %w", tool, err)
	}
	m := printedVersion().FindStringSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("version of %s: it prints %s, which is none: install the package %[1]s again, or remove what stands in its place", tool, pattern.Quote(out))
	}
	return m[1], nil
}

// head returns at most the first n bytes of a file, nil when it can't be read.
func head(path string, n int64) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, n))
	return b
}

// atLeast compares the first two numbers of a version.
func atLeast(version string, major, minor int) bool {
	parts := strings.SplitN(version+".0", ".", 3)
	a, errA := strconv.Atoi(parts[0])
	b, errB := strconv.Atoi(parts[1])
	return errA == nil && errB == nil && (a > major || a == major && b >= minor)
}

// digest returns the sha256 of a file in hex.
func digest(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("archive keyring: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}
