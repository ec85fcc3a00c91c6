package boot

import (
	"bytes"
	"strings"

	"instance-debootstrap/pkg/partition"
)

// Loader names the boot loader of a disk by the code of its boot record and its
// partitions: "grub-bios" (boot.img has its name in its messages), "grub-efi",
// "grub-bios+efi", "unknown" for other code; "" is none. On a disk without
// partitions the first sector can be a filesystem's, and nothing is unknown.
func Loader(sector0 []byte, l partition.Layout) string {
	code := sector0[:min(len(sector0), codeBytes)]
	loader := ""
	switch {
	case bytes.Contains(code, []byte("GRUB")):
		loader = "grub-bios"
	case l.Style != partition.StyleNone && len(bytes.Trim(code, "\x00")) > 0:
		loader = "unknown"
	}
	for _, p := range l.Partitions {
		if strings.EqualFold(p.Type, typeESP) {
			if loader == "grub-bios" {
				return "grub-bios+efi"
			}
			return "grub-efi"
		}
	}
	return loader
}
