//go:build root

package libvirt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// uuid is libvirt's of a domain, also of one whose name virsh takes for something else.
func (l lab) uuid(name string) string {
	l.Helper()
	for line := range strings.Lines(l.tool("virsh", "-q", "list", "--all", "--uuid", "--name")) {
		if uuid, of, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " "); of == name {
			return uuid
		}
	}
	l.Fatalf("there is no domain %q", name)
	return ""
}

// domain defines a domain of somebody else's, with a disk; "" is none.
func (l lab) domain(name, disk string) {
	l.Helper()
	if disk != "" {
		disk = "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='" + disk + "'/><target dev='vda'/></disk>"
	}
	l.write("/srv/domain.xml", "<domain type='qemu'><name>"+name+"</name><memory>65536</memory><os><type arch='x86_64'>hvm</type></os><devices>"+disk+"</devices></domain>")
	l.tool("virsh", "-q", "define", "/srv/domain.xml")
}

func TestAGuestIsNeverTakenForTheOneThatHasItsNameAsANumber(t *testing.T) {
	l := newLab(t)
	l.machine(nil)
	number := strings.TrimSpace(l.tool("virsh", "-q", "domid", "web2"))
	l.tool("virsh", "-q", "vol-create-as", "default", number+"-root", "1M", "--format", "raw")
	l.domain(number, pool+"/"+number+"-root")
	if got := l.vm("show", number); !strings.Contains(got, "state: shut off\n") || !strings.Contains(got, number+"-root") {
		t.Errorf("show:\n%s", got)
	}
	l.vm("start", number)
	l.fails("virsh resume "+l.uuid(number)+" first", "sh", "-c", "virsh -q suspend "+l.uuid(number)+"; "+program+" vm stop "+number)
	l.vm("remove", "--yes", "--stop", number)
	if left, _ := filepath.Glob(pool + "/*"); l.state("web2") != "running" || len(left) != 2 {
		t.Errorf("web2 is %s, and of the volumes are left %v", l.state("web2"), left)
	}
	l.fails("a number is what virsh knows running domains by: put a letter before it, as vm7", append(append([]string{program, "vm"}, small()...), "7")...)
	l.vm("remove", "--yes", "--stop", "--stop-time", "0s", "web2")
	l.clean(0)
}

func TestDoctorTellsOfScreensThatTheScriptOf2009LeftOpen(t *testing.T) {
	l := newLab(t)
	for name, listen := range map[string]string{"old1": "", "old2": "<listen type='socket'/>"} {
		l.write("/srv/domain.xml", "<domain type='qemu'><name>"+name+"</name><memory>65536</memory><os><type arch='x86_64'>hvm</type></os><devices><disk type='file' device='disk'>"+
			"<driver name='qemu' type='raw'/><source file='"+pool+"/"+name+"-root'/><target dev='vda'/></disk><graphics type='vnc'>"+listen+"</graphics></devices></domain>")
		l.tool("virsh", "-q", "define", "/srv/domain.xml")
		defer l.tool("virsh", "-q", "undefine", name)
	}
	said := l.try(program, "doctor")
	if !strings.Contains(said, "old1: its screen is on a port of the node's") || !strings.Contains(said, "virsh edit old1") || strings.Contains(said, "old2: its screen") {
		t.Errorf("doctor:\n%s", said)
	}
}

func TestAPlainUmountLeavesNothing(t *testing.T) {
	l := newLab(t)
	l.machine(nil)
	l.tool("virsh", "-q", "destroy", "web2")
	l.tool("mkfs.ext4", "-q", "-F", pool+"/web2-boot", "1M")
	l.tool("sh", "-c", "mkdir /srv/t && mount -o loop "+pool+"/web2-root /srv/t && mkdir /srv/t/boot && umount /srv/t && rmdir /srv/t")
	for _, command := range [][]string{{"list"}, {"start", "web2"}} {
		l.vm("mount", "--read-only", "web2")
		l.tool("umount", "-R", "/mnt/web2")
		l.vm(command...)
		for _, name := range []string{"/mnt/web2", "/run/instance-debootstrap/guest/web2"} {
			if _, err := os.Lstat(name); err == nil {
				t.Errorf("after vm %s there is %s", command[0], name)
			}
		}
	}
	l.vm("remove", "--yes", "--stop", "--stop-time", "0s", "web2")
	l.clean(0)
}

func TestADomainWithAnOddNameStopsNoCommand(t *testing.T) {
	l := newLab(t)
	names := []string{" lead", "trail ", "--help", "two words"}
	for _, name := range names {
		l.domain(name, "")
	}
	if got := l.vm("list", "--json"); strings.TrimSpace(got) != "[]" {
		t.Errorf("list has guests of others: %s", got)
	}
	l.vm(small("--dry-run", "web1")...)
	l.machine(nil)
	l.vm("remove", "--yes", "--stop", "--stop-time", "0s", "web2")
	for _, name := range names {
		l.tool("virsh", "-q", "undefine", l.uuid(name))
	}
	l.clean(0)
}

func TestAHalfMadeGuestOfAPoolThatIsGoneStopsNoOther(t *testing.T) {
	l := newLab(t)
	l.tool("virsh", "-q", "vol-create-as", "default", "web7-swap", "1M", "--format", "raw")
	l.write(stateDir+"/web7.making", `{"guest":"web7","uuid":"6c1d0a52-8e1b-4b0a-9a51-0d6c5e2f1a11","pool":"gone","volumes":[{"name":"web7-root","bytes":1048576,"made":true},{"pool":"default","name":"web7-swap","bytes":1048576,"made":true}]}`)
	l.write(stateDir+"/web8.making", "")
	begin := time.Now()
	said := l.tool("sh", "-c", program+" vm list 2>&1")
	for _, says := range []string{
		"the pool gone of its volume web7-root is not active in libvirt: start it (virsh pool-start gone), or remove " + stateDir + "/web7.making if it is gone for good",
		stateDir + "/web8.making is damaged: remove the guest's volumes by hand, then this file",
	} {
		if !strings.Contains(said, says) {
			t.Errorf("it does not say %q:\n%s", says, said)
		}
	}
	l.machine(nil)
	l.vm("remove", "--yes", "--stop", "--stop-time", "0s", "web2")
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, name := range []string{"web7", "web8"} {
		l.tool("rm", stateDir+"/"+name+".making")
	}
	l.clean(0) // also web7-swap is gone
}

func TestWhatAnUndefinedGuestHasLeftIsNamed(t *testing.T) {
	l := newLab(t)
	l.machine(nil)
	l.fails("libvirt has no guest web3 (vm list", program, "vm", "show", "web3")
	l.virsh("destroy", "web2")
	l.virsh("undefine", "web2")
	const remedy = "if it was undefined, and they are of no use: virsh vol-delete --pool default web2-boot; virsh vol-delete --pool default web2-root\n"
	for _, command := range [][]string{{"show"}, {"mount"}, {"remove", "--yes"}} {
		l.fails("libvirt has no guest web2, but volumes that are named after it, and that no domain has: "+remedy, append(append([]string{program, "vm"}, command...), "web2")...)
	}
	if said := l.tool("sh", "-c", program+" vm list 2>&1"); !strings.Contains(said, "no domain has the volumes that are named after a guest web2: "+remedy) {
		t.Errorf("list says:\n%s", said)
	}
	l.domain("other", pool+"/web2-root") // of another name
	if said := l.fails("virsh vol-delete --pool default web2-boot", program, "vm", "remove", "--yes", "web2"); strings.Contains(said, "web2-root") {
		t.Errorf("a disk of another is named:\n%s", said)
	}
	l.virsh("undefine", "other")
	for _, name := range []string{"web2-boot", "web2-root"} {
		l.virsh("vol-delete", "--pool", "default", name)
	}
	if said := l.tool("sh", "-c", program+" vm list 2>&1"); strings.Contains(said, "web2") {
		t.Errorf("list still says:\n%s", said)
	}
	l.clean(0)
}
