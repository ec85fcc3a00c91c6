package guest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/pattern"
)

// Mount is a filesystem that the guest mounts beside its root.
type Mount struct {
	UUID, Folder, Filesystem string
	Options                  string
	Pass                     int // fstab's sixth field
}

// mounts are what fstab has beside the root.
func (id Identity) mounts() []Mount {
	return slices.Concat(id.Folders, id.DataDisks)
}

// WriteFstab writes /etc/fstab (fstab(5)): the root by UUID, proc, the swap areas,
// the data disks.
func WriteFstab(r *Root, id Identity) error {
	return r.WriteFile("/etc/fstab", []byte(fstab(id)), 0o644, Reset)
}

func fstab(id Identity) string {
	options := id.RootOptions
	if options == "" {
		options = "defaults"
	}
	var b strings.Builder
	line := func(device, dir, fstype, options string, dump string, pass any) {
		fmt.Fprintf(&b, "%-41s %-15s %-7s %-15s %-7s %v\n", device, dir, fstype, options, dump, pass)
	}
	b.WriteString("# What is mounted where at boot; see fstab(5).\n#\n")
	line("# <device>", "<mount point>", "<type>", "<options>", "<dump>", "<pass>")
	line("UUID="+id.RootUUID, "/", id.Filesystem, options, "0", id.RootPass)
	line("proc", "/proc", "proc", "defaults", "0", 0)
	mount := func(m Mount) { line("UUID="+m.UUID, m.Folder, m.Filesystem, m.Options, "0", m.Pass) }
	for _, m := range id.Folders { // before the EFI system partition, which is below /boot
		mount(m)
	}
	if id.ESPUUID != "" { // a guest that boots by BIOS can do without
		line("UUID="+id.ESPUUID, "/boot/efi", "vfat", "umask=0077,nofail", "0", 0)
	}
	for _, uuid := range id.SwapUUIDs {
		line("UUID="+uuid, "swap", "swap", "defaults", "0", 0)
	}
	if id.SwapFile {
		line(SwapFile, "swap", "swap", "defaults", "0", 0)
	}
	for _, m := range id.DataDisks {
		mount(m)
	}
	return b.String()
}

// makeMountPoints makes the folders that the data disks are mounted on, and warns
// of those whose content they will hide.
func makeMountPoints(ctx context.Context, r *Root, mounts []Mount) error {
	for _, m := range mounts {
		if err := r.MkdirAll(m.Folder, 0o755); err != nil {
			return err
		}
		names, err := r.ReadDir(m.Folder)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			zerolog.Ctx(ctx).Warn().Msgf("the guest has %s in %s, which its data disk will hide", pattern.Plain(strings.Join(names[:min(3, len(names))], ", ")), m.Folder)
		}
	}
	return nil
}
