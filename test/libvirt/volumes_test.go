//go:build root

package libvirt

import (
	"os"
	"strings"
	"testing"
)

func (l lab) virsh(args ...string) string {
	l.Helper()
	return l.tool(append([]string{"virsh", "-q"}, args...)...)
}

func TestARenamedGuestWorksInEveryCommandAndIsRemovedWithAllItsDisks(t *testing.T) {
	l := newLab(t)
	l.vm(small("web1")...)
	l.virsh("domrename", "web1", "web9")
	if got := l.vm("show", "web9"); !strings.Contains(got, "root: "+pool+"/web1-root (3072 MiB, pool default)") {
		t.Errorf("show says:\n%s", got)
	}
	l.vm("grub", "web9")
	l.vm("grow", "--root-size", "+1G", "web9")
	l.vm("mount", "web9")
	if _, err := os.Stat("/mnt/web9/boot/grub/grub.cfg"); err != nil {
		t.Error(err)
	}
	l.fails("the guest web9 was made as web1, and still has its console's log: take another name", append(append([]string{program, "vm"}, small("--layout", "single")...), "web1")...)
	l.virsh("domrename", "web9", "web8")
	l.fails("is in use", program, "vm", "remove", "--yes", "web8") // it is still mounted
	l.vm("umount", "web9")
	said := l.fails("web1-boot exists already in pool default, and is a disk of the guest web8: take another name", append(append([]string{program, "vm"}, small()...), "web1")...)
	if strings.Contains(said, "vol-delete") {
		t.Errorf("it would have a guest's disk deleted:\n%s", said)
	}
	l.vm("remove", "--yes", "web8")
	l.clean(0)
}

// TestACloneIsNotTakenForItsOriginal: virt-clone takes the metadata along.
func TestAGuestDoesNotStartWhileItsDisksAreMounted(t *testing.T) {
	l := newLab(t)
	l.vm(small("web1")...)
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
	l.vm("remove", "--yes", "web1")
	l.clean(0)
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
