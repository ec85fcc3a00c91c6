package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"instance-debootstrap/pkg/guest"
)

// nicDrivers are Linux's modules for the network interfaces that Ganeti's KVM
// emulates (gnt-instance(8), "nic_type"); any of them will do.
var nicDrivers = map[string][]string{
	"paravirtual": {"virtio_net"},
	"e1000":       {"e1000"},
	"i82551":      {"e100"},
	"i82557b":     {"e100"},
	"i82559er":    {"e100"},
	"ne2k_isa":    {"ne"},
	"ne2k_pci":    {"ne2k_pci"},
	"pcnet":       {"pcnet32"},
	"rtl8139":     {"8139cp", "8139too"},
}

// NICDrivers are the modules of which a guest must have one for such an interface;
// nil is one that isn't known here. Xen unplugs what it emulates once the guest has
// its own driver.
func NICDrivers(hypervisor, frontend string) []string {
	switch hypervisor {
	case "xen-pvm", "xen-hvm":
		return []string{"xen_netfront"}
	case "kvm":
		return nicDrivers[frontend]
	}
	return nil
}

// LacksDriver says which of these modules, one of which is enough, a guest's kernel
// lacks; "" is none. Nothing is said of a kernel without a list of its modules.
func LacksDriver(root *guest.Root, version string, drivers []string) (string, error) {
	m, err := modulesOf(root, version)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("the modules of Linux %s: %w", version, err)
	}
	if len(drivers) == 0 || slices.ContainsFunc(drivers, func(name string) bool { return m.carried(name) }) {
		return "", nil
	}
	return strings.Join(drivers, " or "), nil
}
