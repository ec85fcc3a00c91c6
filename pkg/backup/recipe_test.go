package backup

import (
	"slices"
	"strings"
	"testing"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
	"instance-debootstrap/pkg/transport"
)

const mib = 1 << 20

// recipeOf is the recipe of an import of a backup to a disk of so many MiB, as the names of
// the steps that are needed.
func recipeOf(t *testing.T, kind transport.Kind, m transport.Manifest, diskMiB int64, importUUID string) string {
	t.Helper()
	req := &osapi.Request{InstanceName: "web1", IODisk: m.Disk.Index}
	set := &settings.Settings{Filesystem: "ext4", PartitionStyle: "msdos", ImportUUID: importUUID}
	disk := &target{Disk: &guestdisk.Disk{Disk: &blockdev.Disk{Path: "/dev/vg0/web1", SizeBytes: diskMiB * mib}}}
	r := newRestore(&session.Session{}, req, set, disk, &transport.Stream{Kind: kind, Manifest: m})
	steps := r.steps(func(string) {})
	if !strings.Contains(steps[len(steps)-1].Name, "commit") {
		t.Errorf("the last step is %q", steps[len(steps)-1].Name)
	}
	var names []string
	for _, s := range steps {
		if s.When != nil {
			if s.Name == "make the EFI system partition" || s.Name == "install the boot loader" { // what the files say decides
				continue
			}
			if needed, _ := s.When(t.Context()); !needed {
				continue
			}
		}
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}

func TestWhatABackupHoldsDecidesHowItIsImported(t *testing.T) {
	disk := transport.Disk{SizeBytes: 1000 * mib, Style: "msdos"}
	ext4 := &transport.Filesystem{Type: "ext4", UUID: "0d5bcd04-2a0f-4b3e-9c52-1f2a5e3a7a10", Partition: 1}
	const (
		files  = "check that it fits, wipe the disk, make the filesystem, unpack the files, update fstab and UUIDs, unmount and sync, set the filesystem's UUID, write the partition table, commit"
		blocks = "check that it fits, write the blocks, fit table and filesystem to the disk, commit"
		renew  = "check that it fits, write the blocks, fit table and filesystem to the disk, set new UUIDs, commit"
		spool  = "check that it fits, make a scratch file, write the scratch image, wipe the disk, make the filesystem, unpack the files, update fstab and UUIDs, unmount and sync, set the filesystem's UUID, write the partition table, commit"
		swap   = "verify the backup, make swap, commit"
	)
	for name, c := range map[string]struct {
		kind     transport.Kind
		manifest transport.Manifest
		diskMiB  int64
		uuid     string
		want     string
	}{
		"files of ours":                           {transport.Ours, transport.Manifest{Content: "files", Disk: disk, Filesystem: ext4}, 1000, "keep", files},
		"files of ours, on a smaller disk":        {transport.Ours, transport.Manifest{Content: "files", Disk: disk, Filesystem: ext4}, 600, "new", files},
		"an image":                                {transport.Ours, transport.Manifest{Content: "blocks", Holes: "unused", Disk: disk, Filesystem: ext4}, 1000, "keep", blocks},
		"an image, with new UUIDs":                {transport.Ours, transport.Manifest{Content: "blocks", Holes: "unused", Disk: disk, Filesystem: ext4}, 2000, "new", renew},
		"an image of a larger disk":               {transport.Ours, transport.Manifest{Content: "blocks", Holes: "unused", Disk: disk, Filesystem: ext4}, 999, "keep", spool},
		"blocks of an unknown disk":               {transport.Ours, transport.Manifest{Content: "blocks", Holes: "zero", Disk: disk}, 1000, "new", blocks},
		"blocks of an unknown disk, to a smaller": {transport.Ours, transport.Manifest{Content: "blocks", Holes: "zero", Disk: disk}, 600, "keep", blocks},
		"swap":        {transport.Ours, transport.Manifest{Content: "swap", Disk: disk, Filesystem: &transport.Filesystem{Type: "swap"}}, 100, "keep", swap},
		"a tar":       {transport.Tar, transport.Manifest{}, 1000, "keep", files},
		"a dump":      {transport.Dump, transport.Manifest{}, 1000, "new", files},
		"a raw image": {transport.Raw, transport.Manifest{}, 1000, "keep", blocks},
	} {
		t.Run(name, func(t *testing.T) {
			if got := recipeOf(t, c.kind, c.manifest, c.diskMiB, c.uuid); got != c.want {
				t.Errorf("the recipe is\n%s, not\n%s", got, c.want)
			}
		})
	}
}

func TestEachProcessOfAnImportComesToTheSameNewUUIDs(t *testing.T) {
	const root, swap = "0d5bcd04-2a0f-4b3e-9c52-1f2a5e3a7a10", "7c1e0a52-93f2-4c8e-8f0c-6a1f7d1f2b33"
	instance := &osapi.Request{InstanceName: "web1", InstanceUUID: "6c7b4cc2-6a3c-4a3a-9f8d-1b8f0c3a5a11"}
	first := newIDsFor(instance, "new", transport.Manifest{
		Siblings: []transport.Sibling{{UUID: swap, Moves: true}, {UUID: "not-moved"}}, Filesystem: &transport.Filesystem{UUID: root},
	})
	second := newIDsFor(instance, "new", transport.Manifest{})
	if len(first.made) != 2 || first.made[swap] != second.of(swap) || first.made[root] != second.of(strings.ToUpper(root)) {
		t.Errorf("%v and %v", first.made, second.made)
	}
	if id := first.made[root]; id == root || id[14] != '8' || !strings.Contains("89ab", id[19:20]) {
		t.Errorf("%s is no UUID of version 8", id)
	}
	if other := newIDsFor(&osapi.Request{InstanceName: "web2"}, "new", transport.Manifest{}).of(root); other == first.made[root] {
		t.Errorf("another instance gets the same: %s", other)
	}
	if kept := newIDsFor(instance, "keep", transport.Manifest{}); kept.of(root) != root || kept != nil {
		t.Errorf("IMPORT_UUID=keep: %+v", kept)
	}
}

func TestNewIDsLeaveTheLayoutInItsPlace(t *testing.T) {
	for _, style := range []partition.Style{partition.StyleMSDOS, partition.StyleGPT} {
		old, err := partition.Plan(style, 1000*mib, 2048, strings.NewReader(strings.Repeat("random", 100)))
		if err != nil {
			t.Fatal(err)
		}
		n := newIDsFor(&osapi.Request{InstanceName: "web1"}, "new", transport.Manifest{})
		renewed, err := n.ofLayout(old)
		if err != nil {
			t.Fatal(err)
		}
		again, err := newIDsFor(&osapi.Request{InstanceName: "web1"}, "new", transport.Manifest{}).ofLayout(old)
		if err != nil || again.DiskID != renewed.DiskID {
			t.Errorf("%s: %s, and again %s: %v", style, renewed.DiskID, again.DiskID, err)
		}
		if renewed.DiskID == old.DiskID || n.made[old.DiskID] != renewed.DiskID {
			t.Errorf("%s: the disk's id is %s, and was %s", style, renewed.DiskID, old.DiskID)
		}
		place := func(l partition.Layout) (out []int64) {
			for _, p := range l.Partitions {
				out = append(out, p.StartSector, p.Sectors)
			}
			return out
		}
		if !slices.Equal(place(old), place(renewed)) {
			t.Errorf("%s: %v became %v", style, place(old), place(renewed))
		}
	}
}

func TestAnESPsNamesKeepTheirLength(t *testing.T) {
	const root = "0d5bcd04-2a0f-4b3e-9c52-1f2a5e3a7a10"
	n := newIDsFor(&osapi.Request{InstanceName: "web1"}, "new", transport.Manifest{})
	id := n.of(root)
	n.made["12345678-01"] = "87654321-01" // an id of a partition isn't looked for: it may be part of anything
	got := string(n.inESP([]byte("search.fs_uuid " + root + " root\n12345678-01")))
	if got != "search.fs_uuid "+id+" root\n12345678-01" {
		t.Errorf("%q", got)
	}
}
