//go:build root

package filesystem

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// write writes to a device, and syncs.
func write(t *testing.T, dev string, offset int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(dev, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(data, offset); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, dev string, offset, n int64) []byte {
	t.Helper()
	f, err := os.Open(dev)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, offset); err != nil {
		t.Fatal(err)
	}
	return b
}

func sizeOf(t *testing.T, dev string) int64 {
	t.Helper()
	n, err := deviceSize(dev)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// md adds up a superblock's 32-bit words as the kernel does.
func mdChecksum(sb []byte) uint32 {
	sum := uint64(0)
	for ; len(sb) >= 4; sb = sb[4:] {
		sum += uint64(binary.LittleEndian.Uint32(sb))
	}
	return uint32(sum) + uint32(sum>>32)
}

// md090 writes an mdraid superblock of version 0.90 (linux/raid/md_p.h): a
// raid1 of this one disk. This machine's kernel needn't have md for that.
func md090(t *testing.T, dev string) {
	size := sizeOf(t, dev)
	sb := make([]byte, 4096)
	for word, value := range map[int]uint32{
		0: 0xa92b4efc, 2: 90, 5: 0x11111111, 7: 1, 8: uint32(size/1024) - 128, 9: 1, 10: 1, 13: 0x22222222, 14: 0x33333333, 15: 0x44444444,
		32: 1, 33: 1, 34: 1, 35: 1, 39: 0, 41: 1,
	} {
		binary.LittleEndian.PutUint32(sb[4*word:], value)
	}
	binary.LittleEndian.PutUint32(sb[4*38:], mdChecksum(sb))
	write(t, dev, size&^0xffff-0x10000, sb)
}

// md1 writes one of version 1.0 (at the end), 1.1 (at the start) or 1.2 (4 KiB
// behind it).
func md1(t *testing.T, dev string, minor int) {
	sectors := sizeOf(t, dev) / 512
	at := []int64{(sectors - 16) &^ 7, 0, 8}[minor]
	sb := make([]byte, 256+2)
	put32 := func(offset int, v uint32) { binary.LittleEndian.PutUint32(sb[offset:], v) }
	put64 := func(offset int, v int64) { binary.LittleEndian.PutUint64(sb[offset:], uint64(v)) }
	put32(0, 0xa92b4efc)
	put32(4, 1)
	copy(sb[16:], "0123456789abcdef")
	copy(sb[32:], "node:root")
	put32(72, 1) // raid1
	put64(80, sectors-4096)
	put32(92, 1)
	if minor != 0 {
		put64(128, 2048)
	}
	put64(136, sectors-4096)
	put64(144, at)
	put32(220, 1)
	sum := uint64(mdChecksum(sb[:256])) + uint64(binary.LittleEndian.Uint16(sb[256:]))
	put32(216, uint32(sum))
	write(t, dev, at*512, sb)
}

// isRecognised requires that blkid and wipefs see what the test wrote: a wipe of
// something nobody knew would prove nothing.
func isRecognised(t *testing.T, dev, want string) {
	t.Helper()
	if out, _ := run(t, "blkid", "-p", dev); !strings.Contains(out, `TYPE="`+want+`"`) {
		t.Fatalf("before: blkid doesn't see %s: %s", want, out)
	}
	if out := must(t, "wipefs", dev); out == "" {
		t.Fatal("before: wipefs sees nothing")
	}
}

// isBlank requires what the wipe promises.
func isBlank(t *testing.T, dev string) {
	t.Helper()
	if out := must(t, "wipefs", "--no-act", dev); out != "" {
		t.Errorf("wipefs -n: %s", out)
	}
	if out, status := run(t, "blkid", "-p", dev); status != 2 || out != "" {
		t.Errorf("blkid -p: exit %d: %s", status, out)
	}
	size := sizeOf(t, dev)
	n := min(size, wipeEndBytes)
	for _, offset := range []int64{0, size - n} {
		if !bytes.Equal(read(t, dev, offset, n), make([]byte, n)) {
			t.Errorf("the MiB at %d isn't zero", offset)
		}
	}
}

func putGPT(t *testing.T, dev string) {
	t.Helper()
	must(t, "sh", "-c", "echo ,,L | sfdisk -q --no-reread --no-tell-kernel --label gpt "+dev)
}

var leftovers = map[string]struct {
	recognised string // the TYPE or PTTYPE that blkid shows
	put        func(t *testing.T, dev string)
}{
	"gpt": {"gpt", func(t *testing.T, dev string) { putGPT(t, dev) }},
	"msdos": {"dos", func(t *testing.T, dev string) {
		must(t, "sh", "-c", "echo 2048,,L,* | sfdisk -q --no-reread --no-tell-kernel --label dos "+dev)
	}},
	"lvm2":       {"LVM2_member", func(t *testing.T, dev string) { must(t, "pvcreate", "-ff", "-y", "--metadatacopies", "2", dev) }},
	"mdraid0.90": {"linux_raid_member", md090},
	"mdraid1.0":  {"linux_raid_member", func(t *testing.T, dev string) { md1(t, dev, 0) }},
	"mdraid1.1":  {"linux_raid_member", func(t *testing.T, dev string) { md1(t, dev, 1) }},
	"mdraid1.2":  {"linux_raid_member", func(t *testing.T, dev string) { md1(t, dev, 2) }},
	"ext4":       {"ext4", func(t *testing.T, dev string) { must(t, "mke2fs", "-q", "-F", "-t", "ext4", dev) }},
	"xfs":        {"xfs", func(t *testing.T, dev string) { must(t, "mkfs.xfs", "-q", "-f", dev) }},
	"btrfs":      {"btrfs", func(t *testing.T, dev string) { must(t, "mkfs.btrfs", "-q", "-f", dev) }},
	"vfat":       {"vfat", func(t *testing.T, dev string) { must(t, "mkfs.vfat", "-I", dev) }},
	"swap":       {"swap", func(t *testing.T, dev string) { must(t, "mkswap", "-q", dev) }},
}

func TestWipeErasesEverySignature(t *testing.T) {
	for name, l := range leftovers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dev := loop(t, 400*miB)
			l.put(t, dev)
			isRecognised(t, dev, l.recognised)
			if strings.HasPrefix(name, "mdraid") {
				if out := must(t, "mdadm", "--examine", dev); !strings.Contains(out, "- correct") {
					t.Errorf("the superblock's checksum is wrong: %s", out)
				}
			}
			if err := Wipe(t.Context(), dev); err != nil {
				t.Fatal(err)
			}
			isBlank(t, dev)
			if out, status := run(t, "mdadm", "--examine", dev); status == 0 {
				t.Errorf("mdadm sees %s", out)
			}
		})
	}
}

func TestWipeErasesThingsOnTopOfEachOther(t *testing.T) {
	dev := loop(t, 400*miB)
	for _, name := range []string{"btrfs", "ext4", "mdraid0.90", "gpt", "mdraid1.0"} {
		leftovers[name].put(t, dev)
	}
	isRecognised(t, dev, "linux_raid_member")
	if err := Wipe(t.Context(), dev); err != nil {
		t.Fatal(err)
	}
	isBlank(t, dev)
	if info, err := Probe(t.Context(), dev); err != nil || info != (Info{}) {
		t.Errorf("probe after: %+v, %v", info, err)
	}
}

func TestProbeNamesWhatMakesADiskAmbivalent(t *testing.T) {
	dev, other := loop(t, 400*miB), loop(t, 400*miB)
	leftovers["ext4"].put(t, dev)
	leftovers["btrfs"].put(t, other)
	write(t, dev, 64<<10, read(t, other, 64<<10, 4096))
	_, err := Probe(t.Context(), dev)
	for _, want := range []string{dev, "ambiguous", "ext4 at 0x438", "btrfs at 0x10040"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v doesn't say %q", err, want)
		}
	}
	if ok, _, err := IsBlankOrSwap(t.Context(), dev); ok || err == nil {
		t.Errorf("may become swap: %v, %v", ok, err)
	}
	if err := Wipe(t.Context(), dev); err != nil {
		t.Fatal(err)
	}
	isBlank(t, dev)
}

// TestWipeErasesByWipefsWhatIsElsewhere: a volume of VMFS begins at 1 MiB, which nothing but wipefs
// knows here.
func TestWipeErasesByWipefsWhatIsElsewhere(t *testing.T) {
	defer func(places []int64) { wipeCopies = places }(wipeCopies)
	wipeCopies = nil
	dev := loop(t, 64*miB)
	write(t, dev, 1<<20, []byte{0x0d, 0xd0, 0x01, 0xc0})
	isRecognised(t, dev, "VMFS_volume_member")
	if err := Wipe(t.Context(), dev); err != nil {
		t.Fatal(err)
	}
	isBlank(t, dev)
}

func TestWipeErasesTheMirrorsOfBtrfs(t *testing.T) {
	dev := loop(t, 257*giB)
	must(t, "mkfs.btrfs", "-q", "-f", dev)
	places := []int64{64 << 10, 64 << 20, 256 << 30}
	magic := []byte("_BHRfS_M")
	for _, at := range places {
		if !bytes.Contains(read(t, dev, at, 4096), magic) {
			t.Fatalf("before: no superblock at %d", at)
		}
	}
	if err := Wipe(t.Context(), dev); err != nil {
		t.Fatal(err)
	}
	isBlank(t, dev)
	for _, at := range places {
		if bytes.Contains(read(t, dev, at, 4096), magic) {
			t.Errorf("the superblock at %d is left", at)
		}
	}
	if out, status := run(t, "btrfs", "rescue", "super-recover", "-y", dev); status == 0 || strings.Contains(out, "Recovered") {
		t.Errorf("btrfs recovers it: %s", out)
	}
}

func TestWipeErasesAGPTMadeOn4096ByteSectors(t *testing.T) {
	path := sparseFile(t, 64*miB)
	dev := strings.TrimSpace(must(t, "losetup", "--find", "--show", "--sector-size", "4096", path))
	putGPT(t, dev)
	must(t, "losetup", "--detach", dev)
	for _, at := range []int64{4096, 64*miB - 4096} {
		if !bytes.HasPrefix(read(t, path, at, 8), []byte("EFI PART")) {
			t.Fatalf("before: no header at %d", at)
		}
	}
	if err := Wipe(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	isBlank(t, path)
}

// What is at the end of the partition isn't at the end of the disk.
func TestWipeOfAPartitionErasesWhatLiesAtItsEnd(t *testing.T) {
	dev := loop(t, 100*miB)
	node := partition(t, dev, 2048, 50*2048)
	for _, name := range []string{"mdraid1.0", "mdraid0.90", "lvm2"} {
		leftovers[name].put(t, node)
		isRecognised(t, node, leftovers[name].recognised)
		if err := Wipe(t.Context(), node); err != nil {
			t.Fatal(err)
		}
		isBlank(t, node)
	}
	write(t, dev, 512, []byte("not the partition's"))
	if err := Wipe(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(read(t, dev, 512, 512), []byte("not the partition's")) {
		t.Error("the wipe of the partition wrote outside it")
	}
}

func TestWipeWorksOnAClaimedAndLockedDisk(t *testing.T) {
	dev := loop(t, 64*miB)
	must(t, "mkfs.vfat", "-I", dev)
	f, err := os.OpenFile(dev, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := Wipe(t.Context(), dev); err != nil {
		t.Fatal(err)
	}
	isBlank(t, dev)
}

func TestWipeKeepsToDisksOfAnySize(t *testing.T) {
	for _, size := range []int64{512, 4096, 64 << 10, miB - 512, miB, miB + 1, 2*miB - 1, 3*miB + 511, 70 * miB} {
		path := sparseFile(t, size)
		write(t, path, 0, bytes.Repeat([]byte{0xa5}, int(min(size, 4*miB))))
		if err := Wipe(t.Context(), path); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		isBlank(t, path)
		if got := sizeOf(t, path); got != size {
			t.Errorf("%d bytes became %d", size, got)
		}
	}
}

func TestWipeNamesADeviceThatIsNotThere(t *testing.T) {
	if err := Wipe(t.Context(), "/dev/no-such-disk"); err == nil || !strings.Contains(err.Error(), "/dev/no-such-disk") {
		t.Error(err)
	}
	if _, err := os.Stat("/dev/no-such-disk"); err == nil {
		t.Error("it was made")
	}
	if _, err := Probe(t.Context(), "/dev/no-such-disk"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("probe: %v", err)
	}
}
