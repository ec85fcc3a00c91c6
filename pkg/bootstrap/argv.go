package bootstrap

import (
	"path/filepath"
	"slices"
	"strings"

	"instance-debootstrap/pkg/ubuntu"
)

// mmHooks is where mmdebstrap keeps its own hooks. The first of merged-usr merges /usr as
// debootstrap does, with an empty package in usr-is-merged's stead, which the second
// replaces in a run of apt's own: that takes a tenth of the time, so usr-is-merged is among
// the other packages instead. maybe-merged-usr does both where the suite has usr-is-merged.
const mmHooks = "/usr/share/mmdebstrap/hooks/"

// How mmdebstrap is made to merge /usr. From trixie on base-files does it.
const (
	mergeByPackages = "packages" // nothing to do
	mergeByHook     = "hook"     // merged-usr, for suites whose init-system-helpers wants usrmerge or usr-is-merged
	mergeByLinks    = "links"    // links before unpacking, for suites without usr-is-merged
)

// mmSuites are the suites for which mmdebstrap is known to give debootstrap's
// tree, and how /usr gets merged.
var mmSuites = map[string]string{
	"bullseye": mergeByLinks,
	"bookworm": mergeByHook,
	"trixie":   mergeByPackages,
	"forky":    mergeByPackages,
	"duke":     mergeByPackages,
	"stable":   mergeByPackages,
	"testing":  mergeByPackages,
	"unstable": mergeByPackages,
	"sid":      mergeByPackages,
}

// aptOptions go into the apt configuration of the run, which doesn't stay in the guest. apt takes
// a Release file past its Valid-Until, as debootstrap does: mirrors that are frozen or seldom
// synced work with both. Its lists come by gzip: 3 MiB more of them than by xz, but everything
// waits until they are decompressed, which takes a third of the time.
const aptOptions = `echo 'Acquire::Check-Valid-Until "false"; Acquire::CompressionTypes::Order:: "gz";' >> "$MMDEBSTRAP_APT_CONFIG"`

// Hooks for mergeByLinks; $1 is the target. The links that no package filled go
// away again, as debootstrap makes none of them.
const (
	makeLinks   = `for d in bin sbin lib lib32 lib64 libo32 libx32; do mkdir -p "$1/usr/$d" && ln -s "usr/$d" "$1/$d" || exit 1; done`
	removeEmpty = `for d in lib32 lib64 libo32 libx32; do if rmdir "$1/usr/$d" 2>/dev/null; then rm "$1/$d" || exit 1; fi; done`
)

// For mergeByHook: the hook; the package that the archive has for a tree whose /usr is merged;
// and what fails where the hook's is still in its place. $1 is the target.
const (
	mergeHook   = "merged-usr/setup00.sh"
	usrIsMerged = "usr-is-merged"
	noDummy     = `dpkg-query --admindir="$1/var/lib/dpkg" --show --showformat '${Source}' ` + usrIsMerged + ` | { ! grep mmdebstrap-dummy >&2; }`
)

// debootstrapArgs builds debootstrap's command line: debootstrap(8).
func debootstrapArgs(tool Tool, spec Spec, target string) []string {
	args := []string{Debootstrap, "--arch=" + spec.arch(), "--keyring=" + tool.Keyring, "--force-check-gpg", "--components=" + spec.components()}
	if spec.rehearsal {
		// Its lists of packages stay, to be looked at by unknownPackages.
		args = append(args, "--print-debs", "--no-resolve-deps", "--keep-debootstrap-dir")
	}
	if first := spec.firstPackages(); len(first) > 0 {
		args = append(args, "--include="+strings.Join(first, ","))
	}
	if ReplacesInit(spec.ExtraPkgs) {
		args = append(args, "--exclude="+systemdsInit)
	}
	args = append(args, spec.Suite, target)
	script := filepath.Join(scriptsDir, "sid") // for a suite that it doesn't know
	if tool.Distribution() == "ubuntu" {
		script = filepath.Join(scriptsDir, "gutsy")
	}
	switch {
	case !exists(filepath.Join(scriptsDir, spec.Suite)) && exists(script):
		args = append(args, spec.mirrorOf(tool), script)
	case spec.Mirror != "" || spec.Snapshot.Moment != "":
		args = append(args, spec.mirrorOf(tool))
	}
	return args
}

// systemdsInit is the package that makes systemd the init of a suite. It is of
// priority important, and excludes all other inits.
const systemdsInit = "systemd-sysv"

// ReplacesInit tells whether the packages have an init that takes its place.
func ReplacesInit(pkgs []string) bool {
	return slices.Contains(pkgs, "sysvinit-core")
}

// remaining is what mmdebstrap's variant "debootstrap" installs beside the essential packages
// (mmdebstrap(1), "VARIANTS"; apt-patterns(7)), but for what a further pattern excludes.
func (s Spec) remaining(but ...string) string {
	return s.narrow("?and(" + strings.Join(append([]string{"?or(?priority(required),?priority(important))", "?not(?essential)"}, but...), ",") + ")")
}

// narrow are the suite's packages that match a pattern.
func (s Spec) narrow(pattern string) string {
	return "?narrow(?or(?archive(^" + s.Suite + "$),?codename(^" + s.Suite + "$)),?architecture(" + s.arch() + ")," + pattern + ")"
}

// mmdebstrapArgs builds mmdebstrap's command line: mmdebstrap(1). keys are the
// file and the folder that apt is to trust, auth the folder of the mirror's
// password, "" is none.
func mmdebstrapArgs(tool Tool, spec Spec, target, auth string, keys []string) []string {
	variant, remaining := []string{"--variant=debootstrap"}, spec.mmRemaining()
	if ReplacesInit(spec.ExtraPkgs) { // a package that is named can't be taken out of the variant again
		variant = []string{"--variant=essential", "--include=" + remaining[0]}
	}
	args := slices.Concat([]string{Mmdebstrap, "--mode=root", "--format=directory"}, variant, []string{
		"--architectures=" + spec.arch(), "--components=" + spec.components(),
		// The lists stay, as debootstrap leaves them. check/signed-by would write
		// the node's path of the keyring into the guest. We look ourselves whether
		// the target is empty but for the keys.
		"--skip=cleanup/apt/lists,check/signed-by,check/empty",
	})
	for _, key := range keys {
		args = append(args, "--keyring="+key)
	}
	if extra := remaining[1:]; len(extra) > 0 {
		args = append(args, "--include="+strings.Join(extra, ","))
	}
	if spec.rehearsal { // which runs no hooks
		args = append(args, "--simulate", `--aptopt=Acquire::Check-Valid-Until "false"`)
		if auth != "" {
			args = append(args, "--aptopt="+netrc(auth))
		}
	} else {
		args = append(args, "--setup-hook="+aptOptions)
		if auth != "" {
			args = append(args, "--setup-hook="+useAuth(auth))
		}
	}
	merge, known := mmSuites[spec.Suite]
	if !known && tool.Distribution() == "ubuntu" && !ubuntu.Before(spec.Suite, mergedUbuntu) {
		merge, known = mergeByLinks, true // usr-is-merged is not in its main
	}
	switch {
	case !known:
		args = append(args, "--hook-directory="+mmHooks+"maybe-merged-usr")
	case merge == mergeByHook:
		args = append(args, "--setup-hook="+mmHooks+mergeHook, "--customize-hook="+noDummy)
	case merge == mergeByLinks:
		args = append(args, "--setup-hook="+makeLinks, "--customize-hook="+removeEmpty)
	}
	if !spec.rehearsal {
		args = append(args, prefetch()...)
	}
	args = append(args, spec.Suite, target)
	signed := signers{other: spec.theirKeyring}
	if spec.Keyring != "" {
		signed = signed.with(spec.Keyring)
	}
	for _, s := range spec.Sources {
		args = append(args, s.line(signed))
	}
	return args
}

// mmRemaining is what mmdebstrap installs beside the essential packages: first a pattern,
// then names.
func (s Spec) mmRemaining() []string {
	var but []string
	if ReplacesInit(s.ExtraPkgs) {
		but = []string{"?not(?exact-name(" + systemdsInit + "))"}
	}
	all := []string{s.remaining(but...)}
	if mmSuites[s.Suite] == mergeByHook {
		all = append(all, usrIsMerged)
	}
	return append(all, s.mmExtra()...)
}

// mmExtra are the packages for mmdebstrap: debootstrap adds ca-certificates by
// itself when the mirror is reached by https.
func (s Spec) mmExtra() []string {
	if s.byHTTPS() || strings.HasPrefix(s.Mirror, "https://") {
		return append([]string{caCertificates}, s.ExtraPkgs...)
	}
	return s.ExtraPkgs
}

// caCertificates is the package without which apt can't tell who answers by https.
const caCertificates = "ca-certificates"

// byHTTPS tells whether a source beside the mirror's own is reached by https.
func (s Spec) byHTTPS() bool {
	for _, source := range slices.Concat(s.Sources, s.guests) {
		if strings.HasPrefix(source.URI, "https://") {
			return true
		}
	}
	for name, text := range s.Files {
		if s.MoreSources && strings.HasPrefix(name, "/"+sourcesParts) && strings.Contains(text, "https://") {
			return true
		}
	}
	return false
}

func (s Spec) components() string {
	if len(s.Components) == 0 {
		return "main"
	}
	return strings.Join(s.Components, ",")
}

// mirror is the mirror without user and password, and without a slash at its end:
// some servers answer 400 to the double slash that would follow.
func (s Spec) mirror() string { return strings.TrimRight(PublicURL(s.Mirror), "/") }

// arch is the guest's architecture.
func (s Spec) arch() string {
	if s.Arch == "" {
		return s.NodeArch
	}
	return s.Arch
}
