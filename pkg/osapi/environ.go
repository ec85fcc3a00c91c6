package osapi

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// toMap returns the variables by name; the first of two counts, as in os.Getenv. No library
// reads them into a struct (envconfig): such a one stops at the first value that is wrong, and
// all are told at once; and most names have a number in them, or a word that the admin chose.
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

// count returns the number that a variable holds, or def when it is unset or empty. A
// text that is no decimal number between lo and hi is a fault.
func (p *parser) count(name string, lo, hi, def int64, remedy string) int64 {
	text := p.vars[name]
	if text == "" {
		return def
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || int64(n) < lo || int64(n) > hi {
		p.fault("%s %q: not a decimal number from %d to %d: %s", name, text, lo, hi, remedy)
		return def
	}
	return int64(n)
}

// maxDevices bounds DISK_COUNT and NIC_COUNT; Ganeti's own bounds are 16 and 8.
const maxDevices = 256

// environment reads a request of API 10, 15 or 20.
func (p *parser) environment(argv []string) {
	r := p.req
	if len(argv) > 0 {
		p.fault("arguments %q: from OS API 10 on there are none; for the old form unset OS_API_VERSION", argv)
	}
	if p.vars["DISK_COUNT"] == "" {
		p.fault("DISK_COUNT is not set: give the number of the instance's disks, at least 1")
	} else {
		n := p.count("DISK_COUNT", 1, maxDevices, 0, "give the number of the instance's disks")
		for i := range int(n) {
			r.Disks = append(r.Disks, p.disk(i))
		}
	}
	n := p.count("NIC_COUNT", 0, maxDevices, 0, "give the number of the instance's network interfaces")
	for i := range int(n) {
		r.NICs = append(r.NICs, p.nic(i))
	}
	p.findRoot()
	p.check()
	switch p.verb {
	case Export:
		p.ioDevice("EXPORT")
		p.count("EXP_SIZE_FD", 3, 1<<20, -1, "give the number of an open descriptor, or unset it")
	case Import:
		p.ioDevice("IMPORT")
	}
}

// ioDevice reads the disk that export or import works on.
func (p *parser) ioDevice(prefix string) {
	r, device, uri := p.req, p.vars[prefix+"_DEVICE"], p.vars[prefix+"_DISK_URI"]
	r.BlockDev = device
	hi := int64(maxDevices - 1)
	if len(r.Disks) > 0 {
		hi = int64(len(r.Disks) - 1)
	}
	r.IODisk = int(p.count(prefix+"_INDEX", 0, hi, 0, "give the disk's index, counted from 0"))
	switch {
	case device != "":
		p.absolute(prefix+"_DEVICE", device)
	case uri == "":
		p.fault("%s_DEVICE is not set, nor %[1]s_DISK_URI: give the path of the disk to %[2]s", prefix, p.verb)
	case len(r.Disks) > 0: // an export's is that of the snapshot
		r.Disks[r.IODisk].Path, r.Disks[r.IODisk].URI = "", uri
	}
}

// findRoot finds the root, which is the first disk that is the guest's.
func (p *parser) findRoot() {
	r := p.req
	r.Root = max(0, slices.IndexFunc(r.Disks, Disk.IsGuests))
	if len(r.Disks) > 0 && (p.verb == Create || p.verb == Rename) {
		r.BlockDev = r.Disks[r.Root].Path
	}
}

func (p *parser) disk(i int) Disk {
	name := func(suffix string) string { return fmt.Sprintf("DISK_%d_%s", i, suffix) }
	get := func(suffix string) string { return p.vars[name(suffix)] }
	p.count(name("SIZE"), 0, 1<<43-1, 0, "give the disk's size in MiB, or unset it")
	return Disk{
		Index: i, Path: get("PATH"), URI: get("URI"), Access: get("ACCESS"), Name: get("NAME"),
		FrontendType: get("FRONTEND_TYPE"), Role: get("ROLE"),
	}
}

func (p *parser) nic(i int) NIC {
	get := func(suffix string) string { return p.vars[fmt.Sprintf("NIC_%d_%s", i, suffix)] }
	return NIC{
		Index: i, MAC: get("MAC"), Mode: get("MODE"), IP: get("IP"),
		Link: get("LINK"), Bridge: get("BRIDGE"), FrontendType: get("FRONTEND_TYPE"),
		Network: Network{
			Name: get("NETWORK_NAME"), Subnet: get("NETWORK_SUBNET"), Gateway: get("NETWORK_GATEWAY"),
			Subnet6: get("NETWORK_SUBNET6"), Gateway6: get("NETWORK_GATEWAY6"),
		},
	}
}
