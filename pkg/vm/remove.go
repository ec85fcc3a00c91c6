package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/install"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// Remove removes a guest with its volumes, and what snapshots have put over them. The
// domain goes last, so that what was interrupted can be repeated. A running guest is
// refused, or shut down first; one that doesn't answer is forced off. Disks of it that
// are left in the end are an error.
func (f *VM) Remove(ctx context.Context, stop Stop) error {
	var left []string // of its disks, and why
	hasLeft := func(context.Context) (bool, string) { return session.NeededIf(len(left) > 0, "nothing is") }
	return f.session.Do(ctx, []session.Step{
		{Name: "check that it can be removed", Detail: f.Name, Run: func(ctx context.Context) error { return f.mayGo(ctx, stop.Wanted) }},
		{Name: "shut down the guest", Detail: f.Name, When: f.isAwake, Run: func(ctx context.Context) error { return f.tryToShutDown(ctx, stop.Within) }},
		{Name: "force the guest off", Detail: f.Name, When: f.isRunning, Run: f.pullPlug},
		{Name: "delete the volumes", Detail: strings.Join(f.Goes(), ", "), Run: func(ctx context.Context) (err error) {
			left, err = f.deleteDisks(ctx)
			return err
		}},
		{Name: "undefine the domain", Detail: "with its NVRAM and the log of its console", Run: f.undefine},
		{Name: "check that nothing is left", Detail: f.Name, When: hasLeft, Run: func(context.Context) error {
			return fmt.Errorf("the guest %s is removed, but these disks of it are not: %s", f.Name, strings.Join(left, ", "))
		}},
	})
}

// mayGo refuses what isn't a guest of ours, and one that is in use.
func (f *VM) mayGo(ctx context.Context, stop bool) error {
	if len(f.Disks) == 0 && !f.Ours {
		return fmt.Errorf("the guest %s has no volume that is named after it, and was not made here: see virsh undefine", f.Name)
	}
	if !stop {
		if err := f.mustBeOff(", or give --stop, which does that"); err != nil {
			return err
		}
	}
	if err := f.mustNotBeMounted(); err != nil {
		return err
	}
	f.refresh(ctx) // what snapshots left there isn't known yet
	_, err := f.mustBeFree(ctx, f.Running())
	return err
}

// mustBeFree refuses to delete what another guest has as a disk, or anybody uses: a
// guest that runs itself uses what is attached to it. A volume that was taken from
// the guest and given to another is no longer its own, and not among what goes.
func (f *VM) mustBeFree(ctx context.Context, runs bool) (goes []string, err error) {
	users, err := usersOf(ctx, f.virsh, f.Domain.UUID, f.Goes())
	if err != nil {
		return nil, err
	}
	for _, path := range f.Goes() {
		isBeside, other := slices.Contains(f.beside, path), users[path]
		switch {
		case isBeside && other != "":
			continue
		case other != "":
			return nil, fmt.Errorf("%s is also a disk of the guest %s, or below one: remove %s first, or take the disk from it (virsh detach-disk)", path, other, other)
		}
		goes = append(goes, path)
		if runs && !isBeside {
			continue
		}
		if _, usedBy, err := blockdev.Look(path, paths.LockDir); err == nil && usedBy != "" {
			return nil, blockdev.InUse(path, usedBy)
		}
	}
	return goes, nil
}

// tryToShutDown is no failure when the guest doesn't answer: it goes in any case.
func (f *VM) tryToShutDown(ctx context.Context, within time.Duration) error {
	err := f.shutDown(ctx, within)
	if errors.Is(err, errNoAnswer) {
		return nil
	}
	return err
}

// pullPlug tells that it ends the guest at once, unless it has just ended by itself.
func (f *VM) pullPlug(ctx context.Context) error {
	tell.Warn(ctx, "the guest %s is %s and doesn't answer: it is forced off, and its last writes may be lost", f.Name, f.State)
	return f.unplug(ctx)
}

// deleteDisks deletes the guest's volumes, and what is over them, and returns what is left
// of its disks, and why.
func (f *VM) deleteDisks(ctx context.Context) (left []string, err error) {
	goes, err := f.mustBeFree(ctx, false) // a shutdown takes minutes
	if err != nil {
		return nil, err
	}
	stays := func(path, why string) {
		if _, err := os.Lstat(path); err == nil {
			left = append(left, path+" ("+why+")")
		}
	}
	for _, path := range goes {
		pool, err := f.poolOf(ctx, path)
		if err != nil {
			return nil, err
		}
		name := filepath.Base(path)
		if pool == "" {
			stays(path, "in no active pool of libvirt's")
			continue
		}
		overlays, err := f.virsh.Overlays(ctx, pool, name, path)
		if err == nil {
			err = f.virsh.DeleteVolume(ctx, pool, name)
		}
		if err != nil {
			return nil, err
		}
		for _, over := range overlays {
			if !slices.Contains(goes, over.Path) {
				stays(over.Path, "an overlay of "+name+": virsh vol-delete --pool "+pool+" "+over.Name)
			}
		}
	}
	for _, path := range f.Others {
		stays(path, "not made with it")
	}
	return left, nil
}

func (f *VM) undefine(ctx context.Context) error {
	install.ForgetReceipt(ctx, f.Name, "")
	return removeDomain(ctx, f.virsh, f.Domain.UUID)
}
