package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/pattern"
)

// Source is one suite of an archive (sources.list(5)).
type Source struct {
	URI        string // without user, password and slash at its end
	Suite      string
	Components []string
	own        bool      // of the mirror itself: where KEYRING names keys, only these are good for it
	ubuntu     bool      // its Release file is Ubuntu's
	date       time.Time // of its Release file; zero: none is told
}

// Made is what there is to say of a tree.
type Made struct {
	// Lacks is what it lacks since no archive of it could be reached: LacksUpdates,
	// LacksSecurity. That is a warning.
	Lacks []string
	// AsOf is when the newest of the archives that it is made of was, by their Release files;
	// zero is that none told. The tools have it as SOURCE_DATE_EPOCH
	// (reproducible-builds.org/specs/source-date-epoch).
	AsOf time.Time
}

// asOf is the latest date of the sources.
func asOf(sources []Source) (latest time.Time) {
	for _, s := range sources {
		if s.date.After(latest) {
			latest = s.date
		}
	}
	return latest
}

// Words of SECURITY_MIRROR that are no address.
const (
	SecurityAuto = "auto"
	SecurityNone = "none"
)

// distributions are where they have their archives, and the packages of their
// keyrings in a guest. Ubuntu's other architectures are in an archive of their own.
var distributions = map[string]struct{ archive, ports, security, keyring string }{
	"debian": {"http://deb.debian.org/debian", "", "http://security.debian.org/debian-security", "debian-archive-keyring"},
	"ubuntu": {"http://archive.ubuntu.com/ubuntu", "http://ports.ubuntu.com/ubuntu-ports", "http://security.ubuntu.com/ubuntu", "ubuntu-archive-keyring"},
}

// oldKeys are suites whose keys have expired: debootstrap takes their signatures, apt
// in their own trees doesn't, so that there is no second stage for them.
var oldKeys = []string{"etch", "lenny", "squeeze", "wheezy", "jessie", "stretch"}

// rolling are suites that get everything in themselves.
var rolling = []string{"sid", "unstable", "experimental", "rc-buggy"}

// What a tree can lack because the archive that has it could not be reached.
const (
	LacksUpdates  = "updates"
	LacksSecurity = "security updates"
)

// sources decides which suites the guest is made from, and has in its apt: the suite,
// its updates, and its security archive. The archive's own Release file is asked, so
// that what it lacks is said before anything is installed. An archive that doesn't
// answer is the tool's to complain of. What is left out only because no archive
// answered, and may be had later, is in lacks.
func (s Spec) sources(ctx context.Context, tool Tool, auth string) (out []Source, lacks []string, err error) {
	main := Source{URI: s.mirrorOf(tool), Suite: s.Suite, Components: s.componentList(), own: true}
	out = []Source{main}
	dir, err := os.MkdirTemp(s.WorkDir, "release-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	f := fetcher{tool.Name, auth, dir, &sync.WaitGroup{}}
	if s.Snapshot.Moment != "" {
		out, err = s.sourcesThen(ctx, f, tool)
		return out, nil, err
	}
	wantsMore := s.Security != SecurityNone && !slices.Contains(rolling, s.Suite)
	without := func(why error) error {
		if !wantsMore {
			return nil
		}
		return s.without(ctx, "updates and a security archive", why)
	}
	if tool.Name == Debootstrap && slices.Contains(oldKeys, s.Suite) {
		return out, nil, without(fmt.Errorf("the keys of %s have expired, and its apt takes nothing that they have signed", s.Suite))
	}
	if !f.reaches(main.URI) {
		return out, nil, without(fmt.Errorf("%s can't be asked what it has, only http and https can", main.URI))
	}
	asked, end := s.askAll(ctx, f, main, wantsMore)
	defer end()
	rel, err := asked[0].answer()
	if errors.Is(err, errNotThere) {
		return nil, nil, fmt.Errorf("there is no suite %s in %s: set MIRROR to an archive that has it; what Debian keeps no longer is in http://archive.debian.org/debian, and Ubuntu's in http://old-releases.ubuntu.com/ubuntu", s.Suite, main.URI)
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, nil, cause
		}
		if wantsMore {
			lacks = []string{LacksUpdates, LacksSecurity}
		}
		return out, lacks, without(err)
	}
	out[0].date = rel.date
	if out[0].ubuntu = rel.ubuntu; rel.ubuntu {
		tool.distribution = "ubuntu"
	}
	if err := s.judge(ctx, main, rel, time.Now()); err != nil || !wantsMore {
		return out, nil, err
	}
	out, noUpdates, err := s.addUpdates(ctx, asked[1], out)
	if err != nil {
		return nil, nil, err
	}
	out, noSecurity, err := s.addSecurity(ctx, f, tool, asked[2:], out)
	return out, append(noUpdates, noSecurity...), err
}

// askAll asks for the suite and, if more is wanted, for its updates and then its security
// archive, all at once. After end, nothing of it runs.
func (s Spec) askAll(ctx context.Context, f fetcher, main Source, more bool) (all []request, end func()) {
	asking, stop := context.WithCancel(ctx)
	all = []request{f.ask(asking, main.URI, s.Suite)}
	if more {
		all = append(all, f.ask(asking, main.URI, s.Suite+"-updates"))
		all = append(all, f.askSecurity(asking, s.Suite, s.nearSecurity(main.URI))...)
	}
	return all, func() {
		stop()
		f.atOnce.Wait()
	}
}

// without goes on without a security archive, and what else is named, if an admin
// hasn't asked for one by its address.
func (s Spec) without(ctx context.Context, what string, why error) error {
	if s.Security != "" && s.Security != SecurityAuto && s.Security != SecurityNone {
		return fmt.Errorf("SECURITY_MIRROR: %w", why)
	}
	zerolog.Ctx(ctx).Warn().Msgf("the guest goes without %s: %.500s", what, why)
	return nil
}

// judge looks at what the suite's own Release file says.
func (s Spec) judge(ctx context.Context, main Source, rel release, now time.Time) error {
	if err := s.checkComponents(main, rel); err != nil {
		return err
	}
	const day = "2006-01-02 15:04 MST"
	if rel.date.After(now.Add(time.Minute)) {
		return fmt.Errorf("the Release file of %s in %s is of %s, and this node's clock says %s: the clock is behind, set it", s.Suite, main.URI, rel.date.Format(day), now.UTC().Format(day))
	}
	if rel.validUntil.IsZero() || rel.validUntil.After(now) {
		return nil
	}
	expired := fmt.Sprintf("the Release file of %s in %s was valid until %s: it is an old copy of the archive, without what came since, and the guest's apt will not take it either", s.Suite, main.URI, rel.validUntil.Format(day))
	if s.RefuseExpired {
		return errors.New("EXPIRED_ARCHIVE=refuse: " + expired)
	}
	zerolog.Ctx(ctx).Warn().Msg(expired)
	return nil
}

func (s Spec) checkComponents(main Source, rel release) error {
	for _, c := range main.Components {
		if len(rel.components) > 0 && !slices.Contains(rel.components, c) {
			return fmt.Errorf("COMPONENTS: there is no %q of %s in %s, which has %.300s", c, s.Suite, main.URI, strings.Join(rel.components, ", "))
		}
	}
	return nil
}

// with adds a suite of an archive, with those of the components that it has; none is
// an error.
func (s Source) with(list []Source, uri, suite string, rel release) ([]Source, error) {
	var components []string
	for _, c := range s.Components {
		if len(rel.components) == 0 || slices.Contains(rel.components, c) {
			components = append(components, c)
		}
	}
	if len(components) == 0 {
		return list, fmt.Errorf("%s in %s has none of the components %s", suite, uri, strings.Join(s.Components, ", "))
	}
	return append(list, Source{URI: uri, Suite: suite, Components: components, own: uri == s.URI, date: rel.date}), nil
}

// addUpdates adds the suite's updates, which are in the archive itself.
func (s Spec) addUpdates(ctx context.Context, updates request, list []Source) (out []Source, lacks []string, err error) {
	main := list[0]
	rel, err := updates.answer()
	switch {
	case err == nil:
		list, err = main.with(list, main.URI, updates.suite, rel)
	case context.Cause(ctx) != nil:
		return nil, nil, context.Cause(ctx)
	case errors.Is(err, errNotThere):
		err = nil
	default:
		lacks = []string{LacksUpdates}
	}
	if err != nil {
		zerolog.Ctx(ctx).Warn().Msgf("the guest goes without %s: %.500s", updates.suite, err)
	}
	return list, lacks, nil
}

// nearSecurity is where SECURITY_MIRROR has the suite's security archive, or else where
// MIRROR can have it.
func (s Spec) nearSecurity(mirror string) []string {
	if s.Security != "" && s.Security != SecurityAuto {
		return []string{strings.TrimRight(PublicURL(s.Security), "/")}
	}
	return append([]string{mirror}, siblings(mirror)...)
}

// askSecurity asks all these places, by each name that a security archive has had.
func (f fetcher) askSecurity(ctx context.Context, suite string, places []string) (out []request) {
	for _, uri := range places {
		for _, name := range []string{suite + "-security", suite + "/updates"} {
			out = append(out, f.ask(ctx, uri, name))
		}
	}
	return out
}

// addSecurity adds the suite's security archive: the first of those that were asked, or else
// the distribution's own, if that answers. A node that reaches none goes on without.
func (s Spec) addSecurity(ctx context.Context, f fetcher, tool Tool, near []request, list []Source) (out []Source, lacks []string, err error) {
	main, given := list[0], s.Security != "" && s.Security != SecurityAuto
	places, unreached := []string{}, "none has one"
	add := func(all []request) (done bool, err error) {
		for _, one := range all {
			if !slices.Contains(places, one.uri) {
				places = append(places, one.uri)
			}
			rel, err := one.answer()
			if err == nil {
				if list, err = main.with(list, one.uri, one.suite, rel); err != nil {
					err = s.without(ctx, "a security archive", err)
				}
				return true, err
			}
			if err := context.Cause(ctx); err != nil {
				return true, err
			}
			if !errors.Is(err, errNotThere) {
				unreached, lacks = err.Error(), []string{LacksSecurity}
			}
		}
		return false, nil
	}
	if done, err := add(near); done {
		return list, nil, err
	}
	if own := s.ownSecurity(tool); !given && (s.isListed() || main.ubuntu) && !slices.Contains(places, own) {
		asking, stop := context.WithCancel(ctx)
		defer stop()
		if done, err := add(f.askSecurity(asking, s.Suite, []string{own})); done {
			return list, nil, err
		}
	}
	if given {
		return nil, nil, fmt.Errorf("SECURITY_MIRROR: %s has no %s-security and no %s/updates, or doesn't answer: correct it, or set none", places[0], s.Suite, s.Suite)
	}
	zerolog.Ctx(ctx).Warn().Msgf("no security archive of %s is to be had (asked: %s; %.500s): the guest is as the suite was released, and its apt has no line for one; set SECURITY_MIRROR, to none where that is meant", s.Suite, strings.Join(places, ", "), unreached)
	return list, lacks, nil
}

// siblings are where a mirror of Debian has its security archive beside the archive:
// in a folder beside it, or at the same place of a tree of snapshots.
func siblings(uri string) (out []string) {
	scheme, rest, _ := strings.Cut(uri, "://")
	parts := strings.Split(rest, "/")
	for i := len(parts) - 1; i > 0; i-- {
		if parts[i] == "debian" {
			beside := slices.Clone(parts)
			beside[i] = "debian-security"
			out = append(out, scheme+"://"+strings.Join(beside, "/"))
			break
		}
	}
	beside := scheme + "://" + strings.Join(append(slices.Clone(parts[:max(1, len(parts)-1)]), "debian-security"), "/")
	if !slices.Contains(out, beside) {
		out = append(out, beside)
	}
	return out
}

// archivedMirror is where debootstrap's script has a suite that is no longer in its
// distribution's archive.
var archivedMirror = pattern.New(`(?m)^\s*default_mirror\s+(http://(?:archive\.debian\.org|old-releases\.ubuntu\.com)/\S+)`)

// mirrorOf is the archive of the suite: the snapshot, MIRROR, or the distribution's own.
func (s Spec) mirrorOf(tool Tool) string {
	if s.Snapshot.Moment != "" {
		return s.Snapshot.uri(tool)
	}
	if s.Mirror != "" {
		return s.mirror()
	}
	if m := archivedMirror().FindSubmatch(head(filepath.Join(scriptsDir, s.Suite), 64<<10)); m != nil {
		return string(m[1])
	}
	d := distributions[tool.Distribution()]
	if d.ports != "" && s.isOfPorts() {
		return d.ports
	}
	return d.archive
}

// ownSecurity is the distribution's own security archive.
func (s Spec) ownSecurity(tool Tool) string {
	d := distributions[tool.Distribution()]
	if d.ports != "" && s.isOfPorts() {
		return d.ports
	}
	return d.security
}

// blamePorts adds to the error of a bootstrap that has asked Ubuntu's archive for an architecture
// which is in the other one. Its Release file names them all.
func (s Spec) blamePorts(tool Tool, err error) error {
	d := distributions[tool.Distribution()]
	if err == nil || d.ports == "" || !slices.Contains(portsArchs, s.arch()) || s.Mirror == "" || strings.Contains(s.Mirror, "ubuntu-ports") ||
		!strings.Contains(err.Error(), "/binary-"+s.arch()+"/") {
		return err
	}
	return fmt.Errorf("%w; Ubuntu has %s in an archive of its own, %s: set MIRROR to that, or to a mirror of it", err, s.arch(), d.ports)
}

// portsArchs are the architectures that Ubuntu's other archive has (its Release files, 26.10).
var portsArchs = []string{"arm64", "armhf", "ppc64el", "riscv64", "s390x"}

// isOfPorts tells whether Ubuntu has the architecture in its other archive.
func (s Spec) isOfPorts() bool { return s.arch() != "amd64" && s.arch() != "i386" }

func (s Spec) componentList() []string {
	if len(s.Components) == 0 {
		return []string{"main"}
	}
	return s.Components
}
