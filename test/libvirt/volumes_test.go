//go:build root

package libvirt

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func (l lab) virsh(args ...string) string {
	l.Helper()
	return l.tool(append([]string{"virsh", "-q"}, args...)...)
}

// TestAGuestThatIsMadeOnce is several tests of one guest, the last of which removes it.
func TestAGuestThatIsMadeOnce(t *testing.T) {
	l := newLab(t)
	shown, err := exec.Command(program, append([]string{"vm"}, small("--disk", "128M,mount=/srv/files", "web1")...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, shown)
	}
	for _, part := range []struct {
		name string
		test func(l lab)
	}{
		{"it has no screen and no password of root's", func(l lab) { l.isLocked(string(shown)) }},
		{"its data disk is mounted where the guest has it", lab.mountsItsDataDisk},
		{"who keeps it from being unmounted is named", lab.namesWhoUsesTheMount},
		{"it does not start while its disks are mounted", lab.doesNotStartWhileMounted},
		{"a volume is what its file is, not what its guest has written there", lab.volumeIsWhatItsFileIs},
		{"renamed it works in every command, and is removed with all its disks", lab.worksRenamed},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.test(lab{t}) }) {
			return // the next ones would fail for the same reason
		}
	}
	l.clean(0)
}

// mountsItsDataDisk: what is written there would hide below the disk otherwise.
func (l lab) mountsItsDataDisk() {
	l.vm("mount", "web1")
	l.write("/mnt/web1/srv/files/noted", "from the node\n")
	if got := l.tool("findmnt", "--noheadings", "--output", "OPTIONS", "--target", "/run/instance-debootstrap/guest/web1/srv/files"); !strings.Contains(got, "nosuid") || !strings.Contains(got, "nodev") || !strings.Contains(got, "noexec") {
		l.Errorf("it is mounted with %s", got)
	}
	// A folder that is a link leads where it leads in the guest.
	l.tool("sh", "-c", "cd /mnt/web1 && mkdir etc/there && sed -i 's| /srv/files | /srv/link |' etc/fstab && ln -s /etc/there srv/link")
	l.vm("umount", "web1")
	l.vm("mount", "web1")
	if text, err := os.ReadFile("/mnt/web1/etc/there/noted"); string(text) != "from the node\n" {
		l.Errorf("by a link: %q %v", text, err)
	}
	if _, err := os.Stat("/etc/there"); err == nil {
		l.Error("it went to the node's own folder")
	}
	l.tool("sh", "-c", "cd /mnt/web1 && sed -i 's| /srv/link | /srv/none |' etc/fstab")
	l.tool("umount", "-R", "/mnt/web1")
	l.fails("/srv/none", program, "vm", "mount", "web1")
	if found := l.try("sh", "-c", "grep /guest/web1 /proc/self/mountinfo"); found != "" {
		l.Errorf("there stays\n%s", found)
	}
	l.tool("sh", "-c", "mkdir -p /srv/by-hand && "+program+" mount "+pool+"/web1-root /srv/by-hand && sed -i 's| /srv/none | /srv/files |' /srv/by-hand/etc/fstab && umount /srv/by-hand && rmdir /srv/by-hand")
}

func (l lab) namesWhoUsesTheMount() {
	l.vm("mount", "--read-only", "web1")
	user := exec.Command("sleep", "60")
	user.Dir = "/mnt/web1/srv/files"
	if err := user.Start(); err != nil {
		l.Fatal(err)
	}
	l.fails(fmt.Sprintf(`/mnt/web1 is used by "sleep" (process %d): `, user.Process.Pid), program, "vm", "umount", "web1")
	user.Process.Kill()
	user.Wait()
	l.vm("umount", "web1")
}

func (l lab) worksRenamed() {
	l.virsh("domrename", "web1", "web9")
	if got := l.vm("show", "web9"); !strings.Contains(got, "root: "+pool+"/web1-root (3072 MiB, pool default)") {
		l.Errorf("show says:\n%s", got)
	}
	for _, command := range []string{"show", "mount", "remove"} {
		l.fails("libvirt has no guest web1: the guest web9 was made as web1, and renamed", program, "vm", command, "web1")
	}
	l.vm("grub", "web9")
	l.vm("grow", "--root-size", "+1G", "web9")
	l.vm("mount", "web9")
	if _, err := os.Stat("/mnt/web9/boot/grub/grub.cfg"); err != nil {
		l.Error(err)
	}
	for _, more := range [][]string{nil, {"--dry-run"}} {
		l.fails("the guest web9 was made as web1, and still has its console's log: take another name", append(append([]string{program, "vm"}, small(append(more, "--layout", "single")...)...), "web1")...)
	}
	l.virsh("domrename", "web9", "web8")
	l.fails("is in use", program, "vm", "remove", "--yes", "web8") // it is still mounted
	l.vm("umount", "web9")
	said := l.fails("web1-boot exists already in pool default, and is a disk of the guest web8: take another name", append(append([]string{program, "vm"}, small()...), "web1")...)
	if strings.Contains(said, "vol-delete") {
		l.Errorf("it would have a guest's disk deleted:\n%s", said)
	}
	l.vm("remove", "--yes", "web8")
}

func (l lab) doesNotStartWhileMounted() {
	for _, how := range [][]string{{"mount"}, {"mount", "--read-only"}} {
		l.vm(append(how, "web1")...)
		l.fails(`Failed to get "write" lock`, "virsh", "-q", "start", "web1")
		l.tool("umount", "-R", "/mnt/web1")
		l.virsh("start", "web1")
		if len(how) == 1 {
			l.fails("shut it down first", append(append([]string{program, "vm"}, how...), "web1")...)
		} else {
			l.vm("mount", "--read-only", "web1") // as it was some moments ago
			l.vm("umount", "web1")
		}
		l.virsh("destroy", "web1")
	}
}

// exported is the backup of the only disk of a guest, as Ganeti has it made.
func (l lab) exported(guest, file string) {
	l.Helper()
	l.tool("ln", "-sf", "instance-debootstrap", "/srv/export")
	l.tool("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "OS_API_VERSION=20", "OS_NAME=debootstrap", "OS_VARIANT=default", "INSTANCE_OS=debootstrap", "INSTANCE_NAME="+guest,
		"HYPERVISOR=kvm", "DEBUG_LEVEL=0", "NIC_COUNT=0", "DISK_COUNT=1", "DISK_0_PATH="+pool+"/"+guest, "DISK_0_ACCESS=w", "EXPORT_INDEX=0", "EXPORT_DEVICE="+pool+"/"+guest,
		"sh", "-c", "/srv/export >"+file)
}

func TestAGuestDoesNotGrowIntoAPoolWithoutRoom(t *testing.T) {
	l := newLab(t)
	const small = "/srv/small"
	l.tool("mkdir", small)
	l.tool("mount", "-t", "tmpfs", "-o", "size=512M", "tmpfs", small)
	defer l.tool("sh", "-c", "umount "+small+"; rmdir "+small)
	l.tool("virsh", "-q", "pool-create-as", "small", "dir", "--target", small)
	defer l.tool("virsh", "-q", "pool-destroy", "small")
	l.tool("virsh", "-q", "vol-create-as", "small", "web2-root", "64M", "--format", "raw", "--allocation", "0")
	l.tool("mkfs.ext4", "-q", small+"/web2-root")
	l.domain("web2", small+"/web2-root")
	for _, row := range []struct{ size, says string }{
		{"14T", "pool small has 512 MiB in all, and 14680064 MiB are asked for"},
		{"400M", "the larger filesystem's tables need up to 6 MiB at once"},
	} {
		if row.size == "400M" {
			l.tool("sh", "-c", `fallocate -l $(($(df --output=avail -B1 "$1" | tail -n 1) - 4194304)) "$1/full"`, "sh", small)
		}
		l.fails(row.says, program, "vm", "grow", "--root-size", row.size, "web2")
		if st, err := os.Stat(small + "/web2-root"); err != nil || st.Size() != 64<<20 {
			t.Errorf("the volume: %v %v", st, err)
		}
	}
	l.tool("rm", small+"/full")
	l.vm("grow", "--root-size", "400M", "web2")
	l.vm("remove", "--yes", "web2")
	l.clean(0)
}
