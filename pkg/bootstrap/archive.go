package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// Source is one suite of an archive (sources.list(5)).
type Source struct {
	URI        string // without user, password and slash at its end
	Suite      string
	Components []string
	own        bool // of the mirror itself: where KEYRING names keys, only these are good for it
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

// rolling are suites that get everything in themselves.
var rolling = []string{"sid", "unstable", "experimental", "rc-buggy"}

// sources decides which suites the guest is made from, and has in its apt: the suite,
// its updates, and its security archive. The archive's own Release file is asked, so
// that what it lacks is said before anything is installed. An archive that doesn't
// answer is the tool's to complain of.
func (s Spec) sources(ctx context.Context, tool Tool, auth string) ([]Source, error) {
	main := Source{URI: s.mirrorOf(tool), Suite: s.Suite, Components: s.componentList(), own: true}
	out := []Source{main}
	dir, err := os.MkdirTemp(s.WorkDir, "release-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	f := fetcher{tool.Name, auth, dir}
	if !f.reaches(main.URI) {
		return out, nil
	}
	rel, err := f.release(ctx, main.URI, s.Suite)
	if errors.Is(err, errNotThere) {
		return nil, fmt.Errorf("there is no suite %s in %s: set MIRROR to an archive that has it; what Debian keeps no longer is in http://archive.debian.org/debian, and Ubuntu's in http://old-releases.ubuntu.com/ubuntu", s.Suite, main.URI)
	}
	if err != nil {
		zerolog.Ctx(ctx).Debug().Err(err).Msg("the archive's Release file can't be had")
		return out, context.Cause(ctx)
	}
	if err := s.judge(ctx, main, rel, time.Now()); err != nil {
		return nil, err
	}
	if s.Security == SecurityNone || slices.Contains(rolling, s.Suite) {
		return out, nil
	}
	if rel, err := f.release(ctx, main.URI, s.Suite+"-updates"); err == nil {
		out = main.with(out, main.URI, s.Suite+"-updates", rel)
	}
	return s.addSecurity(ctx, f, tool, out)
}

// judge looks at what the suite's own Release file says.
func (s Spec) judge(ctx context.Context, main Source, rel release, now time.Time) error {
	for _, c := range main.Components {
		if len(rel.components) > 0 && !slices.Contains(rel.components, c) {
			return fmt.Errorf("COMPONENTS: there is no %q of %s in %s, which has %s", c, s.Suite, main.URI, strings.Join(rel.components, ", "))
		}
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

// with adds a suite of an archive, with those of the components that it has.
func (s Source) with(list []Source, uri, suite string, rel release) []Source {
	var components []string
	for _, c := range s.Components {
		if len(rel.components) == 0 || slices.Contains(rel.components, c) {
			components = append(components, c)
		}
	}
	if len(components) == 0 {
		return list
	}
	return append(list, Source{uri, suite, components, uri == s.URI})
}

// addSecurity adds the suite's security archive: where SECURITY_MIRROR says, else
// where MIRROR has it, else the distribution's own, if that answers. A node that
// reaches none goes on without.
func (s Spec) addSecurity(ctx context.Context, f fetcher, tool Tool, list []Source) ([]Source, error) {
	main := list[0]
	places := append([]string{main.URI}, siblings(main.URI)...)
	if s.Security != "" && s.Security != SecurityAuto {
		places = []string{strings.TrimRight(PublicURL(s.Security), "/")}
	} else if own := distributions[tool.Distribution()].security; s.knowsSuite() && !slices.Contains(places, own) {
		places = append(places, own)
	}
	for _, uri := range places {
		for _, suite := range []string{s.Suite + "-security", s.Suite + "/updates"} {
			rel, err := f.release(ctx, uri, suite)
			if err == nil {
				return main.with(list, uri, suite, rel), nil
			}
			if err := context.Cause(ctx); err != nil {
				return nil, err
			}
			if !errors.Is(err, errNotThere) {
				break
			}
		}
	}
	if len(places) == 1 {
		return nil, fmt.Errorf("SECURITY_MIRROR: %s has no %s-security and no %s/updates, or doesn't answer: correct it, or set none", places[0], s.Suite, s.Suite)
	}
	zerolog.Ctx(ctx).Warn().Msgf("no security archive of %s is to be had (asked: %s): the guest is as the suite was released, and its apt has no line for one; set SECURITY_MIRROR, to none where that is meant", s.Suite, strings.Join(places, ", "))
	return list, nil
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

// mirrorOf is the archive of the suite: MIRROR, or the distribution's own.
func (s Spec) mirrorOf(tool Tool) string {
	if s.Mirror != "" {
		return s.mirror()
	}
	d := distributions[tool.Distribution()]
	if d.ports != "" && s.arch() != "amd64" && s.arch() != "i386" {
		return d.ports
	}
	return d.archive
}

func (s Spec) componentList() []string {
	if len(s.Components) == 0 {
		return []string{"main"}
	}
	return s.Components
}

func (s Spec) knowsSuite() bool { return knows(s.Suite) }
