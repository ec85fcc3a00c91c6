// Package osapi reads what Ganeti passes to an OS definition's scripts, in the
// environment (OS API 10, 15, 20) or as options (API 5), into one Request.
//
// The names and their meanings are those of ganeti-os-interface(7) and of
// Ganeti 3.0's lib/backend.py. Everything is checked before a Request is
// returned: each variable that is missing or malformed is named in one error.
package osapi

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Verb is one of the five scripts of an OS definition.
type Verb string

// The five scripts.
const (
	Create Verb = "create"
	Import Verb = "import"
	Export Verb = "export"
	Rename Verb = "rename"
	Verify Verb = "verify"
)

// Verbs returns the five.
func Verbs() []Verb { return []Verb{Create, Import, Export, Rename, Verify} }

// ParseVerb returns the verb that a script of this name carries out.
func ParseVerb(s string) (Verb, bool) {
	if slices.Contains(Verbs(), Verb(s)) {
		return Verb(s), true
	}
	return "", false
}

// Request is one call of a script by Ganeti. Its maps are never nil.
type Request struct {
	Verb       Verb
	APIVersion int // 5, 10, 15 or 20

	InstanceName    string
	OldInstanceName string // rename: what the guest was called before
	Variant         string // "" is none
	Hypervisor      string
	InstanceUUID    string
	PrimaryNode     string // as Ganeti's configuration has it: a UUID since 2.9, a name before
	SecondaryNodes  string // the same, separated by blanks
	DebugLevel      int

	Disks []Disk
	NICs  []NIC

	HV         map[string]string // INSTANCE_HV_*: the rest of the name, case kept, and Python's str() of the value
	OSParams   map[string]string // OSP_FOO_BAR as "foo_bar"; may hold secrets: never log a value
	ParamNames map[string]string // how the admin knows those that New was given; nil is as Ganeti has them

	Reinstall bool // create: the instance had a guest before

	SwapDev  string // API 5 only: -s
	Root     int    // the index of the disk that is the guest's root
	BlockDev string // the disk that the verb works on; "" for verify
	IODisk   int    // export, import: the disk's index, where BlockDev may be its snapshot

	Environ []string // as received, "NAME=value"
}

// Disk is one disk of the instance.
type Disk struct {
	Index        int
	Path         string // a block device or a file; "" when there is only a URI
	URI          string // how the hypervisor reaches it in userspace
	Access       string // "rw" or "ro", for the guest
	Name         string
	FrontendType string
	Role         string // "", "data" or "none" is the guest's; another is Ganeti's own, such as the firmware's
}

// IsGuests tells whether the disk is for the guest to use. What Ganeti keeps for itself
// beside these, such as a UEFI firmware and its variables, is never opened by a verb that
// wasn't called for that very disk.
func (d Disk) IsGuests() bool { // None is how Python writes that there is no role
	return d.Role == "" || d.Role == "data" || strings.EqualFold(d.Role, "none")
}

// ReadOnly tells whether the guest can't write to the disk: Ganeti says "ro", its
// manual "R".
func (d Disk) ReadOnly() bool { return slices.Contains([]string{"ro", "r"}, strings.ToLower(d.Access)) }

// BootType is how a KVM guest is started by a Ganeti that says so (boot_type, planned for
// 4.0; its doc/design-uefi-boot.rst): "direct_kernel" with a kernel of the node, "bios" or
// "uefi" from its disk. It is "" where the parameter kernel_path decides.
func (r *Request) BootType() string {
	if how := r.HV["boot_type"]; r.Hypervisor == "kvm" && how != "None" {
		return how
	}
	return ""
}

// IsRoot tells whether export or import was called for the guest's root disk.
func (r *Request) IsRoot() bool { return r.IODisk == r.Root }

// Named returns the guest's disks beside its root that Ganeti's administrator gave this
// name.
func (r *Request) Named(name string) (disks []Disk) {
	for _, d := range r.Disks {
		if d.Index != r.Root && d.IsGuests() && d.Name == name {
			disks = append(disks, d)
		}
	}
	return disks
}

// NIC is one network interface of the instance.
type NIC struct {
	Index   int
	MAC     string
	Mode    string // "routed", "bridged" or "openvswitch"
	IP      string
	Link    string
	Bridge  string
	Network Network
	// FrontendType is how the guest sees it: paravirtual, e1000, …
	FrontendType string
}

// Network is what Ganeti knows of the network that a NIC is in; all fields are
// empty when it is in none.
type Network struct {
	Name              string
	Subnet, Gateway   string // IPv4: CIDR and address
	Subnet6, Gateway6 string // IPv6: CIDR and address
}

// knownAPIs is what Parse's error offers for an unknown version.
const knownAPIs = "20, 15, 10 and 5"

// Parse returns what Ganeti asks for. argv is the command line without its
// first word; environ is the environment as "NAME=value". The first of two equal names counts.
//
// The error names every variable that is missing or malformed, each with its
// remedy; the Request then has what could be read, so that the settings can be
// checked in the same go. An OS API version that is not known is reported alone,
// with a nil Request, since nothing else can be judged then.
func Parse(v Verb, argv []string, environ []string) (*Request, error) {
	vars := toMap(environ)
	p := parser{verb: v, vars: vars}
	p.req = &Request{
		Verb: v, InstanceName: vars["INSTANCE_NAME"], OldInstanceName: vars["OLD_INSTANCE_NAME"],
		Variant: vars["OS_VARIANT"], Hypervisor: vars["HYPERVISOR"], InstanceUUID: vars["INSTANCE_UUID"],
		PrimaryNode: vars["INSTANCE_PRIMARY_NODE"], SecondaryNodes: vars["INSTANCE_SECONDARY_NODES"],
		HV: p.withPrefix("INSTANCE_HV_"), OSParams: p.osParams(), Environ: append([]string(nil), environ...),
	}
	switch version := vars["OS_API_VERSION"]; version {
	case "", "5":
		p.req.APIVersion = 5
	case "10", "15", "20":
		p.req.APIVersion, _ = strconv.Atoi(version)
	default:
		return nil, fmt.Errorf("OS_API_VERSION %q is unknown: this OS definition speaks %s; use a Ganeti that does too", version, knownAPIs)
	}
	p.common()
	switch {
	case v == Verify:
		p.checkVerifyArgs(argv)
	case p.req.APIVersion == 5:
		p.options(argv)
	default:
		p.environment(argv)
	}
	if len(p.faults) > 0 {
		return p.req, fmt.Errorf("not called as Ganeti's OS interface says (API %d):\n%w", p.req.APIVersion, errors.Join(p.faults...))
	}
	return p.req, nil
}

// parser gathers a Request and what is wrong with it.
type parser struct {
	verb   Verb
	vars   map[string]string
	req    *Request
	faults []error
}

// fault records what is wrong with a variable or option.
func (p *parser) fault(format string, args ...any) {
	p.faults = append(p.faults, fmt.Errorf(format, args...))
}

// common reads what every verb may be given.
func (p *parser) common() {
	p.req.DebugLevel = int(p.count("DEBUG_LEVEL", 0, 1000, 0, "0 is quiet, 1 verbose"))
	if reinstall := p.vars["INSTANCE_REINSTALL"]; !slices.Contains([]string{"", "0", "False", "1", "True"}, reinstall) {
		p.fault("INSTANCE_REINSTALL %q: it is 1 for a reinstall, and unset or 0 otherwise", reinstall)
	}
	p.req.Reinstall = slices.Contains([]string{"1", "True"}, p.vars["INSTANCE_REINSTALL"])
	p.checkVariant()
}

// checkVerifyArgs refuses checks that are asked for but not known: API 20 has
// just one, "parameters".
func (p *parser) checkVerifyArgs(argv []string) {
	for _, a := range argv {
		if a != "parameters" {
			p.fault("argument %q: the only check that can be asked for is parameters", a)
		}
	}
}

// withPrefix returns the variables whose names start with prefix, without it.
func (p *parser) withPrefix(prefix string) map[string]string {
	out := map[string]string{}
	for name, value := range p.vars {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" {
			out[rest] = value
		}
	}
	return out
}

// osParams returns the OS parameters by lower-case name. Ganeti makes the name
// upper case and each "-" a "_", which can't be undone.
func (p *parser) osParams() map[string]string {
	out := map[string]string{}
	for name, value := range p.withPrefix("OSP_") {
		out[strings.ToLower(name)] = value
	}
	return out
}
