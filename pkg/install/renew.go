package install

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/bootstrap"
	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// RenewOthers builds those trees of an order's cache anew that are past their age, that
// creates have used since they were made, and that are none of the keys: those of
// parameters that an instance was made with. Each is made from what is noted down of it.
// What can't be is told, and is no reason not to build the others. It returns how many it
// built.
func RenewOthers(ctx context.Context, s *session.Session, o *Order, keys []string) (renewed int, err error) {
	entries, err := o.Store().List()
	if err != nil {
		return 0, err
	}
	var faults []error
	for _, e := range entries {
		if !e.Expired || e.Inputs == nil || e.Key == "" || e.State != cache.StateOK || e.Protected || slices.Contains(keys, e.Key) {
			continue
		}
		if name := filepath.Base(e.Path); e.LastUsed.Sub(e.ModTime) < time.Hour {
			tell.Info(ctx, "%s: past its age, and not renewed: no create has used it since it was made", name)
			continue
		}
		c, why := o.choiceOf(ctx, *e.Inputs)
		if why != "" {
			tell.Info(ctx, "%s: past its age, and not renewed: %s", filepath.Base(e.Path), why)
			continue
		}
		err := s.Do(ctx, []session.Step{{Name: "build the tree anew", Detail: c.describeTree(), Run: func(ctx context.Context) error {
			_, err := renewTree(ctx, s, c)
			return err
		}}})
		if faults = append(faults, err); err == nil {
			renewed++
		}
		if context.Cause(ctx) != nil {
			break
		}
	}
	return renewed, errors.Join(faults...)
}

// choiceOf is the choice of what a tree was made of. why it can't be made so here is that no
// create of this node would use the one that could.
func (o *Order) choiceOf(ctx context.Context, in cache.Inputs) (c Choice, why string) {
	set, wanted := *o.Settings, *o
	set.GenerateCache, set.CacheStaleOK = true, true
	set.Suite, set.Arch, set.Components, set.ExtraPkgs = in.Suite, in.Arch, in.Components, in.ExtraPkgs
	set.SecurityMirror, set.RefuseExpired, set.DeriveTrees = in.Security, in.RefuseExpired, !in.Bootstrapped
	if bootstrap.PublicURL(set.Mirror) != in.Mirror { // which may have a password
		set.Mirror = in.Mirror
	}
	if !in.SiteKeys {
		set.Keyring = ""
	}
	wanted.Settings = &set
	if in.Bus != "" {
		request := *o.Request
		request.HV = map[string]string{"disk_type": in.Bus}
		wanted.Request = &request
	}
	c = Choice{Order: &wanted, Arch: in.Arch, told: map[string]bool{}, recorded: &in, decided: true}
	var err error
	if c.sources, err = moreSources(ctx, &set); err != nil {
		return c, err.Error()
	}
	if slices.ContainsFunc(slices.Collect(maps.Keys(boot.TreeFiles())), func(name string) bool { _, ok := in.Files[name]; return ok }) {
		c.Boot.Loader = "grub" // of the plan, no more goes into a tree
	}
	if !maps.Equal(keyText(c.treeFiles()), in.Files) {
		return c, "it is of other EXTRA_SOURCES than there are now"
	}
	set.Bootstrap = in.Tool
	c.Tool, c.NoTool = bootstrap.Choose(ctx, c.bootstrapSpec())
	switch {
	case c.NoTool != nil:
		return c, c.NoTool.Error()
	case c.Tool.Version != in.ToolVersion || c.Tool.KeyringSHA256 != in.Keyring || in.SiteKeys != (set.Keyring != ""):
		return c, fmt.Sprintf("it was made by %s %s and other keys than there are now, and creates no longer use it", in.Tool, in.ToolVersion)
	}
	return c, ""
}
