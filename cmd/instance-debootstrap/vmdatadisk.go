package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/vm"
)

// repeated are the values of an option that is given more than once. They may have commas,
// at which urfave/cli would take a list apart.
type repeated []string

func (r *repeated) Set(text string) error {
	*r = append(*r, text)
	return nil
}

func (r *repeated) String() string { return strings.Join(*r, " ") }

func repeatedOf(c *cli.Context, name string) []string {
	r, _ := c.Generic(name).(*repeated)
	return *r
}

func diskFlag() cli.Flag {
	return &cli.GenericFlag{Name: "disk", Value: &repeated{}, Usage: "a further disk, blank: `SIZE[,pool=POOL][,mount=FOLDER]`; given once for each"}
}

// dataDisks reads the options --disk.
func (b *vmBuilder) dataDisks(ctx context.Context, virsh libvirt.Virsh) {
	for _, text := range b.disks {
		size, rest, _ := strings.Cut(text, ",")
		d := vm.DataVolume{Pool: b.vm.Pool}
		var err error
		if d.SizeBytes, err = parseSize("--disk", size); err != nil {
			b.faults = append(b.faults, err)
		}
		d.SizeBytes = (d.SizeBytes + 1<<20 - 1) >> 20 << 20
		for rest != "" {
			var option string
			option, rest, _ = strings.Cut(rest, ",")
			name, value, _ := strings.Cut(option, "=")
			if value == "" || strings.ContainsAny(value, " \t\n") || strings.Contains(","+rest, ","+name+"=") {
				b.fault("--disk %s: %q: each of pool= and mount= may be given once, with a value without blanks", text, option)
			}
			switch name {
			case "pool":
				if d.Pool, err = virsh.FindPool(ctx, value, ""); err != nil {
					b.faults = append(b.faults, fmt.Errorf("--disk %s: %w", text, err))
				}
			case "mount":
				if d.Folder = value; !filepath.IsAbs(value) {
					b.fault("--disk %s: mount=%s: must be a folder from / on, as mount=/srv", text, value)
				}
			default:
				b.fault("--disk %s: %q is not known; write it as SIZE[,pool=POOL][,mount=FOLDER]", text, option)
			}
		}
		b.vm.Data = append(b.vm.Data, d)
	}
	if len(b.vm.Data) > vm.MaxDataVolumes {
		b.fault("--disk is given %d times: at most %d", len(b.vm.Data), vm.MaxDataVolumes)
	}
}

// ganetiDisks are the disks as Ganeti has them, and DATA_DISKS for them.
func (b *vmBuilder) ganetiDisks() (disks []osapi.Disk, dataDisks string) {
	var mounts []string
	if b.dataDisksSetting != "" {
		mounts = append(mounts, b.dataDisksSetting)
	}
	for _, vol := range b.vm.Volumes(b.vm.Guest) {
		if vol.Role == "boot" {
			continue
		}
		d := osapi.Disk{Path: vol.Path, Access: "w"}
		if vol.Role != "root" {
			d.Name = vol.Role
		}
		if vol.Folder != "" {
			mounts = append(mounts, vol.Role+"="+vol.Folder)
		}
		disks = append(disks, d)
	}
	return disks, strings.Join(mounts, ",")
}

// fromBackup takes layout, firmware and size from a backup.
func (b *vmBuilder) fromBackup(ctx context.Context) {
	if b.backup == "" {
		return
	}
	found, err := vm.ReadBackup(ctx, b.backup)
	if err != nil {
		b.faults = append(b.faults, fmt.Errorf("--from-backup: %w", err))
		return
	}
	b.vm.Backup, b.layout = found, vm.LayoutSingle
	if len(found.Firmwares) == 1 {
		b.firmware = found.Firmwares[0]
	}
	if b.extraPkgs != "" || b.passwordFile != "" || b.blankPassword || slices.ContainsFunc(b.disks, func(d string) bool { return strings.Contains(d, "mount=") }) {
		b.fault("--from-backup: the guest is as it was: --extra-pkgs, --root-password-file, --insecure-blank-password and --disk SIZE,mount=FOLDER are for new ones")
	}
	for option, given := range map[string]bool{
		"--unattended-upgrades": b.unattended, "--ip": len(b.ips) > 0, "--gateway": b.gateway != "", "--dns": b.dns != "", "--dns-search": b.search != "",
		"--suite": b.suite != "", "--mirror": b.mirror != "", "--kernel-pkg": b.kernel != "",
		"--cloud-init": b.firstBoot["user_data"] != "", "--first-boot": b.firstBoot["first_boot"] != "",
	} {
		if given {
			b.fault("--from-backup: the guest is as it was, with its network: %s is for new ones", option)
		}
	}
	if b.rootSize == "" {
		b.rootSize = strconv.FormatInt(found.SizeBytes, 10)
	}
}
