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

// A snapshot is an archive as it was at a moment. Mirrors of snapshots have each in a folder
// that is named after its moment, and lead from any other moment to the snapshot before it
// (snapshot.debian.org, snapshot.ubuntu.com). A tree is made of one; the guest's apt then has
// the archive of today.

// Snapshot says which.
type Snapshot struct {
	Moment string // as MomentLayout has it; "" is the archive of today
	Mirror string // the URL of the folder that has the moments' folders; "" is the distribution's
}

// MomentLayout is how the folders are named (time.Parse).
const MomentLayout = "20060102T150405Z"

// snapshotMirrors are the distributions' own.
var snapshotMirrors = map[string]string{
	"debian": "http://snapshot.debian.org/archive/debian",
	"ubuntu": "http://snapshot.ubuntu.com/ubuntu",
}

// uri is the archive as it was then.
func (s Snapshot) uri(tool Tool) string {
	mirror := s.Mirror
	if mirror == "" {
		mirror = snapshotMirrors[tool.Distribution()]
	}
	return strings.TrimRight(mirror, "/") + "/" + s.Moment
}

// sourcesThen are sources for a snapshot. It promises the same packages each time, so whatever
// doesn't answer is a failure.
func (s Spec) sourcesThen(ctx context.Context, f fetcher, tool Tool) ([]Source, error) {
	main := Source{URI: s.Snapshot.uri(tool), Suite: s.Suite, Components: s.componentList(), own: true}
	rel, err := f.release(ctx, main.URI, s.Suite)
	if errors.Is(err, errNotThere) {
		err = fmt.Errorf("SNAPSHOT: there is no suite %s of %s in %s: the mirror has nothing of that day, or the suite wasn't there then; take a later day, or set SNAPSHOT_MIRROR", s.Suite, s.Snapshot.Moment, main.URI)
	} else if err == nil {
		err = s.judgeThen(main, rel)
	} else {
		err = unanswered(err)
	}
	if err != nil {
		return nil, err
	}
	main.date, main.ubuntu = rel.date, rel.ubuntu
	list := []Source{main}
	if s.Security == SecurityNone || slices.Contains(rolling, s.Suite) || tool.Name == Debootstrap && slices.Contains(oldKeys, s.Suite) {
		return list, nil
	}
	find := func(suites, places []string) (bool, error) {
		for _, uri := range places {
			for _, suite := range suites {
				rel, err := f.release(ctx, uri, suite)
				if errors.Is(err, errNotThere) {
					continue
				}
				if err != nil {
					return false, unanswered(err)
				}
				list, err = main.with(list, uri, suite, rel)
				return err == nil, err
			}
		}
		return false, nil
	}
	if _, err := find([]string{s.Suite + "-updates"}, []string{main.URI}); err != nil {
		return nil, err
	}
	places := append([]string{main.URI}, siblings(main.URI)...)
	found, err := find([]string{s.Suite + "-security", s.Suite + "/updates"}, places)
	if err == nil && !found {
		zerolog.Ctx(ctx).Warn().Msgf("SNAPSHOT: no security updates of %s from %s are to be had (asked: %s): the tree goes without", s.Suite, s.Snapshot.Moment, strings.Join(places, ", "))
	}
	return list, err
}

func unanswered(err error) error {
	return fmt.Errorf("SNAPSHOT: the mirror of snapshots doesn't answer: %w: set SNAPSHOT_MIRROR to one that this node reaches, or PROXY", err)
}

// judgeThen refuses what isn't the archive of that moment. That its Release file is out of
// date is meant.
func (s Spec) judgeThen(main Source, rel release) error {
	then, err := time.Parse(MomentLayout, s.Snapshot.Moment)
	if err != nil {
		return fmt.Errorf("SNAPSHOT: %w", err)
	}
	if rel.date.After(then) {
		return fmt.Errorf("SNAPSHOT: the Release file of %s in %s is of %s, after %s: that is no mirror of snapshots, or it has none as old; take a later day, or set SNAPSHOT_MIRROR", s.Suite, main.URI, rel.date.Format(time.DateTime), s.Snapshot.Moment)
	}
	return s.checkComponents(main, rel)
}

// sourcesToday are the sources for the guest's apt: those that MIRROR has, as without a
// snapshot. Where it can't be asked, or is the distribution's own, what the snapshot had is in
// the archive of today too.
func (s Spec) sourcesToday(ctx context.Context, tool Tool, auth string) ([]Source, error) {
	live := s
	live.Snapshot = Snapshot{}
	if s.Mirror != "" {
		list, lacks, err := live.sources(zerolog.Nop().WithContext(ctx), tool, auth)
		if err != nil {
			return nil, fmt.Errorf("the guest's own sources: %w", err)
		}
		if len(lacks) == 0 {
			if len(list) < len(s.Sources) {
				zerolog.Ctx(ctx).Warn().Msgf("%s has less than the snapshot, from which the tree has %s: the guest's apt gets no updates of the rest; set SECURITY_MIRROR", list[0].URI, names(s.Sources))
			}
			return list, nil
		}
		zerolog.Ctx(ctx).Warn().Msgf("%s can't be asked for all that the guest's apt is to have (%s): it is given what the snapshot has", live.mirrorOf(tool), strings.Join(lacks, ", "))
	}
	list := slices.Clone(s.Sources)
	for i := range list {
		list[i].URI, list[i].own = live.mirrorOf(tool), true
		if !strings.HasSuffix(list[i].Suite, "-security") && !strings.HasSuffix(list[i].Suite, "/updates") {
			continue
		}
		list[i].own = false
		switch {
		case s.Security != "" && s.Security != SecurityAuto:
			list[i].URI = strings.TrimRight(PublicURL(s.Security), "/")
		default:
			list[i].URI = s.ownSecurity(tool)
		}
	}
	return list, nil
}

// names lists the suites of sources.
func names(sources []Source) string {
	var out []string
	for _, s := range sources {
		out = append(out, s.Suite)
	}
	return strings.Join(out, ", ")
}

// turnToToday gives a tree that was made of a snapshot the sources of the guest, and takes the
// lists of the snapshot away, which apt would look for under other names.
func (s Spec) turnToToday(root *os.Root, tool Tool) error {
	if s.Snapshot.Moment == "" {
		return nil
	}
	err := errors.Join(
		writeSources(root, tool, s, s.guests),
		removeIn(root, "var/lib/apt/lists", func(name string) bool { return name != "lock" && name != "partial" && name != "auxfiles" }))
	if err != nil {
		return fmt.Errorf("the guest's own sources: %w", err)
	}
	return nil
}
