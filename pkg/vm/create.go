package vm

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/install"
	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/node"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/qemu"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// Wanted is a virtual machine that is to be made on a node of libvirt's. No step writes to
// it.
type Wanted struct {
	Guest string // its name, for libvirt and for its volumes
	Machine
	Storage
	Backup  *Backup // nil: the guest is a new one
	NICs    []NIC
	NICName string // of the first, in the guest; "" is nic0

	Credentials []Credential
	Identity    string // the private key of --ssh-key, for ssh's -i; "" is not known

	Node       node.Facts // what it takes over
	Unattended bool       // installs security updates by itself
	Afterwards

	Virsh libvirt.Virsh
	Order *install.Order
}

// Machine is what the guest runs on.
type Machine struct {
	Arch       string // libvirt's name of it
	Firmware   string // bios, uefi or both; both runs by UEFI
	SecureBoot bool   // with UEFI
	MemoryKiB  int64
	VCPUs      int
	Graphical  bool // a screen over VNC
	Autostart  bool // with the node
}

func (m Machine) isUEFI() bool { return m.Firmware != "bios" }

// Afterwards is what is done with the guest that is made.
type Afterwards struct {
	Start, Wait bool
	WaitTime    time.Duration
	Rollback    bool // a guest that doesn't answer in time is removed
}

// making is what the steps find, and have made. Only the recipe's own closures, and keep,
// write to it.
type making struct {
	*Wanted
	run     *install.Run // of a new guest's disks
	session *session.Session
	uuid    string
	volumes []Volume // as planned, then as made; in the guest's order
	kvm     bool
	made    pending // what was written down of them
	kept    bool
}

// Create makes a virtual machine, whole or not at all. One that is whole, and runs,
// stays however the waiting for its answer ends, unless that is to remove it
// (Rollback). It returns in one line how to get in. The caller holds the guest's lock (see
// StartGuard).
func Create(ctx context.Context, s *session.Session, wanted *Wanted) (did string, err error) {
	v := &making{Wanted: wanted}
	if v.Backup == nil {
		m := install.Measure(s, install.OfVM)
		defer func() { m.Write(ctx, v.Order.Settings.MetricsDir, v.report(err), err) }()
	}
	s.Defer("remove what was made of "+v.Guest, func(ctx context.Context) error {
		if v.kept {
			return nil
		}
		return sweepGuest(ctx, v.Virsh, v.Guest)
	})
	if err := v.begin(ctx, s); err != nil { // what is undone with the disks is what comes after it
		return "", err
	}
	err = s.Do(ctx, v.steps())
	if err != nil && v.kept {
		err = v.stays(ctx, err)
	}
	return v.tell(), err
}

// report is what was made, if it was.
func (v *making) report(failure error) install.Report {
	if failure != nil {
		return install.Report{}
	}
	return v.run.Report()
}

// Plan lists the steps of Create, without running any. The error is what Create
// would refuse.
func Plan(ctx context.Context, wanted *Wanted) (session.Plan, error) {
	v := &making{Wanted: wanted}
	fault := v.begin(ctx, &session.Session{})
	return session.Plan{Verb: "vm create", Instance: v.Guest, Disk: v.Order.Disk()}.Of(ctx, v.steps(), fault)
}

// steps is the recipe: the guest's disks, and the domain after them.
func (v *making) steps() []session.Step {
	disks := v.newSteps
	if v.Backup != nil {
		disks = v.backupSteps
	}
	return slices.Concat(
		disks(),
		[]session.Step{
			{Name: "keep the credentials", Detail: v.describeCredentials(), When: v.isToHaveCredentials, Run: v.keepCredentials},
			{Name: "define the domain", Detail: v.describe(), Run: v.define},
			{Name: "start the guest", Detail: v.Guest, When: v.isToStart, Run: v.start},
		},
		v.lastSteps(),
	)
}

// newSteps make the disks of a new guest: Ganeti's recipe, on volumes of libvirt's.
func (v *making) newSteps() []session.Step {
	r := v.run
	return slices.Concat(
		[]session.Step{
			v.nodeStep(),
			r.TreeStep(),
			v.volumesStep(),
			r.ClaimStep(),
		},
		r.DiskSteps(),
		[]session.Step{
			{Name: "copy the node's time zone, locale and keyboard", Detail: v.describeHabits(), Run: v.takeOver},
		},
		r.GuestSteps(),
		[]session.Step{r.ReleaseStep()},
	)
}

func (v *making) nodeStep() session.Step {
	return session.Step{Name: "check the node", Detail: "libvirt, names, KVM", Known: v.whatIsThere, Run: func(ctx context.Context) (err error) {
		v.kvm, err = v.lookAtNode(ctx)
		return err
	}}
}

func (v *making) volumesStep() session.Step {
	return session.Step{Name: "make the volumes", Detail: v.describeVolumes(v.Guest), Run: func(ctx context.Context) (err error) {
		v.volumes, v.made, err = v.makeVolumes(ctx, v.volumes)
		return err
	}}
}

// lastSteps keep the guest, and wait for it.
func (v *making) lastSteps() []session.Step {
	keep := session.Step{Name: "commit", Detail: v.Guest, Run: v.keep}
	wait := session.Step{Name: "wait until it answers", Detail: "by ssh", When: v.isToWait, Run: v.wait}
	if v.Rollback {
		return []session.Step{wait, keep}
	}
	return []session.Step{keep, wait}
}

func (v *making) begin(ctx context.Context, s *session.Session) (err error) {
	v.session, v.volumes = s, v.Volumes(v.Guest)
	uuid, uuidErr := partition.NewUUID(rand.Reader)
	var choice install.Choice
	if v.Backup == nil {
		if choice, err = v.Order.Decide(ctx); err == nil {
			err = choice.CheckSize(v.RootBytes)
		}
	} else { // which has its tree, and boots by what is in it
		choice, err = v.Order.DecideLogin()
	}
	v.uuid, v.run = uuid, install.Begin(s, choice)
	return cmp.Or(v.checkSuite(), uuidErr, err)
}

// BootPath is the volume for /boot; "" is none.
func (v *Wanted) BootPath() string {
	for _, vol := range v.Volumes(v.Guest) {
		if vol.Role == "boot" {
			return vol.Path
		}
	}
	return ""
}

// whatIsThere tells plan whether the guest's names are free.
func (v *making) whatIsThere(ctx context.Context) (string, error) {
	_, err := os.Stat("/dev/kvm") // whether it works is tried when the guest is made
	return "its names are free, and there is room for it", cmp.Or(v.checkNames(ctx), checkRoom(ctx, v.volumes), v.checkFigures(ctx, err == nil), v.checkAutostart(ctx))
}

// checkNames refuses a guest whose name, or a volume's of it, is taken.
func (v *making) checkNames(ctx context.Context) error {
	uuid, err := v.Virsh.Find(ctx, v.Guest)
	if err != nil {
		return err
	}
	if uuid != "" {
		return fmt.Errorf("the guest %s exists already: take another name, or remove it (vm remove %s)", v.Guest, v.Guest)
	}
	others, err := otherDomains(ctx, v.Virsh, "")
	if err != nil {
		return err
	}
	for _, p := range v.volumes {
		pool := p.Pool.Name
		path, err := v.Virsh.PathOf(ctx, pool, p.Name)
		if err != nil {
			return err
		}
		if path != "" {
			users, err := usersOf(ctx, v.Virsh, "", []string{p.Path})
			if owner := users[p.Path]; err != nil || owner != "" {
				return cmp.Or(err, fmt.Errorf("the volume %s exists already in pool %s, and is a disk of the guest %s: take another name", p.Name, pool, owner))
			}
			return fmt.Errorf("the volume %s exists already in pool %s: take another name, or remove it (virsh vol-delete --pool %s %s)", p.Name, pool, pool, p.Name)
		}
	}
	for _, d := range others {
		if d.Log() == consoleLog(v.Guest) {
			return fmt.Errorf("the guest %s was made as %s, and still has its console's log: take another name", d.Name, v.Guest)
		}
	}
	return nil
}

// lookAtNode checks, before anything is made, what later steps need, and whether there is
// KVM.
func (v *making) lookAtNode(ctx context.Context) (kvm bool, err error) {
	if err := v.checkNames(ctx); err != nil {
		return false, err
	}
	firmwares := []string{"bios"}
	if v.isUEFI() {
		firmwares = []string{"uefi"}
	}
	if err := qemu.Check("amd64", firmwares); err != nil {
		return false, err
	}
	used, err := v.Virsh.MACs(ctx)
	if err != nil {
		return false, err
	}
	for _, nic := range v.NICs {
		if used[nic.MAC] {
			return false, fmt.Errorf("the MAC address %s is another guest's: try again", nic.MAC)
		}
	}
	err = qemu.KVMWorks(ctx, "amd64", v.session.WorkDir)
	if kvm = err == nil; !kvm {
		tell.Warn(ctx, "the guest is emulated, some twenty times slower than with KVM: %v", err)
	}
	return kvm, cmp.Or(checkRoom(ctx, v.volumes), v.checkFigures(ctx, kvm), v.checkAutostart(ctx))
}

// makeVolumes makes the volumes, and returns them as they are. Each is written down first:
// see pending.
func (v *making) makeVolumes(ctx context.Context, planned []Volume) (made []Volume, m pending, err error) {
	m = pending{Guest: v.Guest, UUID: v.uuid, Pool: v.Pool.Name}
	for i, p := range planned {
		m.Volumes = append(m.Volumes, pendingVolume{Pool: p.Pool.Name, Name: p.Name, SizeBytes: p.SizeBytes})
		if err := m.write(); err != nil {
			return made, m, err
		}
		err := v.Virsh.MakeVolume(ctx, p.Pool, p.Name, p.SizeBytes)
		if errors.Is(err, libvirt.ErrExists) {
			return made, m, errors.Join(err, m.forgetUnlessMade())
		}
		if err != nil { // it may be there all the same
			return made, m, err
		}
		m.Volumes[i].Made = true
		if err := m.write(); err != nil {
			return made, m, err
		}
		path, err := v.Virsh.PathOf(ctx, p.Pool.Name, p.Name)
		if err != nil {
			return made, m, err
		}
		if path != p.Path {
			return made, m, fmt.Errorf("libvirt made the volume %s at %q, and not at %s", p.Name, path, p.Path)
		}
		p.Volume = volumeAt(path)
		made = append(made, p)
		if !p.IsFile && strings.HasPrefix(p.Role, "data") { // what an earlier volume had there
			if err := filesystem.Wipe(ctx, p.Path); err != nil {
				return made, m, err
			}
		}
	}
	return made, m, nil
}
