package vm

import (
	"context"
	"errors"
	"strings"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/session"
)

func (v *Wanted) describeHabits() string {
	n := v.Node
	var parts []string
	for _, text := range []string{n.Timezone.Text, n.Locale.Text} {
		if text != "" {
			parts = append(parts, text)
		}
	}
	if n.Keyboard.Text != "" {
		parts = append(parts, "keyboard")
	}
	return strings.Join(parts, ", ")
}

// takeOver gives the guest the node's time zone, language and keyboard.
func (v *making) takeOver(ctx context.Context) error {
	n := v.Node
	hasLocales := false
	err := guest.Edit(ctx, v.run.Target(), func(root *guest.Root) error {
		if err := v.takesCredentials(root); err != nil {
			return err
		}
		hasLocales = n.Locale.Text != "" && root.Exists("/usr/sbin/locale-gen")
		var errs []error
		if zone := "/usr/share/zoneinfo/" + n.Timezone.Text; n.Timezone.Text != "" && root.Exists(zone) {
			errs = append(errs, root.Symlink(zone, "/etc/localtime"), root.WriteFile("/etc/timezone", []byte(n.Timezone.Text+"\n"), 0o644, guest.Reset))
		}
		if hasLocales {
			errs = append(errs, root.WriteFile("/etc/locale.gen", []byte(n.Charsets.Text+"\n"), 0o644, guest.Reset),
				root.WriteFile("/etc/default/locale", []byte("LANG="+n.Locale.Text+"\n"), 0o644, guest.Reset))
		}
		if n.Keyboard.Text != "" {
			errs = append(errs, root.WriteFile("/etc/default/keyboard", []byte(n.Keyboard.Text), 0o644, guest.Reset))
		}
		if v.Unattended {
			errs = append(errs, root.WriteFile(upgradesFile, []byte(upgrades), 0o644, guest.Reset))
		}
		return errors.Join(errs...)
	})
	if err == nil && hasLocales {
		err = command.Run(ctx, command.Cmd{Chroot: v.run.Target(), Quiet: true, Args: []string{"locale-gen"}})
	}
	return err
}

// UnattendedPackage upgrades a guest's packages, of the origins that its own
// configuration names: in Debian the release and its security updates.
const UnattendedPackage = "unattended-upgrades"

// upgradesFile is what that package's configuration writes when the admin says yes
// (dpkg-reconfigure), for apt's daily timers.
const (
	upgradesFile = "/etc/apt/apt.conf.d/20auto-upgrades"
	upgrades     = "APT::Periodic::Update-Package-Lists \"1\";\nAPT::Periodic::Unattended-Upgrade \"1\";\n"
)

// known is what is noted down of the guest.
func (v *making) known() libvirt.Guest {
	g := libvirt.Guest{Layout: v.Layout, Pool: v.Pool.Name, Port: v.NICs[0].Network.UserPort, UUID: v.uuid}
	for _, vol := range v.volumes {
		g.Volumes = append(g.Volumes, libvirt.GuestVolume{Role: vol.Role, Pool: vol.Pool.Name, Name: vol.Name, Path: vol.Path})
	}
	for _, nic := range v.NICs {
		for _, p := range nic.Addresses {
			g.IPs = append(g.IPs, p.Addr().String())
		}
	}
	if len(v.NICs[0].Addresses) > 0 {
		g.Address = g.IPs[0]
	}
	if g.Port > 0 {
		g.Address = "127.0.0.1"
	}
	for _, key := range v.run.HostKeys() {
		g.HostKeys = append(g.HostKeys, key.Public)
	}
	return g
}

// define defines the domain: from then on libvirt knows the guest. Until it is
// kept it is swept as its volumes are.
func (v *making) define(ctx context.Context) error {
	spec := libvirt.Spec{
		Name: v.Guest, UUID: v.uuid, KVM: v.kvm, Arch: v.Arch, UEFI: v.isUEFI(), SecureBoot: v.SecureBoot, MemoryKiB: v.MemoryKiB, VCPUs: v.VCPUs,
		Graphical: v.Graphical, LogFile: consoleLog(v.Guest), Suite: v.Order.Settings.Suite, Guest: v.known(),
	}
	for _, nic := range v.NICs {
		spec.NICs = append(spec.NICs, libvirt.SpecNIC{MAC: nic.MAC, Network: nic.Network})
	}
	if v.Backup != nil {
		spec.Suite = "" // it isn't known
	}
	for _, vol := range v.volumes {
		spec.Disks = append(spec.Disks, libvirt.SpecDisk{Volume: vol.Volume, Serial: vol.Role})
	}
	spec.Files = v.firmwareFiles()
	return v.Virsh.Define(ctx, spec.Domain(), v.session.WorkDir, v.Autostart)
}

func (v *making) isToStart(context.Context) (bool, string) {
	return session.NeededIf(v.Start, "--start was not given")
}

func (v *making) start(ctx context.Context) error {
	return v.Virsh.Start(ctx, v.uuid)
}
