package guest

import (
	"fmt"
	"strings"
)

// WriteFstab writes /etc/fstab (fstab(5)): the root by UUID, proc, the swap areas.
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
	if id.ESPUUID != "" { // a guest that boots by BIOS can do without
		line("UUID="+id.ESPUUID, "/boot/efi", "vfat", "umask=0077,nofail", "0", 0)
	}
	for _, uuid := range id.SwapUUIDs {
		line("UUID="+uuid, "swap", "swap", "defaults", "0", 0)
	}
	return b.String()
}
