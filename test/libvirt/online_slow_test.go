//go:build root && slow

package libvirt

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestARunningGuestGrowsOnAnMSDOSTableAndBtrfsAndXFSOnceAndNotTwice: a partition of an msdos table, and a disk
// without one. What the guest couldn't do is repeated, by the command that it is told with.
func TestARunningGuestGrowsOnAnMSDOSTableAndBtrfsAndXFSOnceAndNotTwice(t *testing.T) {
	l := newLab(t)
	const settings = "/etc/default/ganeti-instance-debootstrap"
	text, err := os.ReadFile(settings)
	if err != nil {
		t.Fatal(err)
	}
	l.write(settings, string(text)+"DATA_DISKS=\"data1=/srv:btrfs,data2=/opt/files:xfs\"\n")
	l.vm(small("--layout", "single", "--disk", "256M", "--disk", "512M", "--wait", "web2")...)
	seen := func(folder string) (fstype, size string) {
		t.Helper()
		f := strings.Fields(l.ssh("web2", "df --output=fstype,size -BM "+folder+" | tail -1"))
		return f[0], f[1]
	}
	l.vm("grow", "--root-size", "+1G", "web2")
	if fstype, size := seen("/"); fstype != "ext4" || len(size) != 5 || size < "3700M" {
		t.Errorf("its root is %s of %s", fstype, size)
	}
	_, before := seen("/opt/files")
	l.vm("grow", "--disk", "data2", "--size", "+256M", "web2")
	if fstype, size := seen("/opt/files"); fstype != "xfs" || len(size) != 4 || size < before || size < "700M" {
		t.Errorf("its second data disk is %s of %s, and had %s", fstype, size, before)
	}
	l.ssh("web2", "mount --bind /bin/false /usr/bin/btrfs || mount --bind /bin/false /bin/btrfs")
	said := l.fails("the volume has 512 MiB, and what is on it is still to be grown", program, "vm", "grow", "--disk", "data1", "--size", "+256M", "web2")
	size := regexp.MustCompile(`\(([0-9]+M), not one to add\)`).FindStringSubmatch(said)
	l.ssh("web2", "umount /usr/bin/btrfs || umount /bin/btrfs")
	if size == nil {
		t.Fatal(said)
	}
	l.vm("grow", "--disk", "data1", "--size", size[1], "web2")
	if fstype, size := seen("/srv"); fstype != "btrfs" || size != "512M" {
		t.Errorf("its data disk is %s of %s", fstype, size)
	}
	if st, err := os.Stat(pool + "/web2-data1"); err != nil || st.Size() != 512<<20 {
		t.Errorf("the volume: %v %v", st, err)
	}
	l.tool("sfdisk", "--verify", pool+"/web2")
	l.vm("remove", "--yes", "--stop", "--stop-time", "0s", "web2")
	l.clean(5 * time.Second)
}

func TestARunningGuestGrowsWhoseRootIsXFS(t *testing.T) {
	l := newLab(t)
	const settings = "/etc/default/ganeti-instance-debootstrap"
	text, err := os.ReadFile(settings)
	if err != nil {
		t.Fatal(err)
	}
	l.write(settings, string(text)+"OSP_FILESYSTEM=xfs\n")
	l.vm(small("--wait", "web2")...)
	root := func() []string {
		t.Helper()
		return strings.Fields(l.ssh("web2", "df --output=fstype,size -BM / | tail -1"))
	}
	before := root()
	l.vm("grow", "--root-size", "+1G", "web2")
	if after := root(); after[0] != "xfs" || len(after[1]) != 5 || after[1] < "4000M" {
		t.Errorf("its root is %v, and was %v", after, before)
	}
	l.shutDown("web2")
	l.tool("xfs_repair", "-n", pool+"/web2-root")
	l.vm("remove", "--yes", "web2")
	l.clean(5 * time.Second)
}
