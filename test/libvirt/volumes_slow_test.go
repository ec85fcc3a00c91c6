//go:build root && slow

package libvirt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSnapshotsGoWithTheirGuestAndAreNeverPassedOver(t *testing.T) {
	l := newLab(t)
	l.vm(small("web1")...)
	l.tool("mkdir", "-p", "/srv/elsewhere")
	l.virsh("snapshot-create-as", "web1", "first", "--disk-only")
	l.virsh("snapshot-create-as", "web1", "second", "--disk-only", "--diskspec", "vdb,file=/srv/elsewhere/second")
	for _, args := range [][]string{{"mount"}, {"mount", "--read-only"}, {"grub"}, {"grow", "--root-size", "+1G"}} {
		l.fails("virsh start web1; virsh blockcommit web1 vdb --active --pivot --wait; virsh snapshot-delete web1 NAME --metadata", append(append([]string{program, "vm"}, args...), "web1")...)
	}
	// What lies in no pool is named, and the exit isn't 0.
	l.fails("the guest web1 is removed, but these disks of it are not: /srv/elsewhere/second (in no active pool of libvirt's)", program, "vm", "remove", "--yes", "web1")
	l.tool("rm", "/srv/elsewhere/second")
	l.clean(0)

	// The one below the other alone says what it is over.
	l.vm(small("web1")...)
	l.virsh("snapshot-create-as", "web1", "first", "--disk-only", "--no-metadata")
	l.virsh("snapshot-create-as", "web1", "second", "--disk-only", "--no-metadata")
	l.virsh("domrename", "web1", "web9")
	l.vm("remove", "--yes", "web9")
	l.clean(0)
}

func TestTheCommandThatMergesASnapshotDoes(t *testing.T) {
	l := newLab(t)
	l.machine(nil)
	l.virsh("snapshot-create-as", "web2", "first", "--disk-only")
	said := l.fails("a snapshot over the volume web2-root", program, "vm", "grow", "--root-size", "+64M", "web2")
	_, command, _ := strings.Cut(said, "(")
	command, _, _ = strings.Cut(command, "; virsh snapshot-delete")
	l.tool("sh", "-c", command)
	l.tool("sh", "-c", strings.ReplaceAll(command, "vdb", "vda"))
	l.virsh("destroy", "web2")
	l.vm("grow", "--root-size", "+64M", "web2")
	if _, err := os.Stat(pool + "/web2-root.first"); err != nil {
		t.Fatal(err) // libvirt leaves it
	}
	l.vm("remove", "--yes", "web2") // by the snapshot
	l.clean(0)

	l.machine(nil)
	l.virsh("snapshot-create-as", "web2", "first", "--disk-only", "--diskspec", "vda,snapshot=no")
	l.tool("sh", "-c", command)
	l.virsh("snapshot-delete", "web2", "first", "--metadata")
	l.fails("web2-root.first (an overlay of web2-root: virsh vol-delete --pool default web2-root.first)", program, "vm", "remove", "--yes", "--stop", "--stop-time", "0s", "web2")
	l.virsh("vol-delete", "--pool", "default", "web2-root.first")
	l.clean(0)
}

func TestACloneIsNotTakenForItsOriginal(t *testing.T) {
	l := newLab(t)
	l.vm(small("--layout", "single", "web1")...)
	xml := l.virsh("dumpxml", "web1")
	uuid := strings.TrimSpace(l.virsh("domuuid", "web1"))
	clone := func(name, newUUID, disk, format string) {
		xml := strings.Replace(xml, "<uuid>"+uuid+"<", "<uuid>"+newUUID+"<", 1)
		l.write("/srv/clone.xml", strings.NewReplacer("<name>web1<", "<name>"+name+"<",
			"<source file='"+pool+"/web1'/>", "<source file='"+disk+"'/>", "type='raw'", "type='"+format+"'").Replace(xml))
		l.virsh("define", "/srv/clone.xml")
	}
	l.tool("cp", "--sparse=always", pool+"/web1", pool+"/web1-clone")
	clone("web7", "7d70d262-2bf1-4dcf-ac2f-c248e6ceffa2", pool+"/web1-clone", "raw")
	l.vm("remove", "--yes", "web7")
	if left, _ := filepath.Glob(pool + "/*"); len(left) != 1 || left[0] != pool+"/web1" {
		t.Errorf("of the volumes are left %v", left)
	}

	l.tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", pool+"/web1", "-F", "raw", pool+"/linked")
	clone("web7", "7d70d262-2bf1-4dcf-ac2f-c248e6ceffa2", pool+"/linked", "qcow2")
	l.fails("/web1 is also a disk of the guest web7, or below one: remove web7 first", program, "vm", "remove", "--yes", "web1")
	l.fails("the guest web7 is removed, but these disks of it are not: "+pool+"/web1 (not made with it)", program, "vm", "remove", "--yes", "web7")
	l.tool("truncate", "-s", "1M", "/srv/other")
	l.virsh("attach-disk", "web1", "/srv/other", "vdx", "--config")
	l.fails("these disks of it are not: /srv/other (not made with it)", program, "vm", "remove", "--yes", "web1")
	l.tool("rm", "/srv/other")
	l.clean(5 * time.Second)
}

func TestFurtherDisksAreMadeGrownAndRemovedWithTheGuest(t *testing.T) {
	l := newLab(t)
	l.tool("mkdir", "-p", "/srv/second")
	l.virsh("pool-create-as", "second", "dir", "--target", "/srv/second")
	defer l.try("virsh", "-q", "pool-destroy", "second")
	l.fails(`"size=3" is not known; write it as SIZE[,pool=POOL][,mount=FOLDER]`, append(append([]string{program, "vm"}, small("--disk", "1G,size=3")...), "web1")...)
	l.vm(small("--disk", "128M", "--disk", "256M,mount=/srv/files,pool=second", "web1")...)
	show := l.vm("show", "web1")
	for _, says := range []string{"data1: " + pool + "/web1-data1 (128 MiB, pool default)", "data2: /srv/second/web1-data2 (256 MiB, pool second)"} {
		if !strings.Contains(show, says) {
			t.Errorf("show does not say %q:\n%s", says, show)
		}
	}
	if xml := l.virsh("dumpxml", "web1"); !strings.Contains(xml, "<serial>data2</serial>") || !strings.Contains(xml, "dev='vde'") {
		t.Errorf("the domain:\n%s", xml)
	}
	if found := l.try("blkid", "-p", pool+"/web1-data1"); found != "" {
		t.Errorf("the first is not blank: %s", found)
	}
	l.vm("mount", "web1")
	if fstab := l.tool("cat", "/mnt/web1/etc/fstab"); !strings.Contains(fstab, " /srv/files ") {
		t.Errorf("fstab:\n%s", fstab)
	}
	l.vm("umount", "web1")
	if said := l.tool("sh", "-c", program+" vm grow --disk data1 --size +64M web1 2>&1"); !strings.Contains(said, "volume web1-data1 has 192 MiB; what is on it is the guest's to grow") {
		t.Errorf("it says:\n%s", said)
	}
	if said := l.tool("sh", "-c", program+" vm grow --disk data2 --size 512M web1 2>&1"); !strings.Contains(said, "its ext4 from 256 MiB to 512 MiB") {
		t.Errorf("it says:\n%s", said)
	}
	l.fails("has no disk data3 of its own: it has boot, root, swap, data1, data2", program, "vm", "grow", "--disk", "data3", "--size", "+1G", "web1")
	l.vm("remove", "--yes", "web1")
	if left, _ := filepath.Glob("/srv/second/*"); len(left) != 0 {
		t.Errorf("there stays %v", left)
	}
	l.clean(0)
}

func TestAGuestIsMadeOfABackup(t *testing.T) {
	l := newLab(t)
	l.vm(small("--layout", "single", "web1")...)
	l.exported("web1", "/srv/backup")
	uuid := func(guest string) string {
		return l.tool("blkid", "-p", "-O", "1048576", "-o", "value", "-s", "UUID", pool+"/"+guest)
	}
	create := []string{"create", "--user-net", "--ssh-key", key + ".pub", "--from-backup"}
	l.vm(append(create, "/srv/backup", "web2")...)
	if one, two := uuid("web1"), uuid("web2"); one == two || two == "" {
		t.Errorf("the filesystems are %s and %s", one, two)
	}
	l.vm("mount", "web2")
	hostKey := strings.Fields(l.tool("ssh-keygen", "-l", "-f", "/mnt/web2/etc/ssh/ssh_host_ed25519_key.pub"))[1]
	if name := l.tool("cat", "/mnt/web2/etc/hostname", "/mnt/web2/etc/machine-id"); !strings.HasPrefix(name, "web2") || len(strings.Fields(name)) > 2 {
		t.Errorf("it is called %q", name)
	}
	if fstab, id := l.tool("cat", "/mnt/web2/etc/fstab"), strings.TrimSpace(uuid("web2")); !strings.Contains(fstab, id) {
		t.Errorf("fstab has not %s:\n%s", id, fstab)
	}
	l.vm("umount", "web2")
	if show := l.vm("show", "web2"); !strings.Contains(show, hostKey) || !strings.Contains(show, "(3072 MiB, pool default)") {
		t.Errorf("show says:\n%s", show)
	}
	l.vm("remove", "--yes", "web2")

	// What is no backup, is cut, or is of another disk makes nothing.
	l.tool("sh", "-c", "head -c 1000000 /srv/backup >/srv/cut; echo no >/srv/none")
	l.fails("not in a format that import knows", append(append([]string{program, "vm"}, create...), "/srv/none", "web2")...)
	l.fails("the guest is as it was", append(append([]string{program, "vm"}, create...), "/srv/backup", "--extra-pkgs", "tree", "web2")...)
	l.fails("--first-boot is for new ones", append(append([]string{program, "vm"}, create...), "/srv/backup", "--first-boot", "/srv/none", "web2")...)
	l.fails("import the backup: ", append(append([]string{program, "vm"}, create...), "/srv/cut", "web2")...)
	l.vm("remove", "--yes", "web1")
	l.clean(5 * time.Second)
}

func TestWhatLibvirtKeepsOfOtherDomainsGoesWithNoGuest(t *testing.T) {
	l := newLab(t)
	others := []string{"/var/lib/libvirt/qemu/nvram/web1_VARS.fd", "/var/log/libvirt/qemu/web1-console.log", "/var/log/libvirt/qemu/web1.log"}
	for _, name := range others {
		l.write(name, "another's")
	}
	l.vm(small("--layout", "single", "--firmware", "uefi", "web1")...)
	xml := l.tool("virsh", "-q", "dumpxml", "--inactive", "web1")
	if show := l.vm("show", "web1"); !strings.Contains(show, "\nnic: 52:54:00:") || !strings.Contains(show, " QEMU's user-mode network\n") {
		t.Errorf("show:\n%s", show)
	}
	l.vm("remove", "--yes", "web1")
	for _, name := range others {
		if strings.Contains(xml, name) {
			t.Errorf("the domain has %s", name)
		}
		if text, _ := os.ReadFile(name); string(text) != "another's" {
			t.Errorf("%s has %q", name, text)
		}
		os.Remove(name)
	}
	l.clean(0)
}
