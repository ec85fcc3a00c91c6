package boot

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"instance-debootstrap/pkg/partition"
)

// Loader names the boot loader of a disk by the code of its boot record and what is on
// its EFI system partition: "grub-bios" (boot.img has its name in its messages),
// "grub-efi", "grub-bios+efi", "efi" for another that UEFI starts, "unknown" for other
// code; "" is none. On a disk without partitions the first sector can be a filesystem's,
// and nothing is unknown. Arch is the architecture that a program on the EFI system
// partition is for, amd64 or arm64; "" where its name doesn't say.
func Loader(disk io.ReaderAt, l partition.Layout) (loader, arch string, err error) {
	code := make([]byte, codeBytes)
	if _, err := disk.ReadAt(code, 0); err != nil && err != io.EOF {
		return "", "", fmt.Errorf("read the boot record: %w", err)
	}
	switch {
	case bytes.Contains(code, []byte("GRUB")):
		loader = "grub-bios"
	case l.Style != partition.StyleNone && len(bytes.Trim(code, "\x00")) > 0:
		loader = "unknown"
	}
	p, ok := l.ESP()
	if !ok {
		return loader, "", nil
	}
	efi, arch, err := efiLoader(io.NewSectionReader(disk, p.Offset(), min(p.SizeBytes(), espLook)))
	switch {
	case err != nil:
		return "", "", fmt.Errorf("read the EFI system partition: %w", err)
	case efi == "":
		return loader, "", nil
	case loader == "grub-bios":
		return "grub-bios+efi", arch, nil
	}
	return efi, arch, nil
}

// espLook is how much of an EFI system partition is looked at, in bytes: a FAT is filled
// from its beginning.
const espLook = 64 << 20

// efiLoader looks for programs of EFI's in the folders of a FAT, and for GRUB's name. What
// a guest wrote is not taken apart for that: each 32 bytes are looked at as if they were a
// folder's entry (Microsoft's FAT specification 1.03, chapter 6).
func efiLoader(esp io.Reader) (loader, arch string, err error) {
	grub, buf := false, make([]byte, 1<<20)
	for {
		n, err := io.ReadFull(esp, buf)
		grub = grub || bytes.Contains(buf[:n], []byte("GRUB"))
		for entry := range slices.Chunk(buf[:n], 32) {
			if isProgram(entry) {
				loader, arch = "efi", cmp.Or(arch, programArch[string(entry[:8])])
			}
		}
		isEnd := err == io.EOF || err == io.ErrUnexpectedEOF
		switch {
		case loader != "" && grub && (arch != "" || isEnd):
			return "grub-efi", arch, nil
		case isEnd:
			return loader, arch, nil
		case err != nil:
			return "", "", err
		}
	}
}

// programArch has the architectures of shim, GRUB and of what firmware starts from a disk
// that it doesn't know (UEFI 2.10, 3.5.1.1), by their names without .EFI.
var programArch = map[string]string{
	"BOOTX64 ": "amd64", "SHIMX64 ": "amd64", "GRUBX64 ": "amd64",
	"BOOTAA64": "arm64", "SHIMAA64": "arm64", "GRUBAA64": "arm64",
}

// isProgram tells whether an entry is of a file that isn't empty and is called *.EFI. A
// name that was removed begins with 0xe5.
func isProgram(entry []byte) bool {
	const directory, volume = 0x10, 0x08
	return len(entry) == 32 && string(entry[8:11]) == "EFI" && entry[11]&^0x27 == 0 && entry[11]&(directory|volume) == 0 &&
		!bytes.ContainsFunc(entry[:8], func(r rune) bool { return r <= ' ' && r != ' ' || r > '~' }) && entry[0] != ' ' &&
		binary.LittleEndian.Uint32(entry[28:]) > 0
}
