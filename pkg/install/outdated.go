package install

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"instance-debootstrap/pkg/bootstrap"
	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/dpkg"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
)

// Outdated is what the archive has in later versions than a tree or a guest.
type Outdated struct {
	Suite   string    `json:"suite"`
	Arch    string    `json:"architecture"`
	Sources []string  `json:"sources"`         // that were asked: URI, suite, components
	Lacks   []string  `json:"lacks,omitempty"` // what no archive could be reached of
	AsOf    time.Time `json:"as_of,omitzero"`  // of the archive's newest Release file
	dpkg.Comparison
}

// FindOutdated compares packages with the archive of today, of the settings' mirrors. What the
// guest has for sources is of no account: it may be anything. from is what a tree was made of,
// where that is known.
func FindOutdated(ctx context.Context, s *session.Session, set *settings.Settings, suite string, from *cache.Inputs, installed []dpkg.Package) (*Outdated, error) {
	command.SetProxy(set.Proxy)
	out := &Outdated{Suite: suite, Arch: archOf(installed)}
	if out.Suite == "" || out.Arch == "" {
		return nil, errors.New("which archive is its own isn't known: neither receipt nor os-release says its suite, or it has no dpkg, whose architecture is its own")
	}
	spec := bootstrap.Spec{
		Suite: suite, Arch: out.Arch, Mirror: set.Mirror, Proxy: set.Proxy, Components: set.Components, WorkDir: s.WorkDir,
		Security: set.SecurityMirror, Keyring: set.Keyring, RefuseExpired: set.RefuseExpired,
	}
	if from != nil {
		spec.Components, spec.Security = from.Components, from.Security
		if from.Mirror != bootstrap.PublicURL(set.Mirror) {
			spec.Mirror = from.Mirror
		}
	}
	mark := s.Mark()
	dir, err := mount(s, nil, scratchName, func(dir string) error { return filesystem.MountMemory(dir, rehearsalBytes) })
	if err == nil {
		newest := dpkg.NewNewest(out.Arch)
		var lists bootstrap.Lists
		lists, err = bootstrap.ReadLists(ctx, spec, dir, newest.Add)
		out.Sources, out.Lacks, out.AsOf, out.Comparison = lists.Sources, lists.Lacks, lists.AsOf, newest.Compare(installed)
	}
	if err = errors.Join(err, s.UndoTo(ctx, mark)); err != nil {
		return nil, err
	}
	return out, nil
}

// String is it in one sentence.
func (o Outdated) String() string {
	text := fmt.Sprintf("%d packages are older than in %s/%s", len(o.Outdated), o.Suite, o.Arch)
	if !o.AsOf.IsZero() {
		text += " of " + o.AsOf.UTC().Format(time.RFC3339)
	}
	if len(o.Unknown) > 0 {
		text += fmt.Sprintf(", %d are not in it", len(o.Unknown))
	}
	if len(o.Lacks) > 0 {
		text += ", asked without " + strings.Join(o.Lacks, " and ")
	}
	return text
}

// archOf is the architecture of packages, as that of dpkg's own tells it.
func archOf(installed []dpkg.Package) string {
	for _, p := range installed {
		if p.Name == "dpkg" {
			return p.Arch
		}
	}
	return ""
}
