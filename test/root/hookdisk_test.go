//go:build root

package root

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// onBlockDevice makes the disk a block device, by a link, as Ganeti gives it.
func (l *lab) onBlockDevice() {
	l.Helper()
	file := l.TempDir() + "/volume"
	l.tool("truncate", "-s", "600M", file)
	device := l.tool("losetup", "--show", "-f", file)
	l.Cleanup(func() { exec.Command("losetup", "-d", device).Run() })
	l.disk = l.TempDir() + "/root-disk"
	must(l, os.Symlink(device, l.disk))
	l.env["DISK_0_PATH"] = l.disk
}

// A hook of those that people have writes boot code to the disk by the name that
// Ganeti gives it; ours would not see that, and write GRUB over it.
func TestWhatAHookWritesToABlockDiskIsSeenThroughBLOCKDEV(t *testing.T) {
	l := newLab(t, 600)
	l.grubTree()
	l.onBlockDevice()
	l.hook("50-code", `set -e
for disk in "$BLOCKDEV" "$DISK_0_PATH"; do head -c 1M "$disk" >/dev/null; done
printf 'boot code of mine' | dd of="$DISK_0_PATH" bs=440 count=1 conv=notrunc status=none
[ "$(head -c 17 "$BLOCKDEV")" = 'boot code of mine' ] && echo "BLOCKDEV has it"`)
	has(t, l.create(), "BLOCKDEV has it", "a hook has installed a boot loader (code in the boot record)")
	if code := l.tool("head", "-c", "17", l.disk); code != "boot code of mine" {
		t.Errorf("the disk begins with %q", code)
	}
	has(t, l.tool("sfdisk", "--dump", l.disk), "start=        2048")
}

func TestATableThatAHookChangesStaysOrIsRefusedByName(t *testing.T) {
	for name, c := range map[string]struct {
		style, hook, want string
		stays             func(dump string) bool
	}{
		"another partition": {"msdos", `printf '\0\0\0\0\xda\0\0\0\xf0\x07\0\0\x10\0\0\0' | dd of="$DISK_0_PATH" bs=1 seek=$((446 + 16)) conv=notrunc status=none`,
			"", func(dump string) bool { return strings.Contains(dump, "size=          16, type=da") }},
		"another id": {"msdos", `sfdisk -q --no-tell-kernel --disk-id "$DISK_0_PATH" 0x12345678`, "",
			func(dump string) bool { return strings.Contains(dump, "label-id: 0x12345678") }},
		"another id, gpt": {"gpt", `sfdisk -q --no-tell-kernel --disk-id "$DISK_0_PATH" 51A746F2-95F1-4B9D-96E4-5CB3B7478A15`, "",
			func(dump string) bool {
				return strings.Contains(dump, "label-id: 51A746F2-95F1-4B9D-96E4-5CB3B7478A15")
			}},
		"a boot record of 512 bytes": {"msdos", `{ printf code; head -c 508 /dev/zero; } | dd of="$DISK_0_PATH" conv=notrunc status=none`,
			"a hook has changed the partition table of DISK: partition 1, which starts at sector 2048, is gone", nil},
		"a smaller root": {"msdos", `sfdisk -q --no-reread --no-tell-kernel -N 1 "$BLOCKDEV" <<<', 400M'`,
			"sectors from 2048 on, has 819200 from 2048 on now", nil},
		"a gpt that is half written": {"gpt", `printf x | dd of="$BLOCKDEV" bs=1 seek=$((512 + 60)) conv=notrunc status=none; printf x | dd of="$BLOCKDEV" bs=1 seek=$((600 * 1024 * 1024 - 500)) conv=notrunc status=none`,
			"a hook has damaged the partition table of DISK: read gpt table", nil},
	} {
		l := newLab(t, 600)
		l.grubTree()
		l.onBlockDevice()
		l.env["OSP_PARTITION_STYLE"], l.env["OSP_FIRMWARE"] = c.style, "bios"
		l.hook("50-table", c.hook)
		if c.want != "" {
			l.fails(strings.ReplaceAll(c.want, "DISK", l.disk))
			continue
		}
		log := l.create()
		if dump := l.tool("sfdisk", "--dump", l.disk); !strings.Contains(log, "a hook has changed the partition table: it stays as it is") || !c.stays(dump) {
			t.Errorf("%s:\n%s\n%s", name, dump, log)
		}
		if !strings.HasPrefix(name, "another id") {
			continue
		}
		l.mounted(func(tree string) {
			id := l.tool("blkid", "-p", "-s", "PTUUID", "-o", "value", l.disk)
			rule, err := os.ReadFile(tree + "/etc/udev/rules.d/61-instance-debootstrap.rules")
			if err != nil || !strings.Contains(string(rule), `"`+id+`"`) {
				t.Errorf("%s: the disk is %s: %v\n%s", name, id, err, rule)
			}
		})
	}
}

func TestTheReceiptHasTheTableThatAHookHasMade(t *testing.T) {
	for name, c := range map[string]struct{ style, hook string }{
		"another id, another partition": {"msdos", `sfdisk -q --no-tell-kernel --disk-id "$BLOCKDEV" 0x12345678
printf '\0\0\0\0\xda\0\0\0\xf0\x07\0\0\x10\0\0\0' | dd of="$BLOCKDEV" bs=1 seek=$((446 + 16)) conv=notrunc status=none`},
		"a name, a type": {"gpt", `sfdisk -q --no-tell-kernel --part-label "$BLOCKDEV" 1 mine
sfdisk -q --no-tell-kernel --part-type "$BLOCKDEV" 1 4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709`},
		"another kind of table": {"gpt", `part=/sys/class/block/${FSYSDEV##*/}
printf 'label: dos\nstart=%s, size=%s, type=83\n' "$(cat "$part/start")" "$(cat "$part/size")" | sfdisk -q --force --no-reread --no-tell-kernel "$BLOCKDEV"`},
	} {
		l := newLab(t, 600)
		l.tinyTree()
		l.env["OSP_PARTITION_STYLE"], l.env["OSP_FIRMWARE"] = c.style, "bios"
		l.hook("50-table", c.hook)
		log := l.create()
		has(t, log, "a hook has changed the partition table: it stays as it is")
		var disk struct {
			PartitionTable struct {
				Label, ID  string
				Partitions []struct {
					Start, Size      float64
					Type, UUID, Name string
				}
			}
		}
		must(t, json.Unmarshal([]byte(l.tool("sfdisk", "--json", l.disk)), &disk))
		table := disk.PartitionTable
		l.mounted(func(tree string) {
			r := l.receiptOf(tree, log)
			style := strings.Replace(table.Label, "dos", "msdos", 1)
			if id := strings.ToLower(strings.TrimPrefix(table.ID, "0x")); field(r, "disk.id") != id || field(r, "disk.style") != style {
				t.Errorf("%s: the disk is %s of style %s, the receipt says %v", name, id, style, r["disk"])
			}
			entries, _ := field(r, "disk.partitions").([]any)
			if len(entries) != len(table.Partitions) {
				t.Fatalf("%s: the disk has %v, the receipt %v", name, table.Partitions, entries)
			}
			for i, p := range table.Partitions {
				e := entries[i]
				if field(e, "start_sector") != p.Start || field(e, "sectors") != p.Size || field(e, "type") != p.Type || p.Name != "" && field(e, "name") != p.Name ||
					p.UUID != "" && field(e, "uuid") != strings.ToLower(p.UUID) {
					t.Errorf("%s: the disk has %v, the receipt %v", name, p, e)
				}
			}
		})
	}
}

func TestAConfigurationOfExtlinuxIsABootLoaders(t *testing.T) {
	for _, file := range []string{"/boot/extlinux.conf", "/boot/extlinux/extlinux.conf"} {
		l := newLab(t, 600)
		l.grubTree()
		l.hook("50-extlinux", `mkdir -p "$TARGET`+file[:strings.LastIndexByte(file, '/')]+`"; echo 'default linux' >"$TARGET`+file+`"`)
		log := l.create()
		has(t, log, "a hook has installed a boot loader ("+file+"): it stays as it is")
		l.matches(log, "warn: nothing on the disk starts by "+file+": there is no code in its boot record")
	}
}
