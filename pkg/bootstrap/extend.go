package bootstrap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/rs/zerolog"
)

// ErrNotExtendable says that a tree can't become what is wanted by packages alone, so
// that it has to be bootstrapped.
var ErrNotExtendable = errors.New("the tree has to be bootstrapped")

// Extend makes the tree of the spec of one that Run has made with fewer packages and files,
// a copy of which is in target: the tree's own apt upgrades what the archive has newer and
// installs the rest. Where packages have come to the base system or left it since, it
// is ErrNotExtendable, and so is an archive that isn't wholly there. How it ends is as with Run.
func Extend(ctx context.Context, tool Tool, spec Spec, target string) error {
	if err := errors.Join(spec.check()...); err != nil {
		return err
	}
	missing, err := absent(target, slices.Collect(maps.Keys(spec.Files)))
	if err != nil {
		return err
	}
	files := maps.Clone(spec.Files)
	maps.DeleteFunc(files, func(name, _ string) bool { return !slices.Contains(missing, name) })
	if err := layFiles(target, files); err != nil {
		return err
	}
	traces, err := absent(target, aptsTraces)
	if err != nil {
		return err
	}
	zerolog.Ctx(ctx).Info().Msgf("adding to a copy of the cached tree: %s", strings.Join(spec.ExtraPkgs, " "))
	lacks, err := spec.within(ctx, tool, target, Spec.extend)
	if err == nil && len(lacks) > 0 {
		err = fmt.Errorf("%w: there is no archive of %s", ErrNotExtendable, strings.Join(lacks, " and "))
	}
	if err == nil {
		err = remove(target, traces)
	}
	return err
}

// aptsTraces are what apt and dpkg leave of their work in a tree. The tool that has made it
// has removed most of them.
var aptsTraces = []string{
	"var/cache/apt/pkgcache.bin", "var/cache/apt/srcpkgcache.bin", "var/cache/ldconfig/aux-cache", "var/lib/apt/lists/auxfiles",
	"var/log/apt/eipp.log.xz", "var/log/apt/history.log", "var/log/apt/term.log", "var/log/dpkg.log", "var/log/alternatives.log",
}

// absent are those of the paths that the tree doesn't have.
func absent(target string, paths []string) (out []string, err error) {
	root, err := os.OpenRoot(target)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	for _, path := range paths {
		if _, err := root.Lstat(strings.TrimPrefix(path, "/")); errors.Is(err, fs.ErrNotExist) {
			out = append(out, path)
		}
	}
	return out, nil
}

func remove(target string, paths []string) error {
	root, err := os.OpenRoot(target)
	if err != nil {
		return err
	}
	defer root.Close()
	var faults []error
	for _, path := range paths {
		faults = append(faults, root.RemoveAll(path))
	}
	return errors.Join(faults...)
}

func (s Spec) extend(ctx context.Context, tool Tool, target, auth, marker string) error {
	root, err := os.OpenRoot(target)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := writeSources(root, tool, s, s.Sources); err != nil {
		return fmt.Errorf("apt's sources: %w", err)
	}
	apt, err := s.prepareApt(target, auth, marker)
	if err != nil {
		return err
	}
	if err := apt.get(ctx, nil, "update"); err != nil {
		return err
	}
	newer, err := apt.upgradable(ctx)
	if err == nil && newer {
		err = apt.get(ctx, nil, "upgrade")
	}
	if err != nil {
		return err
	}
	return apt.get(ctx, nil, s.install()...)
}

// upgradable tells whether there are newer packages. Such as the tree doesn't have, or has
// no longer use for, make it ErrNotExtendable: apt would keep what a new tree hasn't, such
// as an older kernel. A line of apt-get --simulate is "Inst NAME [OLD] (NEW …)", without
// OLD for a new package, or "Remv NAME …".
func (a treesApt) upgradable(ctx context.Context) (bool, error) {
	var out bytes.Buffer
	if err := a.get(ctx, &out, "dist-upgrade", "--simulate"); err != nil {
		return false, err
	}
	newer := false
	for line := range strings.Lines(out.String()) {
		words := strings.Fields(line)
		switch {
		case len(words) < 3 || !slices.Contains([]string{"Inst", "Remv"}, words[0]):
		case words[0] == "Remv":
			return false, fmt.Errorf("%w: %s is no longer part of it", ErrNotExtendable, words[1])
		case !strings.HasPrefix(words[2], "["):
			return false, fmt.Errorf("%w: %s has come to it", ErrNotExtendable, words[1])
		default:
			newer = true
		}
	}
	return newer, nil
}
