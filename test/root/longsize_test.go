//go:build root

package root

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestALargeFolderOfHooksIsRunInItsOrder(t *testing.T) {
	l := newMoveLab(t, 512)
	l.write("default", "BOOTLOADER=none\n", 0o644)
	l.tinyTree()
	l.create()
	l.blank(l.disk)
	begin := time.Now()
	l.create()
	without := time.Since(begin)
	const count = 200
	var want []string
	for i := range count {
		name := fmt.Sprintf("%03d-hook", i)
		l.hook(name, `echo "${0##*/}" >>"$TARGET/etc/hooks-order"`)
		want = append(want, name)
	}
	l.blank(l.disk)
	begin = time.Now()
	l.create()
	took := time.Since(begin)
	t.Logf("LONG a create takes %v without hooks, and %v with %d", without.Round(time.Millisecond), took.Round(time.Millisecond), count)
	l.mounted(func(tree string) {
		if got := l.tool("cat", tree+"/etc/hooks-order"); got != strings.Join(want, "\n") {
			t.Errorf("the hooks were run as\n%s", got)
		}
	})
	if each := (took - without) / count; each > 250*time.Millisecond {
		t.Errorf("a hook that does nothing takes %v", each)
	}
}

// TestALargeInstanceIsMadeSavedAndRenamed has one with 16 disks and 8 network cards: a root, swap
// and 14 disks for data.
func TestALargeInstanceIsMadeSavedAndRenamed(t *testing.T) {
	l := newMoveLab(t, 512)
	l.write("default", "BOOTLOADER=none\nNETWORK=static\n", 0o644)
	l.networkTree("sbin/udevd")
	paths, roles := []string{l.disk, l.blankDisk("swap-disk", 64)}, []string{}
	l.env["DISK_1_NAME"] = "swap"
	for i := 2; i < 16; i++ {
		paths = append(paths, l.blankDisk(fmt.Sprintf("data%d-disk", i), 64))
		l.env[fmt.Sprintf("DISK_%d_NAME", i)] = fmt.Sprint("data", i)
		roles = append(roles, fmt.Sprintf("data%d=/srv/data%[1]d", i))
	}
	l.disks(paths...)
	l.setting("DATA_DISKS=" + strings.Join(roles, ","))
	for i := range 8 {
		l.nic(i, fmt.Sprintf("MAC=aa:00:00:12:34:%02x", i), "MODE=bridged", fmt.Sprint("IP=192.0.2.", 10+i), "NETWORK_SUBNET=192.0.2.0/24")
	}
	if log, exit := l.run("verify"); exit != 0 {
		t.Errorf("verify: exit status %d\n%s", exit, log)
	}
	begin := time.Now()
	l.create()
	t.Logf("LONG a create of 16 disks: %v", time.Since(begin).Round(time.Millisecond))
	l.hasAll(paths)
	var streams []string
	begin = time.Now()
	for i, disk := range paths {
		streams = append(streams, l.export(i, disk))
	}
	t.Logf("LONG 16 exports: %v", time.Since(begin).Round(time.Millisecond))
	var targets []string
	for i := range paths {
		targets = append(targets, l.usedDisk([]int64{512, 64}[min(i, 1)]))
	}
	l.disks(targets...)
	begin = time.Now()
	for i, stream := range streams {
		f, err := os.Open(stream)
		must(t, err)
		l.imports(io.Reader(f), i, targets[i])
		f.Close()
	}
	t.Logf("LONG 16 imports: %v", time.Since(begin).Round(time.Millisecond))
	l.env["OLD_INSTANCE_NAME"], l.env["INSTANCE_NAME"] = l.env["INSTANCE_NAME"], "inst2.example"
	if log, exit := l.run("rename"); exit != 0 {
		t.Fatalf("rename: exit status %d\n%s", exit, log)
	}
	l.clean(0)
	l.hasAll(targets)
}

// hasAll looks for each disk in the guest's fstab, by what is on it, and for each card.
func (l *lab) hasAll(paths []string) {
	l.Helper()
	l.mounted(func(tree string) {
		fstab := l.tool("cat", tree+"/etc/fstab")
		for i, path := range paths[1:] {
			if id := l.tool("blkid", "-p", "-s", "UUID", "-o", "value", path); !strings.Contains(fstab, id) {
				l.Errorf("disk %d, %s, isn't in the guest's fstab:\n%s", i+1, id, fstab)
			}
		}
		if name := l.tool("cat", tree+"/etc/hostname"); name != l.env["INSTANCE_NAME"] {
			l.Errorf("the guest is called %q", name)
		}
		cards := l.tool("grep", "-rhoE", "aa:00:00:12:34:0[0-7]", tree+"/etc")
		for i := range 8 {
			if mac := fmt.Sprintf("aa:00:00:12:34:%02x", i); !strings.Contains(cards, mac) {
				l.Errorf("card %d, %s, isn't known in the guest", i, mac)
			}
		}
	})
}

// TestALargeDiskIsMadeSavedAndReadBack has sparse disks: as large as ext4 takes in a guest, and
// larger, with xfs. What holds the files must take them: ext4 takes files of up to 16 TiB, so they
// are on an xfs of the test's own. The ext4 takes minutes, and is left to make check-long.
func TestALargeDiskIsMadeSavedAndReadBack(t *testing.T) {
	for fstype, mib := range map[string]int64{"ext4": 16<<20 - 1, "xfs": 20 << 20} {
		for _, style := range []string{"none", "gpt"} {
			if fstype == "ext4" && os.Getenv("LONG_COUNT") == "" {
				continue
			}
			t.Run(fstype+"/"+style, func(t *testing.T) {
				l := newMoveLab(t, 512)
				l.write("default", "BOOTLOADER=none\n", 0o644)
				l.tinyTree()
				l.onXFS(t.TempDir())
				must(t, os.Truncate(l.disk, mib<<20))
				l.disks(l.disk)
				l.env["OSP_PARTITION_STYLE"], l.env["OSP_FILESYSTEM"] = style, fstype
				begin := time.Now()
				l.create()
				t.Logf("LONG create on %d TiB: %v", (mib+1)>>20, time.Since(begin).Round(time.Millisecond))
				name := l.rootFile("etc/hostname")
				var stream bytes.Buffer
				begin = time.Now()
				log, _, exit := l.exportTo(&stream, 0, l.disk)
				t.Logf("LONG its export: %v, %d MiB", time.Since(begin).Round(time.Millisecond), stream.Len()>>20)
				if exit != 0 {
					t.Fatalf("export: exit status %d\n%s", exit, log)
				}
				l.blank(l.disk)
				begin = time.Now()
				l.imports(&stream, 0, l.disk)
				t.Logf("LONG its import: %v", time.Since(begin).Round(time.Millisecond))
				if got := l.rootFile("etc/hostname"); got != name || name != l.env["INSTANCE_NAME"] {
					t.Errorf("the guest is %q, and was %q", got, name)
				}
				l.env["OLD_INSTANCE_NAME"], l.env["INSTANCE_NAME"] = name, "inst2.example"
				begin = time.Now()
				if log, exit := l.run("rename"); exit != 0 || l.rootFile("etc/hostname") != "inst2.example" {
					t.Errorf("rename: exit status %d\n%s", exit, log)
				}
				t.Logf("LONG its rename: %v", time.Since(begin).Round(time.Millisecond))
				l.clean(0)
			})
		}
	}
}

// onXFS puts the disk on an xfs of the test's own, which is a sparse file.
func (l *lab) onXFS(dir string) {
	l.Helper()
	store := filepath.Join(l.TempDir(), "store")
	must(l, os.WriteFile(store, nil, 0o600))
	must(l, os.Truncate(store, 8<<30))
	l.tool("sh", "-e", "-c", "mkfs.xfs -q "+store+" && mount -o loop "+store+" "+dir)
	l.Cleanup(func() {
		l.tool("sh", "-c", "for i in $(seq 100); do umount "+dir+" && exit; sleep 0.1; done; umount -l "+dir)
	})
	l.disk = filepath.Join(dir, "root-disk")
	must(l, os.WriteFile(l.disk, nil, 0o600))
}

func (l *lab) rootFile(name string) (text string) {
	l.Helper()
	l.mounted(func(tree string) { text = l.tool("cat", filepath.Join(tree, name)) })
	return text
}
