//go:build root

package root

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// checkFilesystem runs the filesystem's own checker over the root.
func (l *lab) checkFilesystem(fstype string) {
	l.Helper()
	dev := l.root()
	switch fstype {
	case "xfs":
		l.tool("xfs_repair", "-n", dev)
	case "btrfs":
		l.tool("btrfs", "check", "--readonly", dev)
	default:
		l.tool("e2fsck", "-fn", dev)
	}
	if got := l.tool("blkid", "-p", "-s", "TYPE", "-o", "value", dev); got != fstype {
		l.Errorf("blkid finds %q, not %s", got, fstype)
	}
	l.tool("losetup", "-d", dev)
}

func TestCreateEveryStyleAndFilesystem(t *testing.T) {
	for _, style := range []string{"none", "msdos", "gpt"} {
		for _, fstype := range []string{"ext2", "ext3", "ext4", "xfs", "btrfs"} {
			t.Run(style+"/"+fstype, func(t *testing.T) {
				l := newLab(t, 600)
				l.tinyTree()
				l.env["OSP_PARTITION_STYLE"], l.env["OSP_FILESYSTEM"] = style, fstype
				l.create()
				want := map[string]string{"none": "", "msdos": "dos", "gpt": "gpt"}[style]
				if got := l.table(); got != want {
					t.Errorf("blkid finds table %q, not %q", got, want)
				}
				if want != "" {
					l.tool("sfdisk", "--verify", l.disk)
				}
				l.checkFilesystem(fstype)
				l.mounted(func(tree string) {
					l.checkGuest(tree, fstype)
				})
			})
		}
	}
}

// checkGuest looks at the guest's own files, by the node's eyes.
func (l *lab) checkGuest(tree, fstype string) {
	l.Helper()
	dev := l.tool("findmnt", "-n", "-o", "SOURCE", tree)
	uuid := l.tool("blkid", "-p", "-s", "UUID", "-o", "value", dev)
	if got := l.tool("findmnt", "--tab-file", tree+"/etc/fstab", "-n", "-o", "SOURCE,FSTYPE", "/"); strings.Join(strings.Fields(got), " ") != "UUID="+uuid+" "+fstype {
		l.Errorf("findmnt reads %q in fstab, the root is %s %s", got, fstype, uuid)
	}
	for path, want := range map[string]string{"etc/hostname": "inst1.example\n", "etc/mailname": "inst1.example\n", "etc/machine-id": ""} {
		b, err := os.ReadFile(filepath.Join(tree, path))
		if err != nil || string(b) != want {
			l.Errorf("/%s is %q, %v", path, b, err)
		}
	}
	for path, want := range map[string]os.FileMode{
		"etc/hostname": 0o644, "etc/mailname": 0o644, "etc/hosts": 0o644, "etc/resolv.conf": 0o644,
		"etc/fstab": 0o644, "etc/network/interfaces": 0o644, "": os.ModeDir | 0o755,
	} {
		if st, err := os.Stat(filepath.Join(tree, path)); err != nil || st.Mode() != want {
			l.Errorf("/%s: mode %v, %v; want %v", path, st.Mode(), err, want)
		}
	}
	if b, _ := os.ReadFile(tree + "/etc/shadow"); !strings.HasPrefix(string(b), "root::") {
		l.Errorf("root's password is not blank: %q", b)
	}
}

func TestCreateOnDevices(t *testing.T) {
	for _, sector := range []string{"512", "4096"} {
		for _, style := range []string{"none", "msdos", "gpt"} {
			t.Run(sector+"/"+style, func(t *testing.T) {
				l := newLab(t, 600)
				l.tinyTree()
				dev := l.tool("losetup", "--show", "-f", "-b", sector, l.disk)
				t.Cleanup(func() { exec.Command("losetup", "-d", dev).Run() })
				l.env["DISK_0_PATH"], l.env["OSP_PARTITION_STYLE"] = dev, style
				log, exit := l.run("create")
				if exit != 0 {
					t.Fatalf("exit status %d\n%s", exit, log)
				}
				if over := l.tool("losetup", "-n", "-O", "NAME", "-j", dev); over != "" {
					t.Errorf("%s is still over the disk", over)
				}
				f, err := os.OpenFile(dev, os.O_RDWR|syscall.O_EXCL, 0)
				if err != nil {
					t.Fatalf("the disk is not free after create: %v", err)
				}
				f.Close()
				l.tool("losetup", "-d", dev)
				l.checkFilesystem("ext4")
			})
		}
	}
}

func TestOldSignaturesAreGone(t *testing.T) {
	for name, put := range map[string]string{
		"gpt":         "sgdisk -n 1:0:0 %[1]s",
		"msdos":       "echo ',,L' | sfdisk -q %[1]s",
		"ext4":        "mke2fs -q -F -t ext4 %[1]s",
		"xfs":         "mkfs.xfs -q -f %[1]s",
		"btrfs":       "mkfs.btrfs -q -f %[1]s",
		"swap":        "mkswap -q %[1]s",
		"LVM2":        "dev=$(losetup --show -f %[1]s) && pvcreate -qq -ff -y --metadatacopies 2 $dev; r=$?; losetup -d $dev; exit $r",
		"ext4 in gpt": "sgdisk -n 1:2048:0 %[1]s && mke2fs -q -F -E offset=1048576 %[1]s 500M",
	} {
		for _, style := range []string{"none", "msdos", "gpt"} {
			t.Run(name+"/"+style, func(t *testing.T) {
				l := newLab(t, 600)
				l.tinyTree()
				l.tool("sh", "-c", fmt.Sprintf(put, l.disk))
				l.env["OSP_PARTITION_STYLE"] = style
				l.create()
				types := strings.Join(strings.Fields(l.tool("wipefs", "-n", "-i", "--noheadings", "-O", "TYPE", l.disk)), " ")
				want := map[string]string{"none": "ext4", "msdos": "dos", "gpt": "gpt gpt PMBR"}[style]
				if types != want {
					t.Errorf("wipefs finds %q, not %q", types, want)
				}
				l.checkFilesystem("ext4")
			})
		}
	}
}

func TestTooSmallIsRefusedWithTheRightNumber(t *testing.T) {
	l := newLab(t, 510)
	l.tinyTree()
	l.fails("510 MiB, at least 511 MiB")
	l.untouched()

	l = newLab(t, 511)
	l.tinyTree()
	l.create()
}

func TestTreeThatDoesNotFitIsRefusedBeforeTheDiskIsTouched(t *testing.T) {
	l := newLab(t, 600)
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/etc", 0o755))
	must(t, os.WriteFile(dir+"/big", nil, 0o644))
	big, err := os.OpenFile(dir+"/big", os.O_WRONLY, 0)
	must(t, err)
	chunk := make([]byte, 1<<20)
	for i := range chunk {
		chunk[i] = byte(i)
	}
	for range 700 {
		_, err := big.Write(chunk)
		must(t, err)
	}
	big.Close()
	l.tool("tar", "-cf", l.tar(), "-C", dir, ".")
	l.fails("is too small: it has 600 MiB")
	l.untouched()
}

// untouched fails when the disk, zero at first, has any allocated block.
func (l *lab) untouched() {
	l.Helper()
	st, err := os.Stat(l.disk)
	must(l, err)
	if n := st.Sys().(*syscall.Stat_t).Blocks; n != 0 {
		l.Errorf("the disk was written to: %d blocks", n)
	}
}

func TestMSDOSAboveTwoTiBIsRefusedNamingGPT(t *testing.T) {
	l := newLab(t, 3<<20)
	l.tinyTree()
	l.fails("gpt")
	l.untouched()
}

func TestSwapOnlyOverBlankOrSwap(t *testing.T) {
	disk1 := func(l *lab) string {
		path := filepath.Join(filepath.Dir(l.disk), "disk1")
		must(l, os.WriteFile(path, nil, 0o600))
		must(l, os.Truncate(path, 64<<20))
		l.env["DISK_COUNT"], l.env["DISK_1_PATH"], l.env["DISK_1_ACCESS"] = "2", path, "w"
		return path
	}
	isSwap := func(l *lab, path string) {
		l.Helper()
		uuid := l.tool("blkid", "-p", "-s", "UUID", "-o", "value", path)
		if got := l.tool("blkid", "-p", "-s", "TYPE", "-o", "value", path); got != "swap" {
			l.Errorf("%s holds %q", path, got)
		}
		l.mounted(func(tree string) {
			if fstab := l.tool("cat", tree+"/etc/fstab"); !strings.Contains(fstab, "UUID="+uuid) {
				l.Errorf("fstab has no swap %s:\n%s", uuid, fstab)
			}
		})
	}
	t.Run("disk named swap", func(t *testing.T) {
		l := newLab(t, 600)
		l.tinyTree()
		path := disk1(l)
		l.env["DISK_1_NAME"] = "swap"
		l.create()
		isSwap(l, path)
		l.env["INSTANCE_REINSTALL"] = "1"
		l.create() // over its own swap
		isSwap(l, path)
	})
	t.Run("swapdev in the defaults file", func(t *testing.T) {
		l := newLab(t, 600)
		l.tinyTree()
		path := disk1(l)
		l.write("default", "swapdev=$DISK_1_PATH\n", 0o644)
		l.create()
		isSwap(l, path)
	})
	t.Run("data is never overwritten", func(t *testing.T) {
		l := newLab(t, 600)
		l.tinyTree()
		path := disk1(l)
		l.env["DISK_1_NAME"] = "swap"
		l.tool("mke2fs", "-q", "-F", "-t", "ext4", path)
		before := l.tool("sha256sum", path)
		l.fails("holds")
		if l.tool("sha256sum", path) != before {
			t.Error("the data disk was changed")
		}
		l.untouched()
	})
	t.Run("a disk of another name is left alone", func(t *testing.T) {
		l := newLab(t, 600)
		l.tinyTree()
		path := disk1(l)
		l.env["DISK_1_NAME"] = "data"
		l.create()
		if out := l.tool("wipefs", "-n", path); out != "" {
			t.Errorf("disk 1 was written to: %s", out)
		}
	})
}

func TestAPI5TakesItsOptions(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	swap := filepath.Join(filepath.Dir(l.disk), "swap-disk")
	must(t, os.WriteFile(swap, make([]byte, 64<<20), 0o600))
	l.env = map[string]string{"PATH": "/sbin:/bin:/usr/sbin:/usr/bin"}
	if log, exit := l.run("create", "-i", "inst1.example", "-b", l.disk); exit != 1 || !strings.Contains(log, "-s") {
		t.Errorf("without -s: exit status %d\n%s", exit, log)
	}
	l.untouched()
	log, exit := l.run("create", "-i", "inst1.example", "-b", l.disk, "-s", swap)
	if exit != 0 {
		t.Fatalf("exit status %d\n%s", exit, log)
	}
	l.clean(0)
	if got := l.table(); got != "" {
		t.Errorf("API 5 means no partition table, found %q", got)
	}
	if got := l.tool("blkid", "-p", "-s", "TYPE", "-o", "value", swap); got != "swap" {
		t.Errorf("%s holds %q", swap, got)
	}
	l.checkFilesystem("ext4")
}

func TestHelpTouchesNothing(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	for _, flag := range []string{"--help", "-h"} {
		log, exit := l.run("create", flag)
		if exit != 0 || !strings.Contains(log, "USAGE") {
			t.Errorf("create %s: exit status %d\n%s", flag, exit, log)
		}
	}
	l.untouched()
	l.clean(0)
}

func TestBadSettingsAreAllNamedAndNothingIsTouched(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.write("default", "SUITE='tri xie'\nCLEAN_CACHE=soon\n", 0o644)
	l.env["OSP_FILESYSTEM"] = "ntfs"
	delete(l.env, "INSTANCE_NAME")
	log, exit := l.run("create")
	for _, want := range []string{"default:1", "default:2", "ntfs", "INSTANCE_NAME"} {
		if !strings.Contains(log, want) {
			t.Errorf("the message does not name %s:\n%s", want, log)
		}
	}
	if exit != 1 {
		t.Errorf("exit status %d", exit)
	}
	l.untouched()
}
