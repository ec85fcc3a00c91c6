//go:build root

package root

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mountTree is mount of a guest with a layout; the text is what it said.
func (l *lab) mountTree(options ...string) (dir, said string) {
	l.Helper()
	dir = l.TempDir()
	l.Cleanup(func() { exec.Command("umount", "-R", dir).Run() })
	said, exit := l.here(append(append([]string{"mount"}, options...), l.disk, dir)...)
	if exit != 0 {
		l.Fatalf("mount: exit status %d\n%s", exit, said)
	}
	return dir, said
}

// mountsBelow fails unless these are mounted there, each by its filesystem and subvolume, and all
// as a guest's are.
func (l *lab) mountsBelow(dir, mode string, want map[string]string) {
	l.Helper()
	got := map[string]string{}
	for line := range strings.Lines(l.tool("findmnt", "-R", "-n", "-r", "-o", "TARGET,FSTYPE,FSROOT,OPTIONS", dir)) {
		f := strings.Fields(line)
		got[strings.TrimPrefix(f[0], dir)] = f[1] + " " + f[2]
		for _, option := range []string{mode, "nodev", "nosuid", "noexec"} {
			l.matches(f[3], `\b`+option+`\b`)
		}
	}
	for folder, what := range want {
		if got[folder] != what {
			l.Errorf("%s is %s, not %s", folder, got[folder], what)
		}
	}
	if len(got) != len(want) {
		l.Errorf("mounted are %v", got)
	}
}

var serverMounts = map[string]string{"": "ext4 /", "/boot": "ext4 /", "/var": "xfs /", "/var/log": "ext3 /", "/srv": "ext2 /"}

func TestMountShowsTheWholeTreeOfALayout(t *testing.T) {
	l := layoutLab(t, 1200, serverLayout)
	l.create()
	before := sumOf(t, l.disk)
	dir, said := l.mountTree("--read-only")
	l.matches(said, "end it with: umount -R "+dir)
	l.mountsBelow(dir, "ro", serverMounts)
	l.tool("test", "-s", dir+"/var/log/x", "-a", "-p", dir+"/srv/fifo", "-a", "-s", dir+"/var/lib/instance-debootstrap/receipt.json")
	l.tool("umount", "-R", dir)
	if sumOf(t, l.disk) != before || l.loops() != 0 {
		t.Errorf("%d loop devices are left, or the disk has changed", l.loops())
	}
	dir, _ = l.mountTree()
	l.mountsBelow(dir, "rw", serverMounts)
	must(t, os.WriteFile(dir+"/var/log/by-hand", nil, 0o644))
	l.tool("umount", "-R", dir)
	if l.loops() != 0 {
		t.Errorf("%d loop devices are left", l.loops())
	}
	l.clean(0)
	l.wholeTree(func(tree string) { l.tool("test", "-e", tree+"/var/log/by-hand") })
}

func TestMountShowsSubvolumesWhereTheGuestHasThem(t *testing.T) {
	l := subvolumeLab(t)
	l.create()
	dir, said := l.mountTree("--read-only")
	l.matches(said, "umount -R "+dir)
	l.mountsBelow(dir, "ro", map[string]string{"": "btrfs /@rootfs", "/home": "btrfs /@home", "/srv": "btrfs /@srv", "/srv/www": "btrfs /@www", "/var": "btrfs /@var", "/var/log": "btrfs /@log"})
	l.tool("test", "-s", dir+"/srv/www/page", "-a", "-s", dir+"/var/log/x")
	l.tool("umount", "-R", dir)
	if l.loops() != 0 {
		t.Errorf("%d loop devices are left", l.loops())
	}
}

// What can't be mounted is named, and the rest can be looked at.
func TestMountNamesWhatItCannotMountOfALayout(t *testing.T) {
	l := layoutLab(t, 1200, serverLayout)
	l.create()
	nodes := t.TempDir()
	must(t, os.WriteFile(nodes+"/of-the-node", nil, 0o644))
	dev, in := l.partitionLoop(1), t.TempDir()
	l.tool("mount", dev, in)
	l.tool("sh", "-ec", `rmdir "$0/srv"; ln -s "$1" "$0/srv"`, in, nodes)
	l.tool("umount", in)
	l.tool("losetup", "-d", dev)
	dev = l.partitionLoop(5) // /var/log
	l.tool("wipefs", "-q", "-a", dev)
	l.tool("losetup", "-d", dev)
	dir, said := l.mountTree()
	l.matches(said, `the guest's /srv .partition 6. isn't mounted: on the way to /srv the guest has a link`)
	l.matches(said, `the guest's /var/log .partition 5. isn't mounted: disk .* holds nothing`)
	l.mountsBelow(dir, "rw", map[string]string{"": "ext4 /", "/boot": "ext4 /", "/var": "xfs /"})
	l.tool("umount", "-R", dir)
	if l.loops() != 0 || l.tool("findmnt", "-n", "-o", "TARGET", "--target", nodes) == nodes {
		t.Errorf("%d loop devices are left, or something is on the node's folder", l.loops())
	}
}

// A guest writes its fstab.
func TestAnFstabLeadsNoMountOutOfTheTree(t *testing.T) {
	l := layoutLab(t, 900, homeLayout)
	l.create()
	l.onSubvolumes(`uuid=$(sed -n 's/^UUID=\([^ ]*\) *\/home .*/\1/p' "$0/etc/fstab"); printf '%s\n' \
		"UUID=$uuid /../../../../tmp btrfs subvol=@home 0 0" "UUID=$uuid /a/../home btrfs subvol=@home 0 0" "UUID=$uuid / btrfs subvol=@var 0 0" \
		"UUID=$uuid /etc btrfs subvol=../../../../../etc 0 0" "UUID=$uuid /opt btrfs subvol=@rootfs/etc 0 0" \
		"UUID=$uuid /mnt btrfs subvol=@nothing 0 0" "/dev/sda1 /media btrfs subvol=@home 0 0" >>"$0/etc/fstab"; mkdir -p "$0/opt" "$0/mnt" "$0/media"; ln -s / "$0/home/up"`)
	before := l.tool("findmnt", "-n", "-r", "-o", "TARGET")
	dir, said := l.mountTree("--read-only")
	l.matches(said, `the guest's /mnt .subvolume @nothing. isn't mounted: `)
	l.matches(said, `the guest's /opt .subvolume @rootfs/etc. isn't mounted: `)
	l.mountsBelow(dir, "ro", map[string]string{"": "btrfs /@rootfs", "/home": "btrfs /@home", "/home/data": "btrfs /@data", "/var": "btrfs /@var"})
	l.tool("umount", "-R", dir)
	if after := l.tool("findmnt", "-n", "-r", "-o", "TARGET"); after != before || l.loops() != 0 {
		t.Errorf("mounted was\n%s\nand is\n%s", before, after)
	}
}

// A disk that is served from here lives for as long as anything of it is mounted.
func TestAServedDiskOfALayoutIsUnmountedAsOne(t *testing.T) {
	l := layoutLab(t, 1200, serverLayout)
	l.create()
	image := filepath.Join(t.TempDir(), "disk.qcow2")
	l.tool("qemu-img", "convert", "-O", "qcow2", l.disk, image)
	for _, by := range []string{"umount", "signal"} {
		dir := t.TempDir()
		cmd := exec.Command(program, "mount", "--format", "qcow2", image, dir)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		must(t, cmd.Start())
		for range 600 {
			if strings.Count(l.tool("findmnt", "-n", "-r", "-o", "TARGET"), dir) == len(serverMounts) {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Second)
		l.mountsBelow(dir, "rw", serverMounts)
		must(t, os.WriteFile(dir+"/var/log/"+by, []byte(by), 0o644))
		if by == "umount" {
			l.tool("umount", "-R", dir)
		} else {
			must(t, cmd.Process.Signal(os.Interrupt))
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", by, err, out.String())
		}
	}
	l.tool("qemu-img", "convert", "-O", "raw", image, l.disk)
	l.wholeTree(func(tree string) { l.tool("test", "-s", tree+"/var/log/umount", "-a", "-s", tree+"/var/log/signal") })
}
