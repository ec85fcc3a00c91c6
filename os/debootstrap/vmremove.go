package debootstrap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/session"
)

// RemoveVM removes a guest with its volumes. The domain goes last, so that what was
// interrupted can be repeated. A running guest is refused, or shut down first; one that
// doesn't answer loses its plug.
func RemoveVM(ctx context.Context, s *session.Session, virsh libvirt.Virsh, name string, stop Stop) error {
	f, err := openVM(ctx, s, virsh, name)
	if err != nil {
		return err
	}
	return s.Do(ctx, []session.Step{
		{Name: "see that it may go", Detail: name, Run: func(context.Context) error { return f.mayGo(stop.Wanted) }},
		{Name: "ask it to shut down", Detail: name, When: f.isAwake, Run: func(ctx context.Context) error { return f.tryToShutDown(ctx, stop.Within) }},
		{Name: "pull its plug", Detail: name, When: f.isRunning, Run: f.pullPlug},
		{Name: "delete its volumes", Detail: f.describeDisks(), Run: f.deleteDisks},
		{Name: "undefine the domain", Detail: "with its NVRAM and the log of its console", Run: f.undefine},
	})
}

// mayGo refuses what isn't a guest of ours, and one that is in use.
func (f *Found) mayGo(stop bool) error {
	if len(f.Disks) == 0 && !f.Ours {
		return fmt.Errorf("the guest %s has no volume that is named after it, and was not made here: see virsh undefine", f.Name)
	}
	if !stop {
		if err := f.mustBeOff(", or give --stop, which does that"); err != nil {
			return err
		}
	}
	return f.mustNotBeMounted()
}

// tryToShutDown is no failure when the guest doesn't answer: it goes in any case.
func (f *Found) tryToShutDown(ctx context.Context, within time.Duration) error {
	err := f.shutDown(ctx, within)
	if errors.Is(err, errNoAnswer) {
		return nil
	}
	return err
}

// pullPlug ends the guest at once, unless it has just ended by itself.
func (f *Found) pullPlug(ctx context.Context) error {
	warn(ctx, "the guest %s is %s and doesn't answer: its plug is pulled, and its last writes may be lost", f.Name, f.State)
	err := f.virsh.Destroy(ctx, f.Name)
	if err != nil && f.lookAgain(ctx) == nil && !f.Running() {
		return nil
	}
	return err
}

func (f *Found) describeDisks() string {
	var paths []string
	for _, role := range DiskOrder {
		if vol, ok := f.Disks[role]; ok {
			paths = append(paths, vol.Path)
		}
	}
	return joinPaths(paths)
}

// deleteDisks deletes the volumes that are named after the guest. Other disks of
// it stay, and so does a file that no pool knows.
func (f *Found) deleteDisks(ctx context.Context) error {
	for _, role := range DiskOrder {
		vol, ok := f.Disks[role]
		if pool := f.Pools[role]; pool != "" {
			if err := f.virsh.DeleteVolume(ctx, pool, vol.Name); err != nil {
				return err
			}
		} else if _, err := os.Stat(vol.Path); ok && err == nil {
			f.Others = append(f.Others, vol.Path)
		}
	}
	for _, path := range f.Others {
		warn(ctx, "%s was the guest's too, but is no volume of a pool that is named after it: it stays", path)
	}
	return nil
}

func (f *Found) undefine(ctx context.Context) error { return removeDomain(ctx, f.virsh, f.Domain.UUID) }
