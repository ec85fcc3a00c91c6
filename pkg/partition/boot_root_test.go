//go:build root

package partition

import (
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Other tools read what firmware starts from, and the root is still number 1 and
// the last on the disk.
func TestPartitionsForFirmware(t *testing.T) {
	for _, c := range []struct {
		boot Boot
		want string // sfdisk's: number, start, size in sectors, type
	}{
		{Boot{BIOS: true, UEFI: true}, "14 2048 2048 " + typeBIOSBoot + "; 15 4096 126976 " + typeESP + "; 1 131072 917504 " + typeLinuxFilesystem},
		{Boot{BIOS: true}, "14 2048 2048 " + typeBIOSBoot + "; 1 4096 1044480 " + typeLinuxFilesystem},
		{Boot{UEFI: true}, "15 2048 126976 " + typeESP + "; 1 129024 919552 " + typeLinuxFilesystem},
	} {
		path := filepath.Join(t.TempDir(), "disk")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(MinDiskBytes + 2<<20); err != nil {
			t.Fatal(err)
		}
		l, err := PlanBoot(StyleGPT, MinDiskBytes+2<<20, 2048, c.boot, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Write(f); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("sh", "-c", `sfdisk --verify "$0" >&2 && sgdisk --verify "$0" | grep -q "No problems found" &&
			sfdisk --json "$0" | jq -r '[.partitiontable.partitions | sort_by(.start)[] | "\(.node | capture("disk(?<n>[0-9]+)$").n) \(.start) \(.size) \(.type)"] | join("; ")'`, path).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || !strings.HasSuffix(got, c.want) {
			t.Errorf("%+v: %v\n%s\nwant %s", c.boot, err, got, c.want)
		}
		read, err := Read(f, MinDiskBytes+2<<20)
		if err != nil {
			t.Fatal(err)
		}
		root, err := read.RootPartition()
		if _, esp := read.ESP(); err != nil || root.Number != 1 || esp != c.boot.UEFI {
			t.Errorf("%+v: read again: %+v, %v", c.boot, root, err)
		}
		if _, bios := read.BIOSBoot(); bios != c.boot.BIOS {
			t.Errorf("%+v: BIOS-boot %v", c.boot, bios)
		}
	}
}

func TestOtherStylesHaveNoPartitionsForFirmware(t *testing.T) {
	for style, count := range map[Style]int{StyleNone: 0, StyleMSDOS: 1} {
		l, err := PlanBoot(style, 1<<30, 2048, Boot{BIOS: true, UEFI: true}, rand.Reader)
		if err != nil || len(l.Partitions) != count {
			t.Errorf("%s: %v, %v", style, l.Partitions, err)
		}
	}
}
