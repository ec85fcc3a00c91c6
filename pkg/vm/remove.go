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
	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// Remove removes a guest with its volumes, and what snapshots have put over them. The
// domain goes last, so that what was interrupted can be repeated. A running guest is
// refused, or shut down first; one that doesn't answer is forced off. Disks of it that
// are left in the end are an error.
func Remove(ctx context.Context, s *session.Session, virsh libvirt.Virsh, name string, stop Stop) error {
	f, err := openGuest(ctx, s, virsh, name)
	if err != nil {
		return err
	}
	return s.Do(ctx, []session.Step{
		{Name: "check that it can be removed", Detail: name, Run: func(ctx context.Context) error { return f.mayGo(ctx, stop.Wanted) }},
		{Name: "shut down the guest", Detail: name, When: f.isAwake, Run: func(ctx context.Context) error { return f.tryToShutDown(ctx, stop.Within) }},
		{Name: "force the guest off", Detail: name, When: f.isRunning, Run: f.pullPlug},
		{Name: "delete the volumes", Detail: strings.Join(f.Goes(), ", "), Run: f.deleteDisks},
		{Name: "undefine the domain", Detail: "with its NVRAM and the log of its console", Run: f.undefine},
		{Name: "check that nothing is left", Detail: name, When: f.hasLeft, Run: f.tellWhatStays},
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
	return f.mustBeFree(ctx, f.Running())
}

// mustBeFree refuses to delete what another guest has as a disk, or anybody uses: a
// guest that runs itself uses what is attached to it. A volume that was taken from
// the guest and given to another is no longer its own.
func (f *VM) mustBeFree(ctx context.Context, runs bool) error {
	users, err := usersOf(ctx, f.virsh, f.Domain.UUID, f.Goes())
	if err != nil {
		return err
	}
	f.beside = slices.DeleteFunc(f.beside, func(path string) bool { return users[path] != "" })
	for _, path := range f.Goes() {
		if other := users[path]; other != "" {
			return fmt.Errorf("%s is also a disk of the guest %s, or below one: remove %s first, or take the disk from it (virsh detach-disk)", path, other, other)
		}
		if runs && !slices.Contains(f.beside, path) {
			continue
		}
		if _, usedBy, err := blockdev.Look(path); err == nil && usedBy != "" {
			return fmt.Errorf("disk %s is in use: %s; stop what uses it first", path, usedBy)
		}
	}
	return nil
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

// deleteDisks deletes the guest's volumes, and what is over them. What is left of its
// disks is noted down.
func (f *VM) deleteDisks(ctx context.Context) error {
	if err := f.mustBeFree(ctx, false); err != nil { // a shutdown takes minutes
		return err
	}
	goes := f.Goes()
	for _, path := range goes {
		pool, err := f.poolOf(ctx, path)
		if err != nil {
			return err
		}
		name := filepath.Base(path)
		if pool == "" {
			f.noteLeft(path, "in no active pool of libvirt's")
			continue
		}
		overlays, err := f.virsh.Overlays(ctx, pool, name, path)
		if err == nil {
			err = f.virsh.DeleteVolume(ctx, pool, name)
		}
		if err != nil {
			return err
		}
		for _, over := range overlays {
			if !slices.Contains(goes, over.Path) {
				f.noteLeft(over.Path, "an overlay of "+name+": virsh vol-delete --pool "+pool+" "+over.Name)
			}
		}
	}
	for _, path := range f.Others {
		f.noteLeft(path, "not made with it")
	}
	return nil
}

// noteLeft notes down a disk of the guest that stays.
func (f *VM) noteLeft(path, what string) {
	if _, err := os.Lstat(path); err == nil {
		f.left = append(f.left, path+" ("+what+")")
	}
}

func (f *VM) hasLeft(context.Context) (bool, string) {
	return session.NeededIf(len(f.left) > 0, "nothing is")
}

func (f *VM) tellWhatStays(context.Context) error {
	return fmt.Errorf("the guest %s is removed, but these disks of it are not: %s", f.Name, strings.Join(f.left, ", "))
}

func (f *VM) undefine(ctx context.Context) error { return removeDomain(ctx, f.virsh, f.Domain.UUID) }
