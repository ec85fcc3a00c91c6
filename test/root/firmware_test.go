//go:build root

package root

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// A Ganeti that starts instances by UEFI keeps the firmware's variables on a disk of the
// instance: losing them may leave it unbootable.
func TestNoVerbTouchesTheDiskOfTheFirmware(t *testing.T) {
	l := newMoveLab(t, 600)
	firmware := filepath.Join(t.TempDir(), "firmware")
	content := append([]byte("GNTOVMF\x00\x01\x00\x00\x00"), make([]byte, 32<<20-12)...)
	must(t, os.WriteFile(firmware, content, 0o600))
	root := l.disk
	with := func(disk string) { // first, as it may be once the disk before it was removed
		l.disks(firmware, disk)
		l.disk = disk
		l.env["DISK_0_ROLE"], l.env["DISK_1_ROLE"] = "firmware", "data"
		l.env["DISK_0_NAME"], l.env["OSP_DATA_DISKS"] = "state", "state=/srv"
		l.env["INSTANCE_HV_boot_type"], l.env["OSP_BOOTLOADER"] = "uefi", "none"
	}
	untouched := func(after string) {
		t.Helper()
		if now, err := os.ReadFile(firmware); err != nil || !bytes.Equal(now, content) {
			t.Fatalf("%s wrote on the firmware's disk (%v)", after, err)
		}
	}
	with(root)
	l.tinyTree()
	l.hook("50-paths", `[ "$DISK_1_PATH" = "$BLOCKDEV" ] && [ "$DISK_0_PATH" != "$BLOCKDEV" ]`)
	l.write("conf/variants/default.conf", `[ "$blockdev" = "$DISK_1_PATH" ]`, 0o644)
	l.create()
	untouched("create")
	if table := l.table(); table != "gpt" {
		t.Errorf("boot_type=uefi gives the table %q, not gpt", table)
	}
	l.env["INSTANCE_REINSTALL"] = "1"
	l.create()
	untouched("reinstall")
	delete(l.env, "INSTANCE_REINSTALL")
	l.env["OLD_INSTANCE_NAME"], l.env["INSTANCE_NAME"] = "inst1.example", "inst2.example"
	if log, exit := l.run("rename"); exit != 0 {
		t.Fatalf("rename: exit status %d\n%s", exit, log)
	}
	untouched("rename")
	stream := l.export(1, root)
	untouched("export")
	with(l.usedDisk(600))
	l.env["OSP_FILESYSTEM"] = "ext4"
	f, err := os.Open(stream)
	must(t, err)
	defer f.Close()
	l.imports(f, 1, l.disk)
	untouched("import")
	l.change(func(tree string) {
		name, err := os.ReadFile(filepath.Join(tree, "etc/hostname"))
		if err != nil || string(name) != "inst2.example\n" {
			t.Errorf("the imported guest is called %q (%v)", name, err)
		}
	})
}
