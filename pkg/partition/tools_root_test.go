//go:build root

package partition

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/command"
)

func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "needs root")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// tool runs a tool that must succeed, and returns all it printed.
func tool(t *testing.T, args ...string) string {
	t.Helper()
	path, err := command.Look(args[0])
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

func sparseFile(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

func writeDevice(t *testing.T, path string, flags int, l Layout) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := l.Write(f); err != nil {
		t.Fatal(err)
	}
}

type sfdiskTable struct {
	PartitionTable struct {
		Label, ID  string
		SectorSize int
		Partitions []struct {
			Start, Size      int64
			Type, UUID, Name string
			Bootable         bool
		}
	}
}

// checkBySfdisk holds the table that sfdisk reads against the layout.
func checkBySfdisk(t *testing.T, path string, l Layout) {
	t.Helper()
	if out := tool(t, "sfdisk", "--verify", path); !strings.Contains(out, "No errors detected") {
		t.Errorf("sfdisk --verify: %s", out)
	}
	var got sfdiskTable
	// On stderr sfdisk advises gpt for a disk of 2 TiB.
	out, err := command.Output(t.Context(), "sfdisk", "--json", path)
	if err == nil {
		err = json.Unmarshal([]byte(out), &got)
	}
	if err != nil {
		t.Fatal(err)
	}
	table := got.PartitionTable
	label := map[Style]string{StyleMSDOS: "dos", StyleGPT: "gpt"}[l.Style]
	id := strings.ToLower(strings.TrimPrefix(table.ID, "0x"))
	if table.Label != label || id != l.DiskID || len(table.Partitions) != 1 || table.SectorSize != 512 {
		t.Fatalf("sfdisk reads %+v\nwant %+v", table, l)
	}
	p, want := table.Partitions[0], l.Partitions[0]
	if p.Start != want.StartSector || p.Size != want.Sectors || p.Type != want.Type || p.Bootable != want.Bootable || p.Name != want.Name ||
		(l.Style == StyleGPT && strings.ToLower(p.UUID) != want.UUID) {
		t.Errorf("sfdisk reads %+v\nwant %+v", p, want)
	}
}

// checkByOthers asks sgdisk and blkid.
func checkByOthers(t *testing.T, path string, l Layout) {
	t.Helper()
	if l.Style == StyleGPT {
		out := tool(t, "sgdisk", "-v", path)
		if l.SizeBytes%512 != 0 { // sgdisk warns of this, which is the admin's file, not our table
			out = strings.ReplaceAll(out, "Warning: File size", "")
		}
		aligned := l.Partitions[0].StartSector%mibSectors == 0
		if !strings.Contains(out, "No problems found") || strings.Contains(out, "Warning") || aligned && strings.Contains(out, "Caution") {
			t.Errorf("sgdisk -v: %s", out)
		}
	}
	kind := map[Style]string{StyleMSDOS: "dos", StyleGPT: "gpt"}[l.Style]
	want := fmt.Sprintf("PTUUID=%s\nPTTYPE=%s\n", l.DiskID, kind)
	if out := tool(t, "blkid", "-p", "-o", "export", path); !strings.HasSuffix(out, want) {
		t.Errorf("blkid -p: %s\nwant %s", out, want)
	}
}

func TestTablesPassSfdiskSgdiskAndBlkid(t *testing.T) {
	for _, size := range []int64{
		511 * mibBytes,
		511*mibBytes + 512,
		2048*mibBytes - 512*7,
		10*1024*mibBytes + 4096 + 100, // a file that isn't whole sectors
		tib,
		2*tib - 512,
		2 * tib,
		2*tib + mibBytes,
		3 * tib,
	} {
		for _, style := range []Style{StyleMSDOS, StyleGPT} {
			if style == StyleMSDOS && size > 2*tib {
				continue
			}
			for _, alignment := range []int64{2048, 1, 63} {
				t.Run(fmt.Sprintf("%s/%d/%d", style, size, alignment), func(t *testing.T) {
					path := sparseFile(t, size)
					l, err := Plan(style, size, alignment, rand.Reader)
					if err != nil {
						t.Fatal(err)
					}
					writeDevice(t, path, 0, l)
					checkBySfdisk(t, path, l)
					checkByOthers(t, path, l)
				})
			}
		}
	}
}

// loop attaches a file with the given logical sector size.
func loop(t *testing.T, path string, sectorSize int) string {
	t.Helper()
	dev := strings.TrimSpace(tool(t, "losetup", "--find", "--show", "--sector-size", fmt.Sprint(sectorSize), path))
	t.Cleanup(func() { tool(t, "losetup", "--detach", dev) })
	return dev
}

func TestTablesCountIn512ByteSectorsOnDisksOfAnySectorSize(t *testing.T) {
	for _, sectorSize := range []int{512, 4096} {
		for _, flags := range []int{0, unix.O_DIRECT, unix.O_DIRECT | unix.O_EXCL} {
			for _, style := range []Style{StyleMSDOS, StyleGPT} {
				t.Run(fmt.Sprintf("%d/%#x/%s", sectorSize, flags, style), func(t *testing.T) {
					const size = 600 * mibBytes
					path := sparseFile(t, size)
					dev := loop(t, path, sectorSize)
					l, err := Plan(style, size, 2048, rand.Reader)
					if err != nil {
						t.Fatal(err)
					}
					writeDevice(t, dev, flags, l)
					checkBySfdisk(t, path, l)
					checkByOthers(t, path, l)
				})
			}
		}
	}
}

func TestMSDOSOverAStaleGPTIsMSDOSForEveryTool(t *testing.T) {
	const size = 600 * mibBytes
	path := sparseFile(t, size)
	for _, sectorSize := range []int{512, 4096} {
		dev := loop(t, path, sectorSize)
		tool(t, "sgdisk", "-n", "1:0:0", dev)
	}
	l, err := Plan(StyleMSDOS, size, 2048, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	writeDevice(t, path, 0, l)
	checkBySfdisk(t, path, l)
	checkByOthers(t, path, l)
	if out := tool(t, "wipefs", "--noheadings", "--output", "TYPE", path); strings.TrimSpace(out) != "dos" {
		t.Errorf("wipefs sees %q", out)
	}
}

func TestReadUnderstandsTablesOfOthers(t *testing.T) {
	const size = 600 * mibBytes
	path := sparseFile(t, size)
	tool(t, "sgdisk", "-n", "1:2048:+100M", "-n", "3:0:0", "-t", "3:8200", "-c", "3:swäp", path)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := Read(f, size)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Partitions) != 2 || l.Partitions[0].Sectors != 204800 || l.Partitions[1].Number != 3 || l.Partitions[1].Name != "swäp" {
		t.Errorf("%+v", l)
	}
	for _, junk := range []string{"mkfs.vfat", "mke2fs"} {
		path := sparseFile(t, size)
		tool(t, junk, path)
		g, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if l, err := Read(g, size); err != nil || l.Style != StyleNone {
			t.Errorf("a disk made by %s: %+v, %v", junk, l, err)
		}
		g.Close()
	}
}
