package install

import (
	"context"
	"errors"
	"fmt"

	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// Warming is what Warm does beside making sure that there is a tree.
type Warming struct {
	DiskBytes   int64 // the size of the disks to come, for which an image is made
	ExpiredOnly bool  // build anew what is past its age, and nothing else
}

// Warmed is what came of it.
type Warmed struct {
	Key string // of the tree that creates use; "" is an admin's own
	Did string // "made", "renewed", or "was there": it was as it is
}

// Warm makes the tree of an order and the image of it ahead of need, from the inputs
// that a create would have. A tree past its age is built anew while creates go on
// using it.
func Warm(ctx context.Context, s *session.Session, o *Order, w Warming) (Warmed, error) {
	o.WarnOfFiles(ctx)
	// Asked for by name, whatever creates may do. An old tree goes when it is renewed.
	set := *o.Settings
	set.GenerateCache, set.CacheStaleOK = true, true
	wanted := *o
	wanted.Settings = &set
	c, err := wanted.decideTree(ctx)
	if err != nil {
		return Warmed{}, err
	}
	r, did := Begin(s, c), Warmed{Did: "was there"}
	needed := true
	only := func(context.Context) (bool, string) { return needed, "it is not past its age, or not in the cache" }
	tree := r.TreeStep()
	tree.When = only
	err = s.Do(ctx, []session.Step{
		{Name: "check the cached tree's age", Detail: c.ofVariant() + c.describeTree(), Run: func(ctx context.Context) error {
			expired, err := renewTree(ctx, s, c)
			if needed = expired || !w.ExpiredOnly; expired {
				did.Did = "renewed"
			}
			return err
		}},
		tree,
		{Name: "find or make its filesystem image", Detail: set.Filesystem, When: func(ctx context.Context) (bool, string) {
			if can, why := c.canImage(ctx); !can {
				return false, why
			}
			if err := c.CheckSize(w.DiskBytes); c.parts != nil && err != nil {
				return false, fmt.Sprintf("a disk of %s has no room for the layout (--disk-size)", tell.MiB(w.DiskBytes))
			}
			return only(ctx)
		}, Run: func(ctx context.Context) (err error) {
			_, err = findImage(ctx, s, r.choice, w.DiskBytes, r.made.tree)
			return err
		}},
	})
	if err == nil && !needed {
		tell.Info(ctx, "%s%s: nothing to renew", c.ofVariant(), c.describeTree())
	}
	if tree := r.made.tree; tree != nil && tree.Source == "built" {
		did.Did = "made"
	}
	did.Key = r.choice.cacheInputs().Key()
	return did, errors.Join(err, s.UndoTo(ctx, r.mark))
}

// ofVariant begins what is said of a variant's tree.
func (o *Order) ofVariant() string {
	if v := o.Request.Variant; v != "" {
		return "variant " + v + ": "
	}
	return ""
}

// renewTree builds the tree anew if the cached one is past its age, and tells
// whether it was.
func renewTree(ctx context.Context, s *session.Session, c Choice) (bool, error) {
	store := c.storeFor(s)
	if !store.Expired(c.cacheInputs()) {
		return false, nil
	}
	if c.NoTool != nil {
		return true, fmt.Errorf("the tree is not built anew, the old one stays in use: %w", c.NoTool)
	}
	return true, store.Renew(ctx, c.cacheInputs(), c.builder(s))
}
