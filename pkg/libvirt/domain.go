package libvirt

import (
	"encoding/xml"
	"fmt"

	"instance-debootstrap/pkg/pattern"
)

// Domain is a domain's definition, as far as it is written or read here
// (libvirt.org, "Domain XML format").
type Domain struct {
	XMLName  xml.Name  `xml:"domain"`
	Type     string    `xml:"type,attr"` // kvm or qemu
	Name     string    `xml:"name"`
	UUID     string    `xml:"uuid"`
	Metadata *Metadata `xml:"metadata,omitempty"`
	Memory   Memory    `xml:"memory"`
	VCPUs    int       `xml:"vcpu"`
	OS       OS        `xml:"os"`
	Features Features  `xml:"features"`
	CPU      CPU       `xml:"cpu"`
	Clock    Clock     `xml:"clock"`
	SysInfo  []SysInfo `xml:"sysinfo"`
	OnCrash  string    `xml:"on_crash,omitempty"`
	Devices  Devices   `xml:"devices"`

	Command *QEMUCommand `xml:"http://libvirt.org/schemas/domain/qemu/1.0 commandline"`
}

// Metadata is what applications keep with a domain; ours is Guest. OSInfo is
// libosinfo's, by which virt-manager and others know what runs in it.
type Metadata struct {
	Guest  *Guest  `xml:"urn:instance-debootstrap:vm guest"`
	OSInfo *OSInfo `xml:"http://libosinfo.org/xmlns/libvirt/domain/1.0 libosinfo"`
}

// OSInfo names an operating system by osinfo-db's id of it.
type OSInfo struct {
	OS OSInfoID `xml:"http://libosinfo.org/xmlns/libvirt/domain/1.0 os"`
}

// OSInfoID is such an id, as http://debian.org/debian/12.
type OSInfoID struct {
	ID string `xml:"id,attr"`
}

// Guest is what is known of a guest that was made here.
type Guest struct {
	XMLName xml.Name `xml:"urn:instance-debootstrap:vm guest"`
	Layout  string   `xml:"layout"` // boot+root+swap, single, or the name of a file of LAYOUT
	Pool    string   `xml:"pool"`   // of its volumes
	// UUID is the domain's that all this was noted down for; a copy (virt-clone) has another.
	UUID    string        `xml:"uuid,omitempty"`
	Volumes []GuestVolume `xml:"volume"`
	Address string        `xml:"address,omitempty"` // where ssh reaches it; "" is by DHCP
	Port    int           `xml:"port,omitempty"`    // of ssh; 0 is 22
	IPs     []string      `xml:"ip"`                // all that it was given
	// HostKeys are its ssh server's public keys, "TYPE BASE64", made when it was.
	HostKeys []string `xml:"hostkey"`
}

// GuestVolume is a volume that was made for a guest.
type GuestVolume struct {
	Role string `xml:"role,attr"` // boot, root, swap, data1, …
	Pool string `xml:"pool,attr"`
	Name string `xml:"name,attr"`
	Path string `xml:",chardata"`
}

// The parts of a Domain. A nil pointer is an element that isn't there.
type (
	Memory struct {
		Unit string `xml:"unit,attr"`
		Size int64  `xml:",chardata"`
	}
	OS struct {
		Firmware string    `xml:"firmware,attr,omitempty"` // "efi", or "" for BIOS
		Type     OSType    `xml:"type"`
		Feature  *Features `xml:"firmware"`
		NVRAM    string    `xml:"nvram,omitempty"` // the file with the firmware's variables
	}
	OSType struct {
		Arch    string `xml:"arch,attr"`
		Machine string `xml:"machine,attr"`
		Name    string `xml:",chardata"`
	}
	Features struct {
		ACPI     *struct{}         `xml:"acpi"`
		APIC     *struct{}         `xml:"apic"`
		SMM      *SMM              `xml:"smm"`
		Firmware []FirmwareFeature `xml:"feature"`
	}
	SMM struct {
		State string `xml:"state,attr"`
	}
	FirmwareFeature struct {
		Enabled string `xml:"enabled,attr"`
		Name    string `xml:"name,attr"`
	}
	CPU struct {
		Mode string `xml:"mode,attr"`
	}
	Clock struct {
		Offset string  `xml:"offset,attr"`
		Timers []Timer `xml:"timer"`
	}
	Timer struct {
		Name       string `xml:"name,attr"`
		TickPolicy string `xml:"tickpolicy,attr,omitempty"`
		Present    string `xml:"present,attr,omitempty"`
	}
	// SysInfo of type fwcfg are files that the guest's firmware passes on.
	SysInfo struct {
		Type    string         `xml:"type,attr"`
		Entries []FirmwareFile `xml:"entry"`
	}
	FirmwareFile struct {
		Name string `xml:"name,attr"`
		File string `xml:"file,attr,omitempty"`
	}
	Devices struct {
		Disks      []Disk      `xml:"disk"`
		Interfaces []Interface `xml:"interface"`
		Serial     *Char       `xml:"serial"`
		Console    *Char       `xml:"console"`
		Channel    *Char       `xml:"channel"`
		Graphics   *Graphics   `xml:"graphics"`
		Video      *Video      `xml:"video"`
		Input      *Input      `xml:"input"`
		RNG        *RNG        `xml:"rng"`
	}
	Disk struct {
		Type   string     `xml:"type,attr"` // file or block
		Device string     `xml:"device,attr"`
		Driver *Driver    `xml:"driver"`
		Source DiskSource `xml:"source"`
		// Below is what the disk is an overlay of, as far as libvirt noted it down.
		Below  *Backing   `xml:"backingStore"`
		Target DiskTarget `xml:"target"`
		Boot   *BootOrder `xml:"boot"`
		Serial string     `xml:"serial,omitempty"`
	}
	Backing struct {
		Format Format     `xml:"format"`
		Source DiskSource `xml:"source"`
		Below  *Backing   `xml:"backingStore"`
	}
	Format struct {
		Type string `xml:"type,attr"`
	}
	Driver struct {
		Name    string `xml:"name,attr"`
		Type    string `xml:"type,attr"`
		Cache   string `xml:"cache,attr,omitempty"`
		Discard string `xml:"discard,attr,omitempty"`
	}
	DiskSource struct {
		File   string `xml:"file,attr,omitempty"`
		Dev    string `xml:"dev,attr,omitempty"`
		Pool   string `xml:"pool,attr,omitempty"`
		Volume string `xml:"volume,attr,omitempty"`
	}
	DiskTarget struct {
		Dev string `xml:"dev,attr"`
		Bus string `xml:"bus,attr,omitempty"`
	}
	BootOrder struct {
		Order int `xml:"order,attr"`
	}
	Interface struct {
		Type   string          `xml:"type,attr"` // bridge or network
		MAC    MAC             `xml:"mac"`
		Source InterfaceSource `xml:"source"`
		Model  *Model          `xml:"model"`
	}
	MAC struct {
		Address string `xml:"address,attr"`
	}
	InterfaceSource struct {
		Bridge  string `xml:"bridge,attr,omitempty"`
		Network string `xml:"network,attr,omitempty"`
	}
	Model struct {
		Type string `xml:"type,attr"`
	}
	Char struct {
		Type   string     `xml:"type,attr"`
		Log    *CharLog   `xml:"log"`
		Target CharTarget `xml:"target"`
	}
	CharLog struct {
		File   string `xml:"file,attr"`
		Append string `xml:"append,attr"`
	}
	CharTarget struct {
		Type string `xml:"type,attr,omitempty"`
		Port string `xml:"port,attr,omitempty"`
		Name string `xml:"name,attr,omitempty"`
	}
	Graphics struct {
		Type   string          `xml:"type,attr"`
		Listen *GraphicsListen `xml:"listen"`
	}
	// GraphicsListen of type socket is a socket that libvirt puts into a folder of
	// the domain's.
	GraphicsListen struct {
		Type string `xml:"type,attr"`
	}
	Video struct {
		Model Model `xml:"model"`
	}
	Input struct {
		Type string `xml:"type,attr"`
		Bus  string `xml:"bus,attr"`
	}
	RNG struct {
		Model   string     `xml:"model,attr"`
		Backend RNGBackend `xml:"backend"`
	}
	RNGBackend struct {
		Model string `xml:"model,attr"`
		Path  string `xml:",chardata"`
	}
	QEMUCommand struct {
		Args []QEMUArg `xml:"http://libvirt.org/schemas/domain/qemu/1.0 arg"`
	}
	QEMUArg struct {
		Value string `xml:"value,attr"`
	}
)

// Log is the file that takes what the serial console says; "" is none.
func (d Domain) Log() string {
	if d.Devices.Serial == nil || d.Devices.Serial.Log == nil {
		return ""
	}
	return d.Devices.Serial.Log.File
}

// FirmwareFiles are the files on the node that the guest's firmware passes on.
func (d Domain) FirmwareFiles() (paths []string) {
	for _, info := range d.SysInfo {
		for _, entry := range info.Entries {
			if entry.File != "" {
				paths = append(paths, entry.File)
			}
		}
	}
	return paths
}

// userMAC is in the argument of QEMU that makes the NIC of its user-mode network.
var userMAC = pattern.New(`^virtio-net-pci,netdev=user0,.*mac=([0-9A-Fa-f:]{17})$`)

// UserMAC is the address of the NIC on QEMU's user-mode network, which is none of Devices;
// "" is none.
func (d Domain) UserMAC() string {
	if d.Command == nil {
		return ""
	}
	for _, arg := range d.Command.Args {
		if found := userMAC().FindStringSubmatch(arg.Value); found != nil {
			return found[1]
		}
	}
	return ""
}

// ScreenHasPort tells whether the domain's screen is reached by a port of the node's, and
// not by a socket.
func (d Domain) ScreenHasPort() bool {
	g := d.Devices.Graphics
	return g != nil && (g.Type == "vnc" || g.Type == "spice") && (g.Listen == nil || g.Listen.Type == "address" || g.Listen.Type == "network")
}

// Path is where the disk's data is on the node; "" for a disk that is named in
// another way.
func (s DiskSource) Path() string {
	if s.Dev != "" {
		return s.Dev
	}
	return s.File
}

// Bytes is the size; libvirt's own unit is KiB.
func (m Memory) Bytes() int64 { return m.Size << 10 }

// Firmware is what the domain starts by: bios or uefi.
func (d Domain) Firmware() string {
	if d.OS.Firmware == "efi" {
		return "uefi"
	}
	return "bios"
}

// XML is the definition as virsh takes it.
func (d Domain) XML() ([]byte, error) {
	text, err := xml.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("domain %s: %w", d.Name, err)
	}
	return append(text, '\n'), nil
}
