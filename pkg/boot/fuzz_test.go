package boot

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/partition"
)

// FuzzModules: whatever a tree's lists of modules and its lister say, no more is
// kept than was said, and what a kernel lacks is what its lists name.
func FuzzModules(f *testing.F) {
	const dep = "kernel/fs/xfs/xfs.ko: kernel/lib/libcrc32c.ko\nkernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko\nkernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/fs/mbcache.ko.xz\nkernel/fs/jbd2/jbd2.ko.xz:\n"
	f.Add("kernel/drivers/nvme/host/nvme-core.ko\nkernel/drivers/virtio/virtio_pci.ko\n", dep, "usr/lib/modules/6.1.0-50-cloud-amd64/kernel/fs/ext4/ext4.ko\nusr/lib/modules/6.1.0-50-cloud-amd64/kernel/fs/jbd2/jbd2.ko\n")
	f.Add("", dep, "usr/bin/sh\nusr/lib/modules/6.1.0-50-cloud-amd64/kernel/fs/.ko\n-rw-r--r--   1 root     root       345678 Jan  1 00:00 usr/lib/modules/7.2.13+deb14-amd64/kernel/drivers/block/xen-blkfront.ko.xz\n")
	f.Fuzz(func(t *testing.T, builtin, dep, listing string) {
		m := modules{kernel: "9.9", builtin: map[string]bool{}, needs: map[string][]string{}, inside: map[string]bool{}}
		m.readBuiltin(builtin)
		m.readDep(dep)
		for line := range strings.Lines(listing) {
			m.note(strings.TrimRight(line, "\n"))
		}
		if n := strings.Count(listing, ".ko"); len(m.inside) > n || len(m.builtin) > strings.Count(builtin, "\n")+1 {
			t.Errorf("%d modules inside of %q", len(m.inside), listing)
		}
		for name := range m.inside {
			if name == "" || name == "." || strings.ContainsAny(name, "/\n- ") {
				t.Errorf("a module %q", name)
			}
		}
		for _, l := range m.lacks("ext4", "virtio") {
			if len(l.Modules) == 0 || l.String() == "" {
				t.Errorf("%+v", l)
			}
			for _, name := range l.Modules {
				if m.inside[name] || m.builtin[name] {
					t.Errorf("%s is there, and is lacking: %+v", name, l)
				}
			}
			if l.Concerns(filesystem.XFS, "virtio") && l.Root != "xfs" && l.Bus != "virtio" {
				t.Errorf("%+v concerns xfs by virtio", l)
			}
		}
	})
}

// grubImages are a boot record and a core image with the fields by which GRUB's own
// are known (include/grub/i386/pc/boot.h, include/grub/offsets.h).
func grubImages(sectors int) (record, core []byte) {
	record, core = make([]byte, sector), make([]byte, sectors*sector)
	binary.LittleEndian.PutUint64(record[kernelSector:], 1)
	copy(record[driveCheck:], []byte{0xeb, 0x05})
	binary.LittleEndian.PutUint64(core[listStart:], 2)
	binary.LittleEndian.PutUint16(core[listSectors:], uint16(sectors-1))
	binary.LittleEndian.PutUint16(core[listSegment:], restSegment)
	return record, core
}

// FuzzPlace: whatever a guest's GRUB is, it is refused, or nothing of it changes but
// the fields that say where it lies, which is in the room.
func FuzzPlace(f *testing.F) {
	for _, n := range []int{2, 138} {
		record, core := grubImages(n)
		f.Add(record[:driveCheck+2], core[listStart-12:sector], int64(n), int64(1), int64(2047))
	}
	f.Fuzz(func(t *testing.T, code, list []byte, sectors, start, have int64) {
		if sectors < 0 || sectors > 300 || start < 1 || have < 0 {
			return
		}
		record, core := make([]byte, sector), make([]byte, sectors*sector)
		copy(record, code)
		if sectors > 0 {
			copy(core[listStart-12:sector], list)
		}
		wasRecord, wasCore := slices.Clone(record), slices.Clone(core)
		if (room{start, have}).place(record, core) != nil {
			if !bytes.Equal(record, wasRecord) || !bytes.Equal(core, wasCore) {
				t.Error("it is refused and changed")
			}
			return
		}
		if sectors > have {
			t.Errorf("%d sectors in a room of %d", sectors, have)
		}
		if binary.LittleEndian.Uint64(record[kernelSector:]) != uint64(start) || binary.LittleEndian.Uint64(core[listStart:]) != uint64(start)+1 {
			t.Errorf("it is placed at %x", record[kernelSector:kernelSector+8])
		}
		copy(record[kernelSector:kernelSector+8], wasRecord[kernelSector:])
		copy(record[driveCheck:driveCheck+2], wasRecord[driveCheck:])
		copy(core[listStart:listStart+8], wasCore[listStart:])
		if !bytes.Equal(record, wasRecord) || !bytes.Equal(core, wasCore) {
			t.Error("other bytes changed")
		}
	})
}

// FuzzLoader: any boot record has a name out of six, and any serial number of FAT
// comes back from its text.
func FuzzLoader(f *testing.F) {
	record, _ := grubImages(2)
	copy(record[0x180:], "GRUB \x00Geom\x00Hard Disk\x00Read\x00 Error")
	f.Add(record, true, "AB12-CD34")
	f.Add([]byte{}, false, "+B12--D34")
	f.Fuzz(func(t *testing.T, sector0 []byte, esp bool, serial string) {
		l := partition.Layout{Style: partition.StyleGPT}
		if esp {
			l.Partitions = append(l.Partitions, partition.Partition{Type: strings.ToLower(typeESP), Sectors: int64(len(sector0)) / 512})
		}
		name, _, err := Loader(bytes.NewReader(sector0), l)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains([]string{"", "unknown", "grub-bios", "grub-efi", "grub-bios+efi", "efi"}, name) || strings.HasSuffix(name, "efi") && !esp {
			t.Errorf("%q", name)
		}
		if n, ok := ParseFATUUID(serial); ok && FATUUID(n) != strings.ToUpper(serial) {
			t.Errorf("%q is %s", serial, FATUUID(n))
		}
	})
}
