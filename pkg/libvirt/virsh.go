// Package libvirt makes and finds guests and their volumes on a node that libvirt
// runs, through virsh(1). What it reads back is libvirt's XML (formatdomain,
// formatstorage at libvirt.org), never virsh's tables.
package libvirt

import (
	"bytes"
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/pattern"
)

// URI is the libvirt that is spoken to: the node's own.
const URI = "qemu:///system"

// callTime bounds one call of virsh. A volume of LVM may have to be wiped.
const callTime = 5 * time.Minute

// Virsh speaks to the node's libvirt.
type Virsh struct {
	// Program is virsh; "" is the one on command.Path.
	Program string
}

// Check fails where there is no virsh, or no libvirtd that answers it.
func (v Virsh) Check(ctx context.Context) error {
	_, err := v.run(ctx, "uri")
	switch {
	case err == nil:
		return nil
	case strings.HasSuffix(err.Error(), toHaveLibvirt):
		return fmt.Errorf("libvirt: %w", err)
	default:
		return fmt.Errorf("libvirt: %w; %s", err, toHaveLibvirt)
	}
}

// toHaveLibvirt is what to do where there is none.
const toHaveLibvirt = "install libvirt-clients and libvirt-daemon-system, and start libvirtd"

// run calls virsh and returns what it printed. A call that was begun is waited
// for, whatever happens to ctx, and gets no signal of the terminal's: libvirtd
// would carry it out all the same, and nobody knew.
func (v Virsh) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), callTime, errors.New("libvirtd does not answer: see what it does (systemctl status libvirtd)"))
	defer cancel()
	program := v.Program
	if program == "" {
		program = "virsh"
	}
	var out bytes.Buffer
	argv := append([]string{program, "--connect", URI, "--quiet"}, args...)
	err := command.Run(ctx, command.Cmd{Args: argv, Stdout: &out, Quiet: true, Group: true})
	if err != nil && strings.Contains(err.Error(), "failed to connect to the hypervisor") {
		err = fmt.Errorf("%w; %s", err, toHaveLibvirt)
	}
	return strings.TrimRight(out.String(), "\n"), err
}

// value calls virsh for one word, or a few, in one line.
func (v Virsh) value(ctx context.Context, args ...string) (string, error) {
	out, err := v.run(ctx, args...)
	return out, cmp.Or(err, readable(out, args))
}

// names calls virsh for a list of names or UUIDs, one a line.
func (v Virsh) names(ctx context.Context, args ...string) ([]string, error) {
	out, err := v.run(ctx, args...)
	var names []string
	for line := range strings.Lines(out) { // virsh pads some of its lists
		if name := strings.TrimSpace(line); name != "" {
			names, err = append(names, name), cmp.Or(err, readable(name, args))
		}
	}
	return names, err
}

// readable is an error where a line that a command of virsh has printed can't be read: what is
// done by it would be done to something else.
func readable(line string, args []string) error {
	if line == "" || !utf8.ValidString(line) || strings.ContainsFunc(line, unicode.IsControl) {
		return fmt.Errorf("virsh %s prints what can't be read, %q: try virsh %s", args[0], line, strings.Join(args, " "))
	}
	return nil
}

// DomainID is how a domain is known. virsh takes a word for a running domain's number
// first, then for a UUID, then for a name, and one with a dash before it for an option:
// only the UUID is always the domain's own, and all that is done to one is done by it.
type DomainID struct{ UUID, Name string }

// uuidLength is that of a UUID's text, in bytes.
const uuidLength = 36

var beginsWithUUID = pattern.New(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12} .`)

// Domains lists all domains, running or not.
func (v Virsh) Domains(ctx context.Context) (list []DomainID, err error) {
	out, err := v.run(ctx, "list", "--all", "--uuid", "--name")
	for line := range strings.Lines(out) { // UUID NAME, which may begin or end with blanks
		line = strings.TrimSuffix(line, "\n")
		switch {
		case beginsWithUUID().MatchString(line):
			list = append(list, DomainID{line[:uuidLength], line[uuidLength+1:]})
		case line != "": // nothing may be taken for gone by that
			return nil, fmt.Errorf("virsh list prints what can't be read, %q: try virsh list --all --uuid --name", line)
		}
	}
	return list, err
}

// Find returns the UUID of the domain of a name; "" is none.
func (v Virsh) Find(ctx context.Context, name string) (uuid string, err error) {
	list, err := v.Domains(ctx)
	if i := slices.IndexFunc(list, func(d DomainID) bool { return d.Name == name }); i >= 0 {
		uuid = list[i].UUID
	}
	return uuid, err
}

// IsGone reports whether there is no such domain: another may end one while all are
// looked at.
func (v Virsh) IsGone(ctx context.Context, uuid string) bool {
	list, err := v.Domains(ctx)
	return err == nil && !slices.ContainsFunc(list, func(d DomainID) bool { return d.UUID == uuid })
}

// LiveDomain reads a domain's definition as it is now, while it runs.
func (v Virsh) LiveDomain(ctx context.Context, uuid string) (Domain, error) {
	return v.domain(ctx, "dumpxml", uuid)
}

// Domain reads a domain's definition, as it will be at its next start.
func (v Virsh) Domain(ctx context.Context, uuid string) (Domain, error) {
	return v.domain(ctx, "dumpxml", "--inactive", uuid)
}

func (v Virsh) domain(ctx context.Context, args ...string) (d Domain, err error) {
	err = v.read(ctx, "domain "+args[len(args)-1], &d, args...)
	return d, err
}

// read runs a command that prints XML; what says in the error of what.
func (v Virsh) read(ctx context.Context, what string, into any, args ...string) error {
	text, err := v.run(ctx, args...)
	if err == nil {
		err = parse(text, into, args[0])
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// parse reads the XML that a command of virsh has printed.
func parse(text string, into any, command string) error {
	if err := xml.Unmarshal([]byte(text), into); err != nil {
		return fmt.Errorf("virsh %s prints what can't be read: %w", command, err)
	}
	return nil
}

// State is a domain's state in virsh's words: "running", "shut off", ….
func (v Virsh) State(ctx context.Context, uuid string) (string, error) {
	return v.value(ctx, "domstate", uuid)
}

// IOError is why a domain is paused of which a disk couldn't be read or written, as QEMU
// does when a pool is full.
const IOError = "I/O error"

// Reason is why a domain is in its state, in virsh's words: "user", "I/O error", ….
func (v Virsh) Reason(ctx context.Context, uuid string) (string, error) {
	said, err := v.run(ctx, "domstate", "--reason", uuid) // STATE (REASON)
	_, reason, _ := strings.Cut(said, " (")
	return strings.TrimSuffix(reason, ")"), err
}

// DiskErrors lists a running domain's disks that have one, as "vdb: no space".
func (v Virsh) DiskErrors(ctx context.Context, uuid string) ([]string, error) {
	lines, err := v.names(ctx, "domblkerror", uuid)
	return slices.DeleteFunc(lines, func(line string) bool { return !strings.Contains(line, ": ") }), err
}

// Define defines a domain, whose XML is validated against libvirt's schema first,
// and has it started with the node if autostart says so. dir takes the XML meanwhile.
func (v Virsh) Define(ctx context.Context, d Domain, dir string, autostart bool) error {
	text, err := d.XML()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "domain-*.xml")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if _, err := v.run(ctx, "define", "--validate", f.Name()); err != nil || !autostart {
		return err
	}
	_, err = v.run(ctx, "autostart", d.UUID)
	return err
}

// Autostarted lists the UUIDs of the domains that are started with the node.
func (v Virsh) Autostarted(ctx context.Context) ([]string, error) {
	return v.names(ctx, "list", "--all", "--autostart", "--uuid")
}

// AutostartedNetworks lists the names of the networks that are.
func (v Virsh) AutostartedNetworks(ctx context.Context) ([]string, error) {
	return v.names(ctx, "net-list", "--all", "--autostart", "--name")
}

// AutostartedPools lists the names of the pools that are.
func (v Virsh) AutostartedPools(ctx context.Context) ([]string, error) {
	return v.names(ctx, "pool-list", "--all", "--autostart", "--name")
}

// MaxVCPUs is how many virtual CPUs a q35 of this QEMU can have.
func (v Virsh) MaxVCPUs(ctx context.Context, arch string, kvm bool) (int, error) {
	var can struct {
		VCPU struct {
			Max int `xml:"max,attr"`
		} `xml:"vcpu"`
	}
	text, err := v.run(ctx, "domcapabilities", "--arch", arch, "--machine", "q35", "--virttype", map[bool]string{true: "kvm", false: "qemu"}[kvm])
	if err == nil {
		err = parse(text, &can, "domcapabilities")
	}
	return can.VCPU.Max, err
}

// Undefine removes a domain's definition, its firmware's variables, its saved memory,
// and what libvirt knows of its snapshots and checkpoints.
func (v Virsh) Undefine(ctx context.Context, uuid string) error {
	_, err := v.run(ctx, "undefine", "--nvram", "--managed-save", "--snapshots-metadata", "--checkpoints-metadata", uuid)
	return err
}

// Start starts a domain.
func (v Virsh) Start(ctx context.Context, uuid string) error {
	_, err := v.run(ctx, "start", uuid)
	switch {
	case err == nil:
	case strings.Contains(err.Error(), "AppArmor profile"): // the helper that makes it fails, and libvirt doesn't say why
		err = fmt.Errorf("%w; `journalctl -u libvirtd -u virtqemud` says why: of disks in folders like /boot, /etc, and all that begin with /lib, there are no profiles", err)
	case strings.Contains(err.Error(), "Permission denied"):
		err = fmt.Errorf("%w; let QEMU's user (libvirt-qemu) pass each folder above that file (chmod o+x), and see what AppArmor forbids (journalctl -k --grep DENIED)", err)
	}
	return err
}

// PressPowerButton asks a running guest to shut down, and doesn't wait. The guest's
// agent isn't asked: one that hangs would be waited for.
func (v Virsh) PressPowerButton(ctx context.Context, uuid string) error {
	_, err := v.run(ctx, "shutdown", uuid, "--mode", "acpi")
	return err
}

// IsPersistent tells whether a domain outlives its end: one that isn't is gone when
// it is shut off.
func (v Virsh) IsPersistent(ctx context.Context, uuid string) (bool, error) {
	kept, err := v.names(ctx, "list", "--all", "--persistent", "--uuid")
	return slices.Contains(kept, uuid), err
}

// HasSavedState tells whether a domain that is off goes on from a memory image at
// its next start (virsh managedsave), which libvirt-guests makes at a node's shutdown.
func (v Virsh) HasSavedState(ctx context.Context, uuid string) (bool, error) {
	saved, err := v.names(ctx, "list", "--all", "--with-managed-save", "--uuid")
	return slices.Contains(saved, uuid), err
}

// Destroy ends a running domain, as pulling its plug does.
func (v Virsh) Destroy(ctx context.Context, uuid string) error {
	_, err := v.run(ctx, "destroy", uuid)
	return err
}

// Addresses lists a running guest's IPv4 addresses: what libvirt's DHCP server
// leased, what the guest's agent says, or what the node has seen of it.
func (v Virsh) Addresses(ctx context.Context, uuid string) []string {
	for _, source := range []string{"lease", "agent", "arp"} {
		out, err := v.run(ctx, "domifaddr", uuid, "--source", source)
		if err != nil {
			continue
		}
		if found := addressesIn(out); len(found) > 0 {
			return found
		}
	}
	return nil
}

// addressesIn reads lines "NAME MAC PROTOCOL ADDRESS/BITS". They may be the guest's
// own words, and go to ssh: what is no IPv4 address isn't taken.
func addressesIn(text string) (found []string) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 4 || f[2] != "ipv4" {
			continue
		}
		text, _, _ := strings.Cut(f[3], "/")
		if address, err := netip.ParseAddr(text); err == nil && address.Is4() && !address.IsLoopback() {
			found = append(found, text)
		}
	}
	return found
}

// MustHaveNetwork refuses a network of libvirt's that isn't there, or not active.
func (v Virsh) MustHaveNetwork(ctx context.Context, name string) error {
	active, err := v.names(ctx, "net-list", "--name")
	if err != nil || slices.Contains(active, name) {
		return err
	}
	all, err := v.names(ctx, "net-list", "--name", "--all")
	switch {
	case err != nil:
		return err
	case slices.Contains(all, name):
		return fmt.Errorf("libvirt has no active network %s: virsh net-start %s", name, name)
	case len(all) == 0:
		return fmt.Errorf("libvirt has no network %s, and no other: define it (virsh net-define)", name)
	}
	return fmt.Errorf("libvirt has no network %s; it has %s (virsh net-list --all)", name, strings.Join(all, ", "))
}
