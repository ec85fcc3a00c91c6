package libvirt

import "fmt"

// Spec says what a new guest is.
type Spec struct {
	Name, UUID string
	KVM        bool   // else it is emulated
	Arch       string // x86_64 or i686
	UEFI       bool
	SecureBoot bool // with UEFI: with the vendor's keys, and Microsoft's
	MemoryKiB  int64
	VCPUs      int
	Disks      []SpecDisk // in the guest's order: vda, vdb, …; the first is started from
	NICs       []SpecNIC  // in the guest's order
	Graphical  bool       // has a screen, keyboard and pointer, over VNC
	LogFile    string     // takes the serial console's output
	Suite      string     // of Debian or Ubuntu
	Files      []FirmwareFile
	Guest      Guest
}

// clock is what virt-manager gives a guest of Linux: the timers that lost ticks would
// put wrong catch up or are left out; kvm-clock is libvirt's default.
func clock() Clock {
	return Clock{Offset: "utc", Timers: []Timer{
		{Name: "rtc", TickPolicy: "catchup"}, {Name: "pit", TickPolicy: "delay"}, {Name: "hpet", Present: "no"},
	}}
}

// SpecDisk is a volume of a new guest.
type SpecDisk struct {
	Volume Volume
	Serial string // names it in the guest: /dev/disk/by-id/virtio-SERIAL
}

// SpecNIC is a network interface of a new guest.
type SpecNIC struct {
	MAC     string
	Network Network
}

// Network is what a guest's NIC is connected to: one of the three.
type Network struct {
	Bridge string // of the node
	Name   string // a network of libvirt's
	// UserPort is a port on the node's 127.0.0.1 that leads to the guest's port
	// 22; the rest of its network is QEMU's own (user-mode).
	UserPort int
}

// Domain is the definition of a new guest: q35 with virtio devices, a serial
// console that is logged, and a channel for the guest's agent. All of them are
// reached through libvirt, or through sockets in folders that only root and QEMU's
// group can pass: no port is opened on the node.
func (s Spec) Domain() Domain {
	here := &struct{}{}
	d := Domain{
		Type: "qemu", Name: s.Name, UUID: s.UUID, Metadata: &Metadata{Guest: &s.Guest, OSInfo: osInfo(s.Suite)},
		Memory: Memory{"KiB", s.MemoryKiB}, VCPUs: s.VCPUs,
		OS:       OS{Type: OSType{s.Arch, "q35", "hvm"}},
		Features: Features{ACPI: here, APIC: here},
		CPU:      CPU{"maximum"}, Clock: clock(), OnCrash: "restart",
	}
	if s.KVM {
		d.Type, d.CPU.Mode = "kvm", "host-passthrough"
	}
	if len(s.Files) > 0 {
		d.SysInfo = []SysInfo{{Type: "fwcfg", Entries: s.Files}}
	}
	if s.UEFI {
		// Which file that is, libvirt finds out (firmware's descriptors). With
		// Secure Boot the guest could not load modules of its own.
		d.OS.Firmware = "efi"
		d.OS.Feature = &Features{Firmware: []FirmwareFeature{{"no", "secure-boot"}}}
		if s.SecureBoot {
			d.OS.Feature.Firmware = []FirmwareFeature{{"yes", "enrolled-keys"}, {"yes", "secure-boot"}}
			d.Features.SMM = &SMM{"on"} // without it the guest's kernel could write the variables' memory
		}
		// libvirt's own choice is by the domain's name alone, which another domain that
		// was renamed, or is gone, may have had.
		d.OS.NVRAM = "/var/lib/libvirt/qemu/nvram/" + s.Name + "-" + s.UUID + "_VARS.fd"
	}
	d.Devices = Devices{
		Serial:  &Char{Type: "pty", Log: &CharLog{s.LogFile, "off"}, Target: CharTarget{Port: "0"}},
		Console: &Char{Type: "pty", Target: CharTarget{Type: "serial", Port: "0"}},
		Channel: &Char{Type: "unix", Target: CharTarget{Type: "virtio", Name: "org.qemu.guest_agent.0"}},
		RNG:     &RNG{"virtio", RNGBackend{"random", "/dev/urandom"}},
	}
	if s.Graphical {
		d.Devices.Graphics = &Graphics{Type: "vnc", Listen: &GraphicsListen{Type: "socket"}}
		d.Devices.Video = &Video{Model{"virtio"}}
		d.Devices.Input = &Input{Type: "tablet", Bus: "virtio"}
	}
	for i, disk := range s.Disks {
		d.Devices.Disks = append(d.Devices.Disks, disk.device(i))
	}
	for _, nic := range s.NICs {
		nic.connect(&d)
	}
	return d
}

func (s SpecDisk) device(i int) Disk {
	d := Disk{
		Type: "file", Device: "disk", Driver: &Driver{Name: "qemu", Type: "raw", Cache: "none", Discard: "unmap"},
		Target: DiskTarget{"vd" + string(rune('a'+i)), "virtio"}, Serial: s.Serial,
	}
	if s.Volume.IsFile {
		d.Source.File = s.Volume.Path
	} else {
		d.Type, d.Source.Dev = "block", s.Volume.Path
	}
	if i == 0 {
		d.Boot = &BootOrder{1}
	}
	return d
}

// connect adds the NIC. QEMU's user-mode network can't forward a port through
// libvirt's own elements, so it is a piece of QEMU's command line, which libvirt
// marks the domain as tainted for.
func (s SpecNIC) connect(d *Domain) {
	nic := Interface{Type: "bridge", MAC: MAC{s.MAC}, Source: InterfaceSource{Bridge: s.Network.Bridge}, Model: &Model{"virtio"}}
	switch {
	case s.Network.UserPort > 0:
		d.Command = &QEMUCommand{Args: []QEMUArg{
			{"-netdev"}, {fmt.Sprintf("user,id=user0,hostfwd=tcp:127.0.0.1:%d-:22", s.Network.UserPort)},
			{"-device"}, {"virtio-net-pci,netdev=user0,addr=0x10,mac=" + s.MAC},
		}}
		return
	case s.Network.Name != "":
		nic.Type, nic.Source = "network", InterfaceSource{Network: s.Network.Name}
	}
	d.Devices.Interfaces = append(d.Devices.Interfaces, nic)
}
