package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/trust"
)

// What is in the cache becomes guests, and its programs run as root in a chroot: so
// nobody else may be able to change it. Package trust has the rule.

// CheckFolder says whether others could change the cache folder, or what is above it.
func (s Store) CheckFolder() error {
	_, err := trust.Check(s.Dir, s.Strict)
	return s.tell(context.Background(), nil, err)
}

// checkFolder looks at the cache folder, and at what is above it.
func (s Store) checkFolder(ctx context.Context) error {
	warnings, err := trust.Check(s.Dir, s.Strict)
	return s.tell(ctx, warnings, err)
}

// checkFile looks at a file of the cache.
func (s Store) checkFile(ctx context.Context, path string) error {
	warnings, err := trust.CheckIn(s.Dir, filepath.Base(path), s.Strict)
	return s.tell(ctx, warnings, err)
}

// tell logs the warnings. What isn't there is nobody's to change.
func (s Store) tell(ctx context.Context, warnings []string, err error) error {
	for _, text := range warnings {
		if s.Told[text] {
			continue
		}
		if s.Told != nil { // a run looks at the same folder several times
			s.Told[text] = true
		}
		zerolog.Ctx(ctx).Warn().Msg(text)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("the cache can't be trusted: %w", err)
}

// Trusted says whether others could change what is in the cache: the folder, or a
// file of any entry.
func (s Store) Trusted() (warnings []string, err error) {
	warnings, err = trust.Check(s.Dir, s.Strict)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	errs := []error{err}
	entries, err := os.ReadDir(s.Dir)
	for _, d := range entries {
		if !strings.HasPrefix(d.Name(), "cache-") && d.Name() != packagesDir {
			continue
		}
		more, err := trust.CheckIn(s.Dir, d.Name(), s.Strict)
		if !errors.Is(err, fs.ErrNotExist) { // it was removed meanwhile
			warnings, errs = append(warnings, more...), append(errs, err)
		}
	}
	return warnings, errors.Join(append(errs, err)...)
}
