package install

import (
	"crypto/rand"
	"slices"
	"testing"

	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/settings"
)

// FuzzLayout holds what comes of any file of LAYOUT against the table that is written: each
// line has its partition, none lies over another, and the root and the folders are found again.
func FuzzLayout(f *testing.F) {
	f.Add("0 512M ext4 /boot\n0 1G swap\n0 4G xfs /var\n0 1G ext4 /var/log\n0 rest ext4 /\n1 rest btrfs /srv\n", int64(10240))
	f.Add("0 rest ext4 /", int64(511))
	f.Add("# x\n0 1G ext2 / # y\n0 1T ext3 /home\n", int64(1<<22))
	f.Fuzz(func(t *testing.T, text string, mib int64) {
		lines, err := settings.ParseLayout("f", text)
		if err != nil || mib < 0 || mib > 1<<30 {
			return
		}
		c := Choice{Order: &Order{Request: &osapi.Request{}, parts: lines}, Arch: "amd64"}
		for disk := range 16 {
			lines, parts := c.partsOn(disk)
			if len(lines) == 0 {
				continue
			}
			l, err := partition.PlanParts(mib<<20, 2048, partition.Boot{BIOS: true, UEFI: disk == 0}, parts, rand.Reader)
			if err != nil {
				continue
			}
			holds(t, l, lines, parts)
		}
	})
}

func holds(t *testing.T, l partition.Layout, lines []settings.LayoutLine, parts []partition.Part) {
	end, folders := int64(0), 0
	for _, p := range l.Partitions {
		if p.StartSector < end || p.Sectors < 1 {
			t.Fatalf("%+v lies over the one before, or is none", p)
		}
		end = p.StartSector + p.Sectors
	}
	if end > l.SizeBytes/partition.SectorSize-33 {
		t.Fatalf("the last ends at %d on a disk of %d bytes", end, l.SizeBytes)
	}
	for i, part := range parts {
		p := numbered(l, part.Number)
		if lines[i].Folder != p.Folder() || lines[i].Bytes != 0 && lines[i].Bytes != p.SizeBytes() {
			t.Fatalf("%+v became %+v", lines[i], p)
		}
		if lines[i].Folder != "" && lines[i].Folder != "/" {
			folders++
		}
	}
	if slices.ContainsFunc(lines, isRoot) {
		if root, err := l.GuestRoot(); err != nil || root.Number != 1 || len(lines) > 1 && len(l.Beside()) != folders {
			t.Fatalf("%+v, %v, %d folders", root, err, len(l.Beside()))
		}
	}
}
