package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/rs/zerolog"
)

// ErrRenewing says that somebody else builds the entry anew right now.
var ErrRenewing = errors.New("somebody else builds it anew right now")

// Expired tells whether Get would use a keyed entry for the inputs that is past
// its age. One of a snapshot never is: made anew it would be the same.
func (s Store) Expired(in Inputs) bool {
	n, err := s.names(in)
	return err == nil && in.Snapshot == "" && !s.adminWins(n) && s.tooOld(n.tar) != ""
}

// Renew builds the entry of the inputs anew beside the one that is there, which
// stays in use, waited for by nobody, until the new one takes its place whole.
// When the build fails the old one stays.
func (s Store) Renew(ctx context.Context, in Inputs, build Build) error {
	n, err := s.names(in)
	if err != nil {
		return err
	}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	renewing, err := s.tryLock(n.base + ".renew")
	if err != nil {
		return err
	}
	if renewing == nil {
		return fmt.Errorf("cache entry %s: %w", n.base, ErrRenewing)
	}
	defer renewing.Close()
	t, err := s.scratchAs(n.tar, n.besidePath())
	if err != nil {
		return err
	}
	defer t.discard()
	base := s.useBase(ctx, in, true)
	if base != nil {
		defer base.Close()
	}
	made, err := build(ctx, t.f, base)
	var m sidecar
	if err == nil {
		m, err = measure(ctx, t.f)
	}
	if err == nil {
		m.Made = made
		err = s.swap(ctx, n, in, m, t)
	}
	if err != nil {
		return fmt.Errorf("build cache entry %s anew: %w; the old one stays in use", n.base, err)
	}
	zerolog.Ctx(ctx).Info().Msgf("renewed cache entry %s: %d files, %d MiB", n.tar, m.Inodes, m.Size>>20)
	s.MakeRoom(ctx)
	return nil
}

// renewIncomplete builds an entry anew that lacks something for longer than a day, if
// that is within reach now, and tells whether it did. That it can't be built is a warning.
func (s Store) renewIncomplete(ctx context.Context, n names, in Inputs, build Build) (bool, error) {
	if !s.Generate || s.StaleOK || !s.isIncomplete(n.tar) || s.Unreachable != nil && s.Unreachable(ctx) {
		return false, nil
	}
	err := s.Renew(ctx, in, build)
	switch {
	case ctx.Err() != nil:
		return false, err
	case errors.Is(err, ErrRenewing):
		zerolog.Ctx(ctx).Info().Msgf("%v: the old one is used", err)
	case err != nil:
		zerolog.Ctx(ctx).Warn().Msg(err.Error())
	}
	return err == nil, nil
}

// swap puts a tar in the place of the one that is there, if any.
func (s Store) swap(ctx context.Context, n names, in Inputs, m sidecar, t *scratch) error {
	lock, err := s.lock(ctx, n.base)
	if err != nil {
		return err
	}
	defer lock.Close()
	// First the sidecar: a tar without one is adopted, should we die here.
	if err := os.Remove(n.sidecar); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := t.replace(n.besidePath()); err != nil {
		return err
	}
	for _, image := range Images(n.tar) { // of the old tree
		if err := os.Remove(image); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := s.writeSidecar(n, in, m); err != nil {
		zerolog.Ctx(ctx).Warn().Err(err).Msg("the cache entry has no sidecar yet: its next use makes it")
	}
	return nil
}
