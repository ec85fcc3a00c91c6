package osapi

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/kelseyhightower/envconfig"
)

// scalars are the variables with one fixed name. All are strings or numbers
// that take any text, so that reading them can't stop at the first bad one.
type scalars struct {
	APIVersion      string `envconfig:"OS_API_VERSION"`
	OSName          string `envconfig:"OS_NAME"`
	InstanceOS      string `envconfig:"INSTANCE_OS"`
	Variant         string `envconfig:"OS_VARIANT"`
	DebugLevel      number `envconfig:"DEBUG_LEVEL"`
	InstanceName    string `envconfig:"INSTANCE_NAME"`
	OldInstanceName string `envconfig:"OLD_INSTANCE_NAME"`
	InstanceUUID    string `envconfig:"INSTANCE_UUID"`
	PrimaryNode     string `envconfig:"INSTANCE_PRIMARY_NODE"`
	SecondaryNodes  string `envconfig:"INSTANCE_SECONDARY_NODES"`
	Hypervisor      string `envconfig:"HYPERVISOR"`
	Reinstall       string `envconfig:"INSTANCE_REINSTALL"`
	DiskCount       number `envconfig:"DISK_COUNT"`
	NICCount        number `envconfig:"NIC_COUNT"`
	ExportIndex     number `envconfig:"EXPORT_INDEX"`
	ExportDevice    string `envconfig:"EXPORT_DEVICE"`
	ExportDiskPath  string `envconfig:"EXPORT_DISK_PATH"`
	ExportDiskURI   string `envconfig:"EXPORT_DISK_URI"`
	ImportIndex     number `envconfig:"IMPORT_INDEX"`
	ImportDevice    string `envconfig:"IMPORT_DEVICE"`
	ImportDiskPath  string `envconfig:"IMPORT_DISK_PATH"`
	ImportDiskURI   string `envconfig:"IMPORT_DISK_URI"`
	SizeFD          number `envconfig:"EXP_SIZE_FD"`
}

// number is a variable that should hold a decimal number, and the text it holds.
type number struct {
	Text  string
	Value int64
	Bad   bool // Text is not empty and not a decimal number
}

// Decode makes number an envconfig.Decoder. It never fails: a text that is no
// number is reported with all other faults, by parser.count.
func (n *number) Decode(text string) error {
	n.Text = text
	if text == "" {
		return nil
	}
	v, err := strconv.ParseUint(text, 10, 31)
	n.Value, n.Bad = int64(v), err != nil
	return nil
}

// readScalars reads the process's environment with envconfig when environ is
// nil, and environ by the same tags otherwise: envconfig reads nothing else.
func readScalars(environ []string) (scalars, error) {
	var s scalars
	if environ == nil {
		return s, envconfig.Process("", &s)
	}
	vars := toMap(environ)
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		text, ok := vars[v.Type().Field(i).Tag.Get("envconfig")]
		if !ok {
			continue
		}
		switch f := v.Field(i).Addr().Interface().(type) {
		case *string:
			*f = text
		case envconfig.Decoder:
			if err := f.Decode(text); err != nil {
				return s, err
			}
		}
	}
	return s, nil
}

// toMap returns the variables by name; the first of two counts, as in os.Getenv.
func toMap(environ []string) map[string]string {
	out := make(map[string]string, len(environ))
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		if _, seen := out[name]; ok && name != "" && !seen {
			out[name] = value
		}
	}
	return out
}

// count returns the number in n, or def when the variable is unset or empty. A
// text that is no decimal number between lo and hi is a fault.
func (p *parser) count(name string, n number, lo, hi, def int64, remedy string) int64 {
	switch {
	case n.Text == "":
		return def
	case n.Bad || n.Value < lo || n.Value > hi:
		p.fault("%s %q: not a decimal number from %d to %d: %s", name, n.Text, lo, hi, remedy)
		return def
	}
	return n.Value
}

// maxDevices bounds DISK_COUNT and NIC_COUNT; Ganeti's own bounds are 16 and 8.
const maxDevices = 256

// environment reads a request of API 10, 15 or 20.
func (p *parser) environment(argv []string) {
	r, s := p.req, p.scalars
	if len(argv) > 0 {
		p.fault("arguments %q: from OS API 10 on there are none; for the old form unset OS_API_VERSION", argv)
	}
	p.hostName("INSTANCE_NAME", s.InstanceName, "give the instance's full name")
	if s.Hypervisor == "" {
		p.fault("HYPERVISOR is not set: give the hypervisor's name, such as kvm or xen-pvm")
	}
	if p.verb == Rename {
		p.hostName("OLD_INSTANCE_NAME", s.OldInstanceName, "give the name that the guest has now")
	}
	if s.DiskCount.Text == "" {
		p.fault("DISK_COUNT is not set: give the number of the instance's disks, at least 1")
	} else {
		n := p.count("DISK_COUNT", s.DiskCount, 1, maxDevices, 0, "give the number of the instance's disks")
		p.disks(int(n))
	}
	n := p.count("NIC_COUNT", s.NICCount, 0, maxDevices, 0, "give the number of the instance's network interfaces")
	for i := range int(n) {
		r.NICs = append(r.NICs, p.nic(i))
	}
	switch p.verb {
	case Create, Rename:
		if len(r.Disks) > 0 {
			r.BlockDev = r.Disks[r.Root].Path
		}
	case Export:
		p.ioDevice("EXPORT", s.ExportDevice, s.ExportDiskPath, s.ExportDiskURI, s.ExportIndex)
		r.SizeFD = int(p.count("EXP_SIZE_FD", s.SizeFD, 3, 1<<20, -1, "give the number of an open descriptor, or unset it"))
	case Import:
		p.ioDevice("IMPORT", s.ImportDevice, s.ImportDiskPath, s.ImportDiskURI, s.ImportIndex)
	}
}

// ioDevice reads the disk that export or import works on.
func (p *parser) ioDevice(prefix, device, path, uri string, index number) {
	r := p.req
	r.BlockDev, r.IODiskPath, r.IODiskURI = device, path, uri
	hi := int64(maxDevices - 1)
	if len(r.Disks) > 0 {
		hi = int64(len(r.Disks) - 1)
	}
	r.IODisk = int(p.count(prefix+"_INDEX", index, 0, hi, 0, "give the disk's index, counted from 0"))
	switch {
	case device != "":
		p.absolute(prefix+"_DEVICE", device)
	case uri == "":
		p.fault("%s_DEVICE is not set: give the path of the disk to %s", prefix, p.verb)
	case len(r.Disks) > 0: // an export's is that of the snapshot
		r.Disks[r.IODisk].Path, r.Disks[r.IODisk].URI = "", uri
	}
}

// disks reads the instance's disks. The root is the first that is the guest's.
func (p *parser) disks(count int) {
	r := p.req
	for i := range count {
		r.Disks = append(r.Disks, p.disk(i))
	}
	r.Root = max(0, slices.IndexFunc(r.Disks, Disk.IsGuests))
	if count > 0 && !r.Disks[r.Root].IsGuests() {
		p.fault("DISK_0_ROLE %q: the instance has no disk of its own beside those that Ganeti keeps for itself: add one (gnt-instance modify --disk add:size=…)", r.Disks[0].Role)
	}
	for _, d := range r.Disks {
		if d.IsGuests() && d.Path == "" && d.URI == "" {
			p.fault("DISK_%d_PATH is not set, though DISK_COUNT is %d: give the path of the disk's device or file", d.Index, count)
		}
	}
}

// disk reads disk i.
func (p *parser) disk(i int) Disk {
	name := func(suffix string) string { return fmt.Sprintf("DISK_%d_%s", i, suffix) }
	get := func(suffix string) string { return p.vars[name(suffix)] }
	d := Disk{
		Index: i, Path: get("PATH"), URI: get("URI"), Access: get("ACCESS"), Name: get("NAME"),
		UUID: get("UUID"), BackendType: get("BACKEND_TYPE"), FrontendType: get("FRONTEND_TYPE"), Role: get("ROLE"),
	}
	var size number
	if text := get("SIZE"); text != "" {
		v, err := strconv.ParseInt(text, 10, 64)
		size = number{Text: text, Value: v, Bad: err != nil || text[0] == '+'}
	}
	d.SizeMiB = p.count(name("SIZE"), size, 0, 1<<43-1, 0, "give the disk's size in MiB, or unset it")
	if d.Path != "" {
		p.absolute(name("PATH"), d.Path)
	}
	return d
}

// nic reads network interface i.
func (p *parser) nic(i int) NIC {
	name := func(suffix string) string { return fmt.Sprintf("NIC_%d_%s", i, suffix) }
	get := func(suffix string) string { return p.vars[name(suffix)] }
	for _, f := range nicFormats {
		if text := get(f.suffix); text != "" && !f.valid(text) {
			p.fault("%s %q: not %s", name(f.suffix), text, f.want)
		}
	}
	return NIC{
		Index: i, MAC: get("MAC"), UUID: get("UUID"), Mode: get("MODE"), Name: get("NAME"),
		IP: get("IP"), Link: get("LINK"), Bridge: get("BRIDGE"), VLAN: get("VLAN"), FrontendType: get("FRONTEND_TYPE"),
		Network: Network{
			Name: get("NETWORK_NAME"), UUID: get("NETWORK_UUID"),
			Subnet: get("NETWORK_SUBNET"), Gateway: get("NETWORK_GATEWAY"),
			Subnet6: get("NETWORK_SUBNET6"), Gateway6: get("NETWORK_GATEWAY6"),
			MACPrefix: get("NETWORK_MAC_PREFIX"), Tags: get("NETWORK_TAGS"),
		},
	}
}
