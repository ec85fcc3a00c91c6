package boot

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"

	"instance-debootstrap/pkg/guest"
)

// Offsets of the volume's serial number and of the backup boot sector's number
// in a FAT32 boot sector (Microsoft's FAT specification, 3.3).
const (
	fatSerial     = 67
	fatBackupBoot = 50
)

// maxEFIBytes bounds one program for firmware; GRUB's are of 4 MiB.
const maxEFIBytes = 16 << 20

// MakeESP makes an empty FAT32 filesystem on a device of sizeBytes, whose UUID
// is serial in the form 1234-ABCD.
func MakeESP(device string, sizeBytes int64, serial uint32) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := fat32.Create(file.New(f, false), sizeBytes, 0, sector, "EFI", false); err != nil {
		return fmt.Errorf("make the EFI system partition's FAT32: %w", err)
	}
	// The library takes the serial number from the clock.
	first := make([]byte, sector)
	if _, err := f.ReadAt(first, 0); err != nil {
		return err
	}
	number := binary.LittleEndian.AppendUint32(nil, serial)
	backup := int64(binary.LittleEndian.Uint16(first[fatBackupBoot:])) * sector
	for _, at := range []int64{fatSerial, backup + fatSerial} {
		if _, err := f.WriteAt(number, at); err != nil {
			return err
		}
	}
	return f.Sync()
}

// FATUUID is how blkid and fstab write the serial number.
func FATUUID(serial uint32) string { return fmt.Sprintf("%04X-%04X", serial>>16, serial&0xffff) }

// ParseFATUUID returns the serial number that blkid and fstab write so.
func ParseFATUUID(uuid string) (serial uint32, ok bool) {
	if len(uuid) != 9 || uuid[4] != '-' {
		return 0, false
	}
	n, err := strconv.ParseUint(uuid[:4]+uuid[5:], 16, 32)
	return uint32(n), err == nil
}

// RestoreUEFI puts the signed programs that a guest's packages have as data onto
// its empty EFI system partition, and a grub.cfg that leads to its own.
func RestoreUEFI(t Target, espDevice string) error {
	programs, err := guestPrograms(t)
	if err != nil {
		return err
	}
	return fillESP(espDevice, programs)
}

// RemakeESP makes a guest's EFI system partition anew, of sizeBytes and with the serial
// number by which its fstab knows it, and puts onto it what RestoreUEFI does. What was on it
// is not read: a guest has written it. Where the guest lacks the programs it stays as it is.
func RemakeESP(t Target, espDevice string, sizeBytes int64, serial uint32) error {
	programs, err := guestPrograms(t)
	if err != nil {
		return err
	}
	if err := MakeESP(espDevice, sizeBytes, serial); err != nil {
		return err
	}
	return fillESP(espDevice, programs)
}

// guestPrograms are the files of a guest's EFI system partition, by their place on it.
func guestPrograms(t Target) (map[string][]byte, error) {
	id := guest.Distribution(t.Root)
	var missing error
	for _, arch := range []string{"amd64", "arm64"} {
		programs, err := efiFiles(t.Root, arch, vendor(id))
		if err != nil {
			missing = cmp.Or(missing, err)
			continue
		}
		programs["/EFI/"+vendor(id)+"/grub.cfg"] = espConfig(t.bootUUID(), t.onBoot("/boot/grub"))
		return programs, nil
	}
	return nil, missing
}

// efiNames are an architecture's names: in EFI/BOOT, where firmware looks on a
// disk that it doesn't know (UEFI 2.10, 3.5.1.1), and in file names of GRUB's and
// shim's packages.
var efiNames = map[string]struct{ removable, short, target string }{
	"amd64": {"BOOTX64.EFI", "x64", "x86_64-efi"},
	"arm64": {"BOOTAA64.EFI", "aa64", "arm64-efi"},
}

// efiFiles are the programs that firmware starts, by their place on the EFI
// system partition: shim, which Secure Boot knows, the GRUB that shim knows, and
// its key manager. They stand where firmware finds them by itself, and where the
// guest's own grub-install puts them.
func efiFiles(root *guest.Root, arch, vendor string) (map[string][]byte, error) {
	names, ok := efiNames[arch]
	if !ok {
		return nil, fmt.Errorf("architecture %s: no UEFI program is known", arch)
	}
	out := map[string][]byte{}
	manager := "/usr/lib/shim/mm" + names.short + ".efi"
	if root.Exists(manager + ".signed") { // Ubuntu's is signed, and isn't called so
		manager += ".signed"
	}
	for name, from := range map[string]string{
		"shim": "/usr/lib/shim/shim" + names.short + ".efi.signed",
		"grub": "/usr/lib/grub/" + names.target + "-signed/grub" + names.short + ".efi.signed",
		"mm":   manager,
	} {
		data, err := root.ReadFile(from, maxEFIBytes)
		if err != nil {
			return nil, err
		}
		for _, dir := range []string{"/EFI/BOOT/", "/EFI/" + vendor + "/"} {
			base := name + names.short + ".efi"
			if name == "shim" && dir == "/EFI/BOOT/" {
				base = names.removable
			}
			out[dir+base] = data
		}
	}
	return out, nil
}

// espConfig is the grub.cfg beside the signed GRUB, which looks for it in the
// folder of its vendor: it leads to the guest's own, by what GRUB calls its folder on the
// filesystem that has it.
func espConfig(uuid, folder string) []byte {
	return fmt.Appendf(nil, "search.fs_uuid %s root\nset prefix=($root)'%s'\nconfigfile $prefix/grub.cfg\n", uuid, folder)
}

// vendor is the folder that the guest's signed GRUB was built for.
func vendor(distribution string) string {
	if distribution == "ubuntu" {
		return "ubuntu"
	}
	return "debian"
}

// openESP opens the FAT32 filesystem of a device.
func openESP(f *os.File) (*fat32.FileSystem, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	return fat32.Read(file.New(f, false), size, 0, sector)
}

// ESPInUse reports whether something stands on the EFI system partition.
func ESPInUse(device string) (bool, error) {
	f, err := os.Open(device)
	if err != nil {
		return false, err
	}
	defer f.Close()
	esp, err := openESP(f)
	if err != nil {
		return false, fmt.Errorf("the EFI system partition: %w", err)
	}
	entries, err := esp.ReadDir(".")
	if err != nil {
		return false, fmt.Errorf("the EFI system partition: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() && strings.Trim(e.Name(), ".") != "" {
			return true, nil
		}
	}
	return false, nil
}

// fillESP writes the files onto the EFI system partition.
func fillESP(device string, files map[string][]byte) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	esp, err := openESP(f)
	if err != nil {
		return err
	}
	for name, data := range files {
		if err := esp.Mkdir(path.Dir(name)); err != nil {
			return fmt.Errorf("%s: %w", path.Dir(name), err)
		}
		w, err := esp.OpenFile(name, os.O_CREATE|os.O_RDWR)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		_, err = w.Write(data)
		if err := errors.Join(err, w.Close()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := mendParents(f); err != nil {
		return err
	}
	return f.Sync()
}

// mendParents sets the entry ".." in the folders of the root folder to 0, which
// stands for the root (Microsoft's FAT specification, 6.5). The library writes
// the root's cluster, which fsck.fat takes for damage.
func mendParents(f *os.File) error {
	const (
		reserved, sectorsPerFAT, rootCluster = 14, 36, 44 // in the boot sector
		entryBytes, attribute, folder        = 32, 11, 0x10
		high, low                            = 20, 26 // of an entry's first cluster
	)
	first := make([]byte, sector)
	if _, err := f.ReadAt(first, 0); err != nil {
		return err
	}
	data := int64(binary.LittleEndian.Uint16(first[reserved:])) + 2*int64(binary.LittleEndian.Uint32(first[sectorsPerFAT:]))
	place := func(cluster uint32) int64 { return (data + int64(cluster) - 2) * sector } // of one sector each
	entries := make([]byte, sector)
	if _, err := f.ReadAt(entries, place(binary.LittleEndian.Uint32(first[rootCluster:]))); err != nil {
		return err
	}
	for ; len(entries) > 0; entries = entries[entryBytes:] {
		if entries[attribute] != folder {
			continue
		}
		cluster := uint32(binary.LittleEndian.Uint16(entries[high:]))<<16 | uint32(binary.LittleEndian.Uint16(entries[low:]))
		for _, field := range []int64{high, low} {
			if _, err := f.WriteAt([]byte{0, 0}, place(cluster)+entryBytes+field); err != nil {
				return err
			}
		}
	}
	return nil
}

// RandomSerial is a serial number for a FAT filesystem.
func RandomSerial() (uint32, error) {
	var b [4]byte
	_, err := rand.Read(b[:])
	return binary.LittleEndian.Uint32(b[:]) | 1, err
}
