package debootstrap

import (
	"context"
	"errors"
	"fmt"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/bootstrap"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
)

// Warming is what Warm does beside making sure that there is a tree.
type Warming struct {
	DiskBytes   int64 // the size of the disks to come, for which an image is made
	ExpiredOnly bool  // build anew what is past its age, and nothing else
}

// Warm makes the tree of a job and the image of it ahead of need, from the inputs
// that a create would have. A tree past its age is built anew while creates go on
// using it.
func Warm(ctx context.Context, s *session.Session, j *Job, w Warming) error {
	j.begin(s)
	j.warnOfFiles(ctx)
	// Asked for by name, whatever creates may do. An old tree goes when it is renewed.
	j.Settings.GenerateCache, j.Settings.CacheStaleOK = true, true
	j.disk = &blockdev.Disk{Path: "(a disk to come)", SizeBytes: w.DiskBytes}
	needed := true
	only := func(context.Context) (bool, string) { return needed, "it is not past its age, or not in the cache" }
	err := s.Do(ctx, []session.Step{
		{Name: "see whether the cached tree is too old", Detail: j.describeTree(), Run: func(ctx context.Context) error {
			expired, err := j.renewTree(ctx)
			needed = expired || !w.ExpiredOnly
			return err
		}},
		{Name: "find or build the root tree", Detail: j.describeTree(), When: only, Run: j.prepareTree},
		{Name: "find or make its filesystem image", Detail: j.Settings.Filesystem, When: func(ctx context.Context) (bool, string) {
			if can, why := j.canImage(ctx); !can {
				return false, why
			}
			return only(ctx)
		}, Run: j.findImage},
	})
	if err == nil && !needed {
		info(ctx, "%s: nothing to renew", j.describeTree())
	}
	return errors.Join(err, j.letGo(ctx))
}

// renewTree builds the tree anew if the cached one is past its age, and tells
// whether it was.
func (j *Job) renewTree(ctx context.Context) (bool, error) {
	toolErr, err := j.chooseTool(ctx)
	if err != nil {
		return false, err
	}
	store := j.store()
	if !store.Expired(j.cacheInputs()) {
		return false, nil
	}
	if toolErr != nil {
		return true, fmt.Errorf("the tree is not built anew, the old one stays in use: %w", toolErr)
	}
	return true, store.Renew(ctx, j.cacheInputs(), j.buildTree)
}

// GuestArch is the architecture of guests by these settings.
func GuestArch(ctx context.Context, s *settings.Settings) (string, error) {
	if s.Arch != "" {
		return s.Arch, nil
	}
	return bootstrap.HostArch(ctx)
}
