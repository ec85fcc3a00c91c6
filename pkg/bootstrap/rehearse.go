package bootstrap

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rs/zerolog"
)

// Rehearse asks the tool whether it could make the tree: whether the archive answers and
// is trusted, and has all the packages. It takes seconds, and up to 200 MiB below dir,
// an empty folder. Of what debootstrap leaves to its second stage, only what SuitePkgs
// names is looked for.
func Rehearse(ctx context.Context, tool Tool, spec Spec, dir string) error {
	spec.rehearsal = true
	_, err := Run(zerolog.Nop().WithContext(ctx), tool, spec, dir) // what it has to say Run says again
	return err
}

// Lacks asks the archives what a tree would have to go without now, since none of them
// can be reached: LacksUpdates, LacksSecurity.
func Lacks(ctx context.Context, tool Tool, spec Spec) ([]string, error) {
	auth, err := spec.passwordFile()
	if auth != "" {
		defer os.RemoveAll(auth)
	}
	if err != nil {
		return nil, err
	}
	_, lacks, err := spec.sources(zerolog.Nop().WithContext(ctx), tool, auth)
	if err != nil {
		return nil, spec.mask(err)
	}
	return lacks, nil
}

// unknownPackages names the packages that aren't in the lists that debootstrap has
// fetched, and checked against the Release file. It looks for them itself only as it
// fetches them.
func unknownPackages(target string, names []string) error {
	lists, err := filepath.Glob(filepath.Join(target, "var/lib/apt/lists/*_Packages"))
	if err != nil {
		return err
	}
	names = slices.Clone(names)
	for _, list := range lists {
		f, err := os.Open(list)
		if err != nil {
			return err
		}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if name, is := strings.CutPrefix(lines.Text(), "Package: "); is {
				names = slices.DeleteFunc(names, func(n string) bool { return n == name })
			}
		}
		if err := errors.Join(lines.Err(), f.Close()); err != nil {
			return fmt.Errorf("list of packages %s: %w", filepath.Base(list), err)
		}
	}
	if len(names) > 0 {
		return fmt.Errorf("couldn't find these debs: %s", strings.Join(names, " ")) // as debootstrap says it later
	}
	return nil
}
