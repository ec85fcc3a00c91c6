//go:build root

package libvirt

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestWhatIsThereIsNeverTouched(t *testing.T) {
	l := newLab(t)
	l.tool("virsh", "-q", "vol-create-as", "default", "web1-swap", "1M", "--format", "raw")
	l.write("/srv/foreign.xml", "<domain type='qemu'><name>web2</name><memory>65536</memory><os><type arch='x86_64'>hvm</type></os></domain>")
	l.tool("virsh", "-q", "define", "/srv/foreign.xml")
	create := append([]string{program, "vm"}, small()...)
	l.fails("web1-swap exists already", append(create, "web1")...)
	l.fails("web2 exists already", append(create, "web2")...)
	l.fails("no volume that is named after it", program, "vm", "remove", "--yes", "web2")
	if got := l.vm("list", "--json"); strings.TrimSpace(got) != "[]" {
		t.Errorf("list has guests of others: %s", got)
	}
	if found := l.remnants(); len(found) != 3 { // the domain, the volume, its file
		t.Errorf("on the node are %v", found)
	}
	l.tool("virsh", "-q", "undefine", "web2")
	l.tool("virsh", "-q", "vol-delete", "--pool", "default", "web1-swap")
}

func TestWrongOptionsAreAllNamedBeforeAnythingIsMade(t *testing.T) {
	l := newLab(t)
	out, err := exec.Command(program, "vm", "create", "--layout", "single", "--firmware", "coreboot", "--memory", "1", "--vcpus", "x", "--root-size", "big",
		"--pool", "none", "--arch", "vax", "--bridge", "br9", "--ssh-key", "/none", "web1").CombinedOutput()
	for _, says := range []string{"coreboot", `--memory "1": must be`, `--vcpus "x": must be`, `--root-size "big": must be a number`, "no active pool none", `--arch "vax"`, "no bridge br9", "--ssh-key /none"} {
		if !strings.Contains(string(out), says) {
			t.Errorf("it does not say %q", says)
		}
	}
	if err == nil || t.Failed() {
		t.Errorf("%v:\n%s", err, out)
	}
	l.fails("needs --layout single", append(append([]string{program, "vm"}, small("--firmware", "uefi")...), "web1")...)
	l.fails("nobody could log in", program, "vm", "create", "--user-net", "web1")
	l.fails(`--root-size "100M": must be at least 511 MiB`, append(append([]string{program, "vm"}, small("--root-size", "100M")...), "web1")...)
	byLayout := append([]string{program, "vm"}, small("--layout", "far", "web1")...)
	l.fails(`--layout "far": must be boot+root+swap, single or a file of LAYOUT: there is no /etc/ganeti/instance-debootstrap/layouts/far: write it`, byLayout...)
	l.layoutFile("far", "0 4G ext4 /\n1 rest ext4 /srv\n")
	l.fails("layouts/far:2: a layout of vm create is for its one volume", byLayout...)
	l.layoutFile("far", "0 4G ext4 /\n")
	l.fails("LAYOUT: /etc/ganeti/instance-debootstrap/layouts/far: ", byLayout...)
	l.fails("give --root-size", program, "vm", "grow", "web1")
	l.fails(`--root-size "x": must be a number`, program, "vm", "grow", "--root-size", "+x", "web1")
	l.fails("its name may have", program, "vm", "create", "../web1")
	l.clean(0)
}

func TestADryRunTouchesNothing(t *testing.T) {
	l := newLab(t)
	out := l.vm(small("--dry-run", "web1")...)
	for _, says := range []string{"vm create of web1 on ", "web1-boot (512 MiB), web1-root (3072 MiB), web1-swap (64 MiB) in pool default", "its names are free", "move /boot onto its disk"} {
		if !strings.Contains(out, says) {
			t.Errorf("it does not say %q:\n%s", says, out)
		}
	}
	l.clean(0)
}

func TestTheOldCommandLineAndItsFile(t *testing.T) {
	l := newLab(t)
	old := func(args ...string) []string { return append([]string{"/srv/vmbootstrap"}, args...) }
	// The settings' own mirror is of no use: the key debian_mirror is over it.
	l.write("/etc/default/ganeti-instance-debootstrap", "MIRROR=http://mirror.invalid/debian\nSUITE=none\nMETRICS_DIR=/srv\n"+packages)
	l.write("/etc/timezone", "Europe/Lisbon\n")
	l.tool("ln", "-sf", "/usr/share/zoneinfo/Europe/Lisbon", "/etc/localtime")
	l.write("/etc/default/locale", "LANG=pt_PT.UTF-8\n")
	defer os.Remove("/etc/default/locale")
	l.write("/etc/locale.gen", "pt_PT.UTF-8 UTF-8\n")
	l.write("/etc/default/keyboard", "XKBLAYOUT=\"pt\"\n")
	l.write("/root/.vmbootstrap", "debian_mirror="+os.Getenv("TEST_MIRROR")+"\nboot_size=128M\nroot_size=3G\nswap_size=64M\nlibvirt_mem=524288\nlibvirt_vcpu=2\nlibvirt_arch=x86_64\ninterface=lan0\n"+
		"kernelpkg=linux-image-cloud-amd64\ndebian_release=$(. /etc/os-release; echo $VERSION_CODENAME)\nnetmask=255.255.255.0\nbroadcast=192.0.2.255\n"+
		"gateway=192.0.2.1\ndns_search='a.example b.example'\ndns_nameservers='192.0.2.53 192.0.2.54'\ndomain=old.example\n")
	defer os.Remove("/root/.vmbootstrap")
	l.write("/root/.ssh/authorized_keys", strings.TrimSpace(l.tool("cat", key+".pub"))+"\n")
	defer os.RemoveAll("/root/.ssh")
	l.tool("ip", "link", "add", "br0", "type", "bridge")
	defer l.try("ip", "link", "del", "br0")

	if got := l.tool(old("-s")...); !strings.Contains(got, "root_size=\"3G\"\n") || !strings.Contains(got, "dns_search=\"a.example b.example\"\n") {
		t.Errorf("-s:\n%s", got)
	}
	defaults := l.vm("defaults")
	if lines := regexp.MustCompile(`(?m)^[a-z_]+=".+" +# /root/.vmbootstrap:[0-9]+$`).FindAllString(defaults, -1); len(lines) != 16 {
		t.Errorf("of 16 keys %d come from the file:\n%s", len(lines), defaults)
	}
	for _, says := range []string{
		`root_size="3G" +# /root/.vmbootstrap:3`, `broadcast="192.0.2.255" +#`, `debian_release="` + os.Getenv("TEST_SUITE") + `" +#`, `(?m)^# bridge: br0 \(the node's interfaces\)$`,
		`(?m)^# time zone: Europe/Lisbon \(/etc/(timezone|localtime)\)$`, `(?m)^# locale: pt_PT.UTF-8 \(/etc/default/locale\)$`, `(?m)^# keyboard: .* \(/etc/default/keyboard\)$`,
		`(?m)^# ssh keys: ssh-ed25519 .* \(/root/.ssh/authorized_keys\)$`,
	} {
		if !regexp.MustCompile(says).MatchString(defaults) {
			t.Errorf("defaults do not say %s:\n%s", says, defaults)
		}
	}
	l.fails("--ip is needed", old("default", "web1")...)
	l.tool(old("-i", "192.0.2.9", "default", "web1")...)
	figures, err := os.ReadFile("/srv/instance-debootstrap-create-.vm.prom")
	for _, says := range []string{`creates_total{variant=".vm",result="success"} 1` + "\n", `last_create_disk_size_bytes{variant=".vm"} `, `step="define the domain"} `} {
		if err != nil || !strings.Contains(string(figures), says) {
			t.Errorf("no %s in the figures: %v\n%s", says, err, figures)
		}
	}

	var domain struct {
		Volumes map[string]struct{ Bytes int64 }
	}
	if err := json.Unmarshal([]byte(l.vm("show", "--json", "web1")), &domain); err != nil || domain.Volumes["boot"].Bytes != 512<<20 || domain.Volumes["root"].Bytes != 3<<30 || domain.Volumes["swap"].Bytes != 64<<20 {
		t.Errorf("volumes %+v %v", domain, err)
	}
	xml := l.tool("virsh", "-q", "dumpxml", "web1")
	for _, says := range []string{"<memory unit='KiB'>524288</memory>", ">2</vcpu>", "<source bridge='br0'/>", "<address>192.0.2.9</address>", "<type arch='x86_64'"} {
		if !strings.Contains(xml, says) {
			t.Errorf("the domain does not have %s", says)
		}
	}
	if !strings.Contains(l.tool("virsh", "dominfo", "web1"), "Autostart:      enable") {
		t.Error("it is not started with the node")
	}
	l.tool(old("--mount", "default", "web1")...)
	for file, says := range map[string]string{
		"/etc/hostname": "web1.old.example\n", "/etc/resolv.conf": "search a.example b.example\nnameserver 192.0.2.53\nnameserver 192.0.2.54\n",
		"/etc/network/interfaces": "lan0", "/etc/udev/rules.d/70-instance-debootstrap-net.rules": "lan0", "/root/.ssh/authorized_keys": "ssh-ed25519",
		"/boot/grub/grub.cfg": "linux /vmlinuz", "/etc/fstab": " /boot ",
		"/etc/timezone": "Europe/Lisbon\n", "/etc/default/locale": "LANG=pt_PT.UTF-8\n", "/etc/default/keyboard": `XKBLAYOUT="pt"`,
		"/usr/lib/locale/locale-archive": "pt_PT.utf8", "/etc/apt/sources.list": os.Getenv("TEST_MIRROR") + " " + os.Getenv("TEST_SUITE"),
	} {
		text, err := os.ReadFile("/mnt/web1" + file)
		if err != nil || !strings.Contains(string(text), says) {
			t.Errorf("%s has no %q: %v\n%s", file, says, err, text)
		}
	}
	text, _ := os.ReadFile("/mnt/web1/etc/network/interfaces")
	if !strings.Contains(string(text), "address 192.0.2.9\n    netmask 255.255.255.0\n") || !strings.Contains(string(text), "192.0.2.1") {
		t.Errorf("interfaces:\n%s", text)
	}
	l.tool(old("--umount", "default", "web1")...)
	l.tool(old("--grub", "default", "web1")...)
	l.tool(old("--remove", "default", "web1")...)
	l.clean(5 * time.Second)
}
