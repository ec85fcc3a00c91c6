package bootstrap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// ErrNotExtendable says that a tree can't become what is wanted by further packages alone, so
// that it has to be bootstrapped.
var ErrNotExtendable = errors.New("the tree has to be bootstrapped")

// Extend makes the tree of the spec of one that Run has made with fewer packages, a copy of
// which is in target: the tree's own apt upgrades what the archive has newer and installs the
// rest. Where that would bring new packages to the base system, or take any away, it is
// ErrNotExtendable, and so is an archive that isn't wholly there. How it ends is as with Run.
func Extend(ctx context.Context, tool Tool, spec Spec, target string) (Made, error) {
	if err := errors.Join(spec.check()...); err != nil {
		return Made{}, err
	}
	spec.extends = true
	return spec.within(ctx, tool, target)
}

func (s Spec) extend(ctx context.Context, tool Tool, target, auth string, env []string) error {
	root, err := os.OpenRoot(target)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := errors.Join(writeSources(root, tool, s, s.Sources), copyResolver(root, "/etc/resolv.conf")); err != nil {
		return fmt.Errorf("apt's sources: %w", err)
	}
	apt, err := s.prepareApt(target, auth, env)
	if err != nil {
		return err
	}
	if err := apt.get(ctx, nil, "update"); err != nil {
		return err
	}
	newer, err := apt.simulate(ctx, "dist-upgrade")
	switch {
	case err != nil:
		return err
	case len(newer.come) > 0:
		return fmt.Errorf("%w: %s has come to the base system", ErrNotExtendable, newer.come[0])
	case newer.upgrades:
		if err := apt.get(ctx, nil, "upgrade"); err != nil {
			return err
		}
	}
	if err := apt.get(ctx, nil, append(s.install(), "--no-remove")...); err != nil {
		if _, gone := apt.simulate(ctx, s.install()...); errors.Is(gone, ErrNotExtendable) {
			return gone
		}
		return err
	}
	return s.turnToToday(root, tool)
}

// copyResolver gives the tree the node's name servers, as a bootstrap does. Those of the tree
// may be another node's, or old.
func copyResolver(root *os.Root, nodes string) error {
	st, err := root.Lstat("etc/resolv.conf")
	if err != nil || !st.Mode().IsRegular() {
		return nil //nolint:nilerr // a link, which resolveAsNode follows
	}
	servers, err := os.ReadFile(nodes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return root.WriteFile("etc/resolv.conf", servers, 0o644)
}

// changes are what apt would do to a tree.
type changes struct {
	upgrades   bool
	come, gone []string // names of packages
}

// parseChanges reads what apt-get --simulate prints: "Inst NAME [OLD] (NEW …)", without
// [OLD] for a new package, "Remv NAME …", and "Conf NAME …", which says nothing more.
func parseChanges(text string) (c changes) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) < 3:
		case words[0] == "Remv":
			c.gone = append(c.gone, words[1])
		case words[0] == "Inst" && strings.HasPrefix(words[2], "["):
			c.upgrades = true
		case words[0] == "Inst":
			c.come = append(c.come, words[1])
		}
	}
	return c
}

// simulate asks what a step of apt-get would do. What would take packages away is
// ErrNotExtendable: of what they leave behind, such as their users, a new tree has nothing.
func (a treesApt) simulate(ctx context.Context, step ...string) (changes, error) {
	var out bytes.Buffer
	if err := a.get(ctx, &out, slices.Concat(step, []string{"--simulate"})...); err != nil {
		return changes{}, err
	}
	c := parseChanges(out.String())
	if len(c.gone) > 0 {
		return c, fmt.Errorf("%w: %s would go", ErrNotExtendable, strings.Join(c.gone, ", "))
	}
	return c, nil
}
