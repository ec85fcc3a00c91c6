package boot

import (
	"fmt"
	"strings"
	"testing"
)

// ofKernel is a kernel whose ext4 and virtio drivers are modules, with NVMe built in,
// and neither btrfs nor IDE.
func ofKernel(inside string) modules {
	m := modules{
		kernel: "9.9", builtin: map[string]bool{"nvme": true, "virtio_pci": true}, inside: map[string]bool{},
		needs: map[string][]string{
			"ext4": {"jbd2", "mbcache"}, "jbd2": {}, "mbcache": {}, "xfs": {}, "virtio_blk": {}, "sd_mod": {"scsi_mod"}, "scsi_mod": {}, "ahci": {}, "virtio_scsi": {},
		},
	}
	for _, name := range strings.Fields(inside) {
		m.inside[name] = true
	}
	return m
}

const everything = "ext4 jbd2 mbcache xfs virtio_blk sd_mod scsi_mod ahci virtio_scsi"

func TestAnInitramfsLacksWhatItsKernelHasAndItDoesNot(t *testing.T) {
	for _, c := range []struct{ inside, fstype, bus, want string }{
		{everything, "ext4", "virtio", ""},
		{everything, "ext2", "", ""}, // ext4's driver reads it
		{strings.Replace(everything, " jbd2", "", 1), "xfs", "virtio", "[{root ext4 [jbd2] true}]"},
		{strings.Replace(everything, "ext4 ", "", 1), "xfs", "virtio", "[{root ext4 [ext4] true}]"},
		{strings.Replace(everything, "scsi_mod", "", 1), "ext4", "virtio", "[{bus virtio-scsi [scsi_mod] true} {bus sata [scsi_mod] true}]"},
		{strings.Replace(everything, "virtio_blk", "", 1), "ext4", "", "[{bus virtio [virtio_blk] true}]"},
		{everything, "btrfs", "virtio", "[{root btrfs [btrfs] false}]"}, // the kernel is the wrong one
		{everything, "ext4", "ide", "[{bus ide [ata_piix] false}]"},
	} {
		var got []string
		for _, l := range ofKernel(c.inside).lacks(c.fstype, c.bus) {
			what := "root " + l.Root
			if l.Root == "" {
				what = "bus " + l.Bus
			}
			got = append(got, fmt.Sprintf("{%s %v %v}", what, l.Modules, l.Carried))
		}
		if text := fmt.Sprint(got); text != c.want && (len(got) > 0 || c.want != "") {
			t.Errorf("%s, %s by %s: %s; want %s", c.inside, c.fstype, c.bus, text, c.want)
		}
	}
}

func TestModulesAreFoundInWhatEitherToolLists(t *testing.T) {
	const listing = `usr/lib/modules/6.1.0-9-amd64/kernel/fs/ext4/ext4.ko
-rw-r--r--   1 root     root       345678 Jan  1 00:00 usr/lib/modules/7.2.13+deb14-amd64/kernel/drivers/block/xen-blkfront.ko.xz
lib/modules/4.19.0-5-amd64/modules.dep
`
	var got []string
	for _, file := range moduleFile().FindAllString(listing, -1) {
		got = append(got, module(file))
	}
	if strings.Join(got, " ") != "ext4 xen_blkfront" {
		t.Errorf("found %q", got)
	}
}

func TestTheBusOfAnInstance(t *testing.T) {
	for want, c := range map[string]struct{ hypervisor, hv string }{
		"virtio":      {"kvm", "disk_type=paravirtual"},
		"ide":         {"kvm", "disk_type=ide machine_version=pc"},
		"sata":        {"kvm", "disk_type=ide machine_version=q35"},
		"lsi":         {"kvm", "disk_type=scsi-hd scsi_controller_type=lsi"},
		"virtio-scsi": {"kvm", "disk_type=scsi-hd scsi_controller_type=virtio-scsi-pci"},
		"megasas":     {"kvm", "disk_type=scsi-block scsi_controller_type=megasas"},
		"xen":         {"xen-pvm", ""},
		"":            {"kvm", "disk_type=pflash"},
	} {
		hv := map[string]string{}
		for _, pair := range strings.Fields(c.hv) {
			name, value, _ := strings.Cut(pair, "=")
			hv[name] = value
		}
		if got := InstanceBus(c.hypervisor, hv); got != want {
			t.Errorf("%s %s: %q, want %q", c.hypervisor, c.hv, got, want)
		}
	}
	if InstanceBus("", nil) != "virtio" {
		t.Error("by hand it is not virtio")
	}
}
