package vm

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/session"
)

// VM is a guest that libvirt has, made here or by the script of 2009.
type VM struct {
	Name  string
	State string        // in virsh's words
	Why   string        // it is paused, in virsh's words
	Ours  bool          // it was made here
	Known libvirt.Guest // what was noted down then
	// CopyOf is the UUID of the domain that this one was copied from (virt-clone), with
	// what was noted down of it: its address and keys are that one's, so that they are
	// not Known.
	CopyOf string
	// Disks are its volumes by what they are for: "boot", "root", "swap", "data1".
	Disks map[string]Disk
	// Others are the paths of further disks, which are never touched.
	Others []string
	Domain libvirt.Domain

	virsh     libvirt.Virsh
	session   *session.Session // of who has opened it
	refreshed bool             // libvirt has read its pools anew
	beside    []string         // paths that were made for it, and that no disk of it consists of now
}

// Disk is a disk of the guest's own.
type Disk struct {
	libvirt.Volume
	Pool string // "": no active one has it

	target string          // what the guest calls it: vda, …
	over   []libvirt.Image // what snapshots put over it, the top first; or itself, when it isn't raw
}

// Find reads what libvirt knows of a guest.
func Find(ctx context.Context, virsh libvirt.Virsh, name string) (*VM, error) {
	uuid, err := virsh.Find(ctx, name)
	if err != nil {
		return nil, err
	}
	if uuid == "" {
		return nil, isMissing(ctx, virsh, name)
	}
	return readVM(ctx, virsh, libvirt.DomainID{UUID: uuid, Name: name})
}

func readVM(ctx context.Context, virsh libvirt.Virsh, id libvirt.DomainID) (*VM, error) {
	d, err := virsh.Domain(ctx, id.UUID)
	if err != nil {
		return nil, err
	}
	f := &VM{Name: id.Name, Domain: d, Disks: map[string]Disk{}, virsh: virsh}
	if d.Metadata != nil && d.Metadata.Guest != nil {
		f.Ours, f.Known = true, *d.Metadata.Guest
	}
	if f.Known.UUID != "" && f.Known.UUID != d.UUID {
		f.CopyOf, f.Known = f.Known.UUID, libvirt.Guest{UUID: f.Known.UUID, Layout: f.Known.Layout, Volumes: f.Known.Volumes}
	}
	if f.State, err = virsh.State(ctx, id.UUID); err != nil {
		return nil, err
	}
	if f.State == "paused" {
		if err := f.readWhy(ctx); err != nil {
			return nil, err
		}
	}
	return f, f.findDisks(ctx)
}

// readWhy reads why the guest is paused, and of a disk's fault, which disk and which fault.
func (f *VM) readWhy(ctx context.Context) (err error) {
	if f.Why, err = f.virsh.Reason(ctx, f.Domain.UUID); err != nil || f.Why != libvirt.IOError {
		return err
	}
	faults, err := f.virsh.DiskErrors(ctx, f.Domain.UUID)
	f.Why = strings.Join(append([]string{f.Why}, faults...), ", ")
	return err
}

// hasIOError tells whether the guest is paused by a fault of one of its disks.
func (f *VM) hasIOError() bool { return strings.HasPrefix(f.Why, libvirt.IOError) }

// Open finds a guest for a run that works on it, and takes the lock on its name until the
// end of the run.
func Open(ctx context.Context, s *session.Session, virsh libvirt.Virsh, name string) (*VM, error) {
	lock, err := lockGuest(name, false)
	if err != nil {
		return nil, err
	}
	s.Defer("unlock "+name, func(context.Context) error { return lock.Close() })
	tidyMount(name)
	f, err := Find(ctx, virsh, name)
	if err == nil {
		f.session = s
	}
	return f, err
}

// shutOff is virsh's word for a guest that doesn't run.
const shutOff = "shut off"

// Running reports whether the guest may write to its disks.
func (f *VM) Running() bool { return f.State != shutOff }

func (f *VM) isRunning(context.Context) (bool, string) {
	return session.NeededIf(f.Running(), "it is "+f.State)
}

func (f *VM) hasBoot(context.Context) (bool, string) {
	_, ok := f.Disks["boot"]
	return session.NeededIf(ok, "/boot is on the root's disk")
}

// mustBeOff refuses a running guest.
func (f *VM) mustBeOff(remedy string) error {
	if f.Running() {
		return fmt.Errorf("the guest %s is %s: shut it down first (vm stop %s)%s", f.Name, f.State, f.Name, remedy)
	}
	return nil
}

// mustNotBeSaved refuses a guest that is off and will go on from a saved memory: it
// would write over what was changed on its disks meanwhile.
func (f *VM) mustNotBeSaved(ctx context.Context) error {
	saved, err := f.virsh.HasSavedState(ctx, f.Domain.UUID)
	if err == nil && saved && !f.Running() {
		err = fmt.Errorf("the guest %s is saved, and goes on from its memory at its next start: start it and shut it down (vm start %s, vm stop %s), or drop its memory (virsh managedsave-remove %s)",
			f.Name, f.Name, f.Name, f.forVirsh())
	}
	return err
}

// forVirsh is what a command that an admin is told calls the guest: a number would be
// another domain's (see DomainID).
func (f *VM) forVirsh() string {
	if strings.Trim(f.Name, "0123456789") == "" {
		return f.Domain.UUID
	}
	return f.Name
}

// Reach returns where the guest's ssh server is to be found.
func (f *VM) Reach(ctx context.Context) (address string, port int, err error) {
	port = 22
	if f.Known.Port != 0 {
		port = f.Known.Port
	}
	if f.Known.Address != "" {
		return f.Known.Address, port, nil
	}
	if found := f.virsh.Addresses(ctx, f.Domain.UUID); len(found) > 0 {
		return found[0], port, nil
	}
	return "", 0, fmt.Errorf("no address is known of the guest %s, which gets one by DHCP: wait until it has booted (instance-debootstrap vm console %s)", f.Name, f.forVirsh())
}

// List finds the guests that were made here.
func List(ctx context.Context, virsh libvirt.Virsh) (list []*VM, err error) {
	ids, err := virsh.Domains(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(ids, func(a, b libvirt.DomainID) int { return cmp.Compare(a.Name, b.Name) })
	for _, id := range ids {
		f, err := readVM(ctx, virsh, id)
		if err != nil && virsh.IsGone(ctx, id.UUID) { // meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		if f.Ours {
			list = append(list, f)
		}
	}
	return list, nil
}
