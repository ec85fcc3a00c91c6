//go:build root

package filesystem

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"instance-debootstrap/pkg/command"
)

// imageOf makes an image with a small tree in it and returns it, its file, and
// what a copy needs of it.
func imageOf(t *testing.T, m Image) (file string, needed []Extent, journal int64) {
	t.Helper()
	ctx := context.Background()
	file = sparseFile(t, m.SizeBytes)
	dev := strings.TrimSpace(must(t, "losetup", "--show", "-f", file))
	defer must(t, "losetup", "-d", dev)
	if err := m.Make(ctx, dev); err != nil {
		t.Fatal(err)
	}
	dir := mountTemp(t, dev, m.Type)
	for i := range 300 {
		sub := filepath.Join(dir, fmt.Sprint("folder", i%17))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprint("file", i)), bytes.Repeat([]byte{byte(i)}, i*1000), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := Unmount(dir); err != nil {
		t.Fatal(err)
	}
	if err := RepairForeign(ctx, dev, m.Type); err != nil {
		t.Fatal(err)
	}
	needed, journal, err := ImageExtents(ctx, dev, m.Type)
	if err != nil {
		t.Fatal(err)
	}
	return file, needed, journal
}

// putImage copies what is needed to a device.
func putImage(t *testing.T, file string, needed []Extent, dev string) {
	t.Helper()
	from, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	for _, e := range needed {
		if _, err := io.Copy(io.NewOffsetWriter(to, e.Offset), io.NewSectionReader(from, e.Offset, e.Bytes)); err != nil {
			t.Fatal(err)
		}
	}
}

// soil fills a device with what no filesystem may take for its own: its first 700
// MiB, and a MiB at the start of each of the first groups behind them.
func soil(t *testing.T, dev string, sizeBytes int64) {
	t.Helper()
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	junk := bytes.Repeat([]byte("\xa5\x81garbage"), 1<<20/9)
	for at := int64(0); at+int64(len(junk)) <= sizeBytes && at < 16*giB; {
		if _, err := f.WriteAt(junk, at); err != nil {
			t.Fatal(err)
		}
		if at += int64(len(junk)); at > 700*miB {
			at = (at/(128*miB) + 1) * 128 * miB
		}
	}
}

// headers returns dumpe2fs's numbers.
func headers(t *testing.T, dev string) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	for line := range strings.Lines(must(t, "dumpe2fs", "-h", dev)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), "M"), 10, 64); err == nil {
			out[name] = n
		}
	}
	return out
}

func TestACopiedImageIsACleanFilesystemOfAnySizeOnAnyDisk(t *testing.T) {
	for _, c := range []struct {
		kind  Type
		suite string
		sizes []int64
	}{
		{Ext4, "bookworm", []int64{511 * miB, 512 * miB, 513*miB - 512, 2 * giB, 8*giB - 512, 100 * giB, 1024 * giB}},
		{Ext4, "focal", []int64{512 * miB, 8 * giB, 100 * giB}},
		{Ext4, "jessie", []int64{513 * miB, 8 * giB, 100 * giB}},
		{Ext3, "bookworm", []int64{511 * miB, 2 * giB, 8 * giB}},
		{Ext2, "bookworm", []int64{511 * miB, 2 * giB, 8 * giB}},
	} {
		for _, size := range c.sizes {
			t.Run(fmt.Sprintf("%s/%s/%dMiB", c.kind, c.suite, size/miB), func(t *testing.T) {
				m, ok := ImageFor(c.kind, c.suite, size, 50*miB, 400)
				if !ok || m.SizeBytes > size {
					t.Fatalf("image %+v, %v", m, ok)
				}
				file, needed, journal := imageOf(t, m)
				dev := loop(t, size)
				soil(t, dev, size)
				putImage(t, file, needed, dev)
				uuid := NewUUID()
				if err := m.Finalize(context.Background(), dev, journal, uuid); err != nil {
					t.Fatal(err)
				}
				must(t, "e2fsck", "-fn", dev)
				if info, err := Probe(t.Context(), dev); err != nil || info.Type != string(c.kind) || info.UUID != uuid {
					t.Errorf("blkid: %+v, %v; want %s %s", info, err, c.kind, uuid)
				}
				compareWithFresh(t, m, dev, size)
				dir := mountTemp(t, dev, c.kind)
				must(t, "sh", "-c", "cd "+dir+" && rm -r folder1 && for i in $(seq 2000); do echo $i > new-$i; done && head -c 20000000 /dev/urandom > big && sync")
				if err := Unmount(dir); err != nil {
					t.Fatal(err)
				}
				must(t, "e2fsck", "-fn", dev)
			})
		}
	}
}

// compareWithFresh holds a settled copy against what Make makes on such a device.
func compareWithFresh(t *testing.T, m Image, dev string, size int64) {
	t.Helper()
	fresh := loop(t, size)
	if _, err := Make(context.Background(), Spec{Type: m.Type, Suite: m.Suite, Device: fresh}); err != nil {
		t.Fatal(err)
	}
	got, want := headers(t, dev), headers(t, fresh)
	for name, off := range map[string]float64{"Block count": 0.002, "Reserved block count": 0.02, "Inode count": 0.5, "Free blocks": 0.1, "Total journal size": 0.5} {
		if g, w := float64(got[name]), float64(want[name]); g < w*(1-off)-1 || g > w*(1+2*off)+1 {
			t.Errorf("%s is %.0f, and %.0f on a new filesystem", name, g, w)
		}
	}
	if got, want := strings.Join(extList(t, dev), " "), strings.Join(extList(t, fresh), " "); got != want {
		t.Errorf("features %s, not %s", got, want)
	}
}

// TestNothingOfAnEarlierCopysJournalIsReplayed puts a copy on a disk where another
// copy of the same image was used, and then has it crash.
func TestNothingOfAnEarlierCopysJournalIsReplayed(t *testing.T) {
	for _, c := range []struct {
		kind  Type
		suite string
	}{{Ext4, "bookworm"}, {Ext4, "focal"}, {Ext4, "jessie"}, {Ext3, "bookworm"}} {
		t.Run(string(c.kind)+"/"+c.suite, func(t *testing.T) {
			m, _ := ImageFor(c.kind, c.suite, 600*miB, 50*miB, 400)
			file, needed, journal := imageOf(t, m)
			backing := sparseFile(t, 600*miB)
			dev := strings.TrimSpace(must(t, "losetup", "--show", "-f", backing))
			defer command.Run(context.Background(), command.Cmd{Args: []string{"losetup", "-d", dev}})
			for _, life := range []string{"old", "new"} {
				putImage(t, file, needed, dev)
				if err := m.Finalize(context.Background(), dev, journal, NewUUID()); err != nil {
					t.Fatal(err)
				}
				dir := mountTemp(t, dev, c.kind)
				loops := map[string]int{"old": 200, "new": 3}[life]
				must(t, "sh", "-c", fmt.Sprintf("cd %s && for i in $(seq %d); do mkdir %s-$i; sync -f .; done", dir, loops, life))
				crashed := filepath.Join(t.TempDir(), "crashed")
				must(t, "cp", "--sparse=always", dev, crashed)
				if err := Unmount(dir); err != nil {
					t.Fatal(err)
				}
				if life == "old" {
					continue
				}
				if out, status := run(t, "e2fsck", "-fy", "-E", "journal_only", crashed); status > 1 {
					t.Fatalf("replay: exit %d\n%s", status, out)
				}
				must(t, "e2fsck", "-fn", crashed)
				if got := must(t, "debugfs", "-R", "ls -p /", crashed); strings.Contains(got, "/old-") || !strings.Contains(got, "/new-3/") {
					t.Errorf("after a crash the folder has:\n%s", got)
				}
			}
		})
	}
}

func TestOneImageServesAllDisksOfItsClass(t *testing.T) {
	kinds := map[string]bool{}
	for _, size := range []int64{511 * miB, 512 * miB, 900 * miB, giB, 2047 * miB, 4031 * miB, 8191 * miB, 8 * giB, 20 * giB, giB << 10, 4 * giB << 10} {
		m, ok := ImageFor(Ext4, "trixie", size, 250*miB, 9000)
		if !ok || m.SizeBytes > size {
			t.Errorf("%d MiB: %+v, %v", size/miB, m, ok)
		}
		kinds[m.Kind()] = true
	}
	if len(kinds) != 5 {
		t.Errorf("these sizes have %d kinds of images, not 5: %v", len(kinds), kinds)
	}
	for what, c := range map[string]struct {
		kind          Type
		size, content int64
	}{
		"xfs": {XFS, 8 * giB, miB}, "btrfs": {Btrfs, 8 * giB, miB}, "a tree that fills it": {Ext4, 600 * miB, 560 * miB}, "more than 4 TiB": {Ext4, 4*giB<<10 + 4096, miB},
	} {
		if m, ok := ImageFor(c.kind, "trixie", c.size, c.content, 1000); ok {
			t.Errorf("%s: %+v", what, m)
		}
	}
}
