package libvirt

import (
	"bytes"
	"encoding/xml"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

// recorder is a virsh that writes down how it is called and answers from files
// named after the call's words; a call that has none fails.
func recorder(t *testing.T, answers map[string]string) (v Virsh, calls func() string) {
	t.Helper()
	dir := t.TempDir()
	for call, answer := range answers {
		if err := os.WriteFile(filepath.Join(dir, strings.NewReplacer(" ", "_", "/", "-").Replace(call)), []byte(answer), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "virsh")
	script := fmt.Sprintf(`#!/bin/sh
[ "$1 $2 $3" = "--connect qemu:///system --quiet" ] || { echo "called with $*" >&2; exit 9; }
shift 3
echo "$*" >>%[1]s/calls
file=%[1]s/$(echo "$*" | tr ' /' '_-')
[ -e "$file" ] || { echo "error: unknown call: $*" >&2; exit 1; }
cat "$file"
`, dir)
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return Virsh{Program: program}, func() string {
		text, _ := os.ReadFile(filepath.Join(dir, "calls"))
		return string(text)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs:\n%s", name, got)
	}
}

func spec() Spec {
	lv := func(name string) Volume { return Volume{Name: name, Path: "/dev/vg0/" + name} }
	return Spec{
		Name: "web1", UUID: "6c1d0a52-8e1b-4b0a-9a51-0d6c5e2f1a11", KVM: true, Arch: "x86_64", MemoryKiB: 1048576, VCPUs: 2,
		Disks: []SpecDisk{{lv("web1-boot"), "boot"}, {lv("web1-root"), "root"}, {lv("web1-swap"), "swap"}},
		NICs:  []SpecNIC{{"52:54:00:12:34:56", Network{Bridge: "br0"}}}, LogFile: "/var/log/libvirt/qemu/web1.console", Suite: "bookworm",
		Guest: Guest{Layout: "boot+root+swap", Pool: "vg0", Address: "192.0.2.5", HostKeys: []string{"ssh-ed25519 AAAA", "ecdsa-sha2-nistp256 BBBB"}},
	}
}

func TestDomainsOnLVMAndOnFiles(t *testing.T) {
	files := spec()
	files.KVM, files.UEFI = false, true
	files.NICs = []SpecNIC{{"52:54:00:12:34:56", Network{Name: "default"}}, {"52:54:00:12:34:57", Network{Bridge: "br1"}}}
	files.Disks = []SpecDisk{{Volume{Name: "web1", IsFile: true, Path: "/var/lib/libvirt/images/web1"}, "root"}}
	files.Files = []FirmwareFile{{"opt/io.systemd.credentials/token", "/var/lib/libvirt/instance-debootstrap/" + files.UUID + "/token"}}
	user := files
	user.UEFI, user.NICs, user.Graphical = false, []SpecNIC{{"52:54:00:12:34:56", Network{UserPort: 20022}}}, true
	for name, s := range map[string]Spec{"lvm-bridge-bios.xml": spec(), "file-network-uefi.xml": files, "file-user-bios.xml": user} {
		text, err := s.Domain().XML()
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, text)
		var back Domain
		if err := xml.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if back.Metadata == nil || back.Metadata.Guest == nil || len(back.Metadata.Guest.HostKeys) != 2 || back.Devices.Disks[0].Source.Path() != s.Disks[0].Volume.Path || len(back.FirmwareFiles()) != len(s.Files) {
			t.Errorf("%s is read back as %+v", name, back)
		}
	}
}

const (
	lvmPool = "<pool type='logical'><name>fast</name><available unit='bytes'>7</available><source><name>vg0</name></source><target><path>/dev/vg0</path></target></pool>"
	dirPool = "<pool type='dir'><name>default</name><target><path>/var/lib/libvirt/images</path></target></pool>"
)

func TestAVolumeOfLVMIsAllocatedWholeAndAFileIsSparse(t *testing.T) {
	v, calls := recorder(t, map[string]string{
		"pool-list --uuid": "u1\nu2\n", "pool-dumpxml u1": lvmPool, "pool-dumpxml u2": dirPool, "pool-dumpxml fast": lvmPool, "pool-dumpxml default": dirPool, "pool-refresh fast": "", "pool-refresh default": "",
		"vol-create-as fast web1-root 1073741824":                                "",
		"vol-create-as default web1-root 1073741824 --allocation 0 --format raw": "",
		"vol-list fast":                    " web1-root   /dev/vg0/web1-root\n other /dev/vg0/other\n",
		"vol-delete --pool fast web1-root": "",
	})
	ctx := t.Context()
	byGroup, err := v.FindPool(ctx, "", "vg0")
	if err != nil || byGroup.Name != "fast" || byGroup.FreeBytes != 7 {
		t.Fatalf("%+v %v", byGroup, err)
	}
	byDefault, err := v.FindPool(ctx, "", "")
	if err != nil || byDefault.Name != "default" {
		t.Fatalf("%+v %v", byDefault, err)
	}
	for _, p := range []Pool{byGroup, byDefault} {
		if err := v.MakeVolume(ctx, p, "web1-root", 1<<30); err != nil {
			t.Fatal(err)
		}
	}
	if path, err := v.PathOf(ctx, "fast", "web1-root"); err != nil || path != "/dev/vg0/web1-root" {
		t.Errorf("%s %v", path, err)
	}
	if path, err := v.PathOf(ctx, "fast", "web1"); path != "" || err != nil {
		t.Errorf("a part of a name is found: %v %v", path, err)
	}
	if err := v.DeleteVolume(ctx, "fast", "web1-root"); err != nil {
		t.Error(err)
	}
	golden(t, "volume-calls", []byte(calls()))
}

// A volume that libvirt can't be asked for isn't one that it doesn't have: a domain would be
// removed without its disks, and a disk that another guest has taken for free.
func TestOnlyWhatLibvirtSaysItHasNotIsNotThere(t *testing.T) {
	program := filepath.Join(t.TempDir(), "virsh")
	for said, wantErr := range map[string]bool{
		"error: failed to get vol '/x', specifying --pool might help\nerror: Storage volume not found: no storage vol with matching path '/x' (/x)": false,
		"error: failed to get pool 'p'\nerror: Storage pool not found: no storage pool with matching name 'p'":                                      false,
		"error: failed to connect to the hypervisor\nerror: Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory": true,
		"error: Disconnected from qemu:///system due to end of file":                                                                                true,
	} {
		if err := os.WriteFile(program, []byte("#!/bin/sh\nprintf '%s\\n' \""+said+"\" >&2\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		v := Virsh{Program: program}
		pool, err := v.PoolOf(t.Context(), "/x")
		if (err != nil) != wantErr || pool != "" {
			t.Errorf("%q: the pool %q, %v", said, pool, err)
		}
		disk := Disk{Driver: &Driver{Type: "qcow2"}}
		disk.Source.File = "/x"
		if chain, err := v.Chain(t.Context(), disk, nil); (err != nil) != wantErr {
			t.Errorf("%q: the chain %v, %v", said, chain, err)
		}
		disk.Source = DiskSource{Pool: "p", Volume: "v"}
		if chain, err := v.Chain(t.Context(), disk, nil); (err != nil) != wantErr {
			t.Errorf("%q: the chain %v of a volume, %v", said, chain, err)
		}
	}
}

func TestWithoutTheRightPoolTheErrorSaysWhatToDo(t *testing.T) {
	v, _ := recorder(t, map[string]string{
		"pool-list --uuid": "u1\nu2\n", "pool-dumpxml u1": lvmPool, "pool-dumpxml u2": "<pool type='rbd'><name>ceph</name></pool>",
	})
	for _, row := range []struct{ name, group, says string }{
		{"slow", "", "virsh pool-start slow"},
		{"", "vg9", "virsh pool-define-as vg9 logical"},
		{"", "", "active are fast, ceph"},
		{"ceph", "", "of type rbd"},
	} {
		if _, err := v.FindPool(t.Context(), row.name, row.group); err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%q %q: %v", row.name, row.group, err)
		}
	}
	none, _ := recorder(t, map[string]string{"pool-list --uuid": ""})
	if _, err := none.FindPool(t.Context(), "", ""); err == nil || !strings.Contains(err.Error(), "virsh pool-define-as default dir") {
		t.Errorf("without any pool: %v", err)
	}
}

func TestAGuestThatAFullPoolHasPausedIsKnown(t *testing.T) {
	v, _ := recorder(t, map[string]string{
		"domstate --reason a": "paused (I/O error)\n", "domblkerror a": "vda: unspecified error\nvdb: no space\n",
		"domstate --reason b": "paused (user)\n", "domblkerror b": "No errors found\n",
	})
	for uuid, want := range map[string][]string{"a": {IOError, "vda: unspecified error", "vdb: no space"}, "b": {"user"}} {
		reason, err := v.Reason(t.Context(), uuid)
		faults, err2 := v.DiskErrors(t.Context(), uuid)
		if got := append([]string{reason}, faults...); err != nil || err2 != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q %v %v", uuid, got, err, err2)
		}
	}
}

func TestANewMACIsLocalAndNobodysElse(t *testing.T) {
	v, _ := recorder(t, map[string]string{
		"list --all --uuid --name": "6c1d0a52-8e1b-4b0a-9a51-0d6c5e2f1a11  a\n6c1d0a52-8e1b-4b0a-9a51-0d6c5e2f1a12 --help\n\n", "dumpxml --inactive 6c1d0a52-8e1b-4b0a-9a51-0d6c5e2f1a11": "<mac address='52:54:00:00:00:01'/>",
		"dumpxml --inactive 6c1d0a52-8e1b-4b0a-9a51-0d6c5e2f1a12": "<qemu:arg value='virtio-net-pci,mac=52:54:00:00:00:AB'/>",
	})
	used, err := v.MACs(t.Context())
	if err != nil || !used["52:54:00:00:00:01"] || !used["52:54:00:00:00:ab"] || len(used) != 2 {
		t.Fatalf("%v %v", used, err)
	}
	mac, err := NewMAC(bytes.NewReader([]byte{0, 0, 1, 0, 0, 0xab, 0, 0, 2}), used)
	if err != nil || mac != "52:54:00:00:00:02" {
		t.Errorf("%s %v", mac, err)
	}
	if _, err := NewMAC(bytes.NewReader(nil), nil); err == nil {
		t.Error("an address without randomness")
	}
}

func TestAnAddressIsAskedForWhereItIsKnown(t *testing.T) {
	v, _ := recorder(t, map[string]string{
		"domifaddr web1 --source lease": "",
		"domifaddr web1 --source agent": " lo  00:00:00:00:00:00 ipv4 127.0.0.1/8\n eth0 52:54:00:1:2:3 ipv4 192.0.2.7/24\n -  - ipv6 fe80::1/64\n",
	})
	if got := v.Addresses(t.Context(), "web1"); len(got) != 1 || got[0] != "192.0.2.7" {
		t.Errorf("%v", got)
	}
}

// TestAGuestsWordThatIsNoAddressIsNotTakenForOne: its agent may list anything, and
// ssh is called with it.
func TestAGuestsWordThatIsNoAddressIsNotTakenForOne(t *testing.T) {
	const listed = " eth0 52:54:00:12:34:56 ipv4 x@evil.example/24\n eth0 52:54:00:12:34:56 ipv4 192.0.2.7/24\n"
	if got := addressesIn(listed); len(got) != 1 || got[0] != "192.0.2.7" {
		t.Errorf("%q", got)
	}
}

func TestTheAgentsAnswerIsTakenFromItsJSON(t *testing.T) {
	v, _ := recorder(t, map[string]string{
		`qemu-agent-command web1 {"arguments":{"arg":["-o","route"],"capture-output":true,"path":"ip"},"execute":"guest-exec"} --timeout 10`: `{"return":{"pid":7}}`,
		`qemu-agent-command web1 {"arguments":{"pid":7},"execute":"guest-exec-status"} --timeout 10`:                                         `{"return":{"exitcode":0,"out-data":"ZGVmYXVsdAo=","exited":true}}`,
		`qemu-agent-command web1 {"arguments":{"arg":[],"capture-output":true,"path":"false"},"execute":"guest-exec"} --timeout 10`:          `{"return":{"pid":8}}`,
		`qemu-agent-command web1 {"arguments":{"pid":8},"execute":"guest-exec-status"} --timeout 10`:                                         `{"return":{"exitcode":3,"err-data":"G1sySm5v","exited":true}}`,
		`qemu-agent-command web1 {"arguments":{"arg":[],"capture-output":true,"path":"odd"},"execute":"guest-exec"} --timeout 10`:            `{"return":"\u001b[2J"}`,
	})
	for program, says := range map[string]string{"false": `ended with 3: it said "\x1b[2Jno"`, "odd": "no JSON that was expected"} {
		if _, err := v.InGuest(t.Context(), "web1", program); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: %v", program, err)
		}
	}
	got, err := v.InGuest(t.Context(), "web1", "ip", "-o", "route")
	if err != nil || got != "default\n" {
		t.Errorf("%q %v", got, err)
	}
	if _, err := v.InGuest(t.Context(), "web2", "ip", "-o", "route"); err == nil {
		t.Error("an agent that doesn't answer is no error")
	}
}

func TestWhatANetworkGivesOutIsReadFromItsDefinition(t *testing.T) {
	v, _ := recorder(t, map[string]string{
		"net-dumpxml default":     "<network><name>default</name><forward/><bridge name='virbr0'/><dns enable='no'/><ip address='192.0.2.1' netmask='255.255.255.0'><dhcp><range start='192.0.2.100' end='192.0.2.200'/></dhcp></ip><ip family='ipv6' address='2001:db8::1' prefix='64'/></network>",
		"net-dhcp-leases default": " 2026-11-28 21:00:00   52:54:00:AA:00:01   ipv4       192.0.2.101/24   web1   01:52\n 2026-11-28 21:00:00 no-mac ipv4 192.0.2.102/24 web2 -\n",
	})
	n, err := v.Network(t.Context(), "default")
	if err != nil || n.Mode() != "nat" || n.HasDNS() || len(n.IPs) != 2 || n.IPs[0].Net().String() != "192.0.2.1/24" || n.IPs[1].Net().String() != "2001:db8::1/64" {
		t.Errorf("%+v %v", n, err)
	}
	for text, want := range map[string]bool{"192.0.2.100": true, "192.0.2.200": true, "192.0.2.99": false, "192.0.2.201": false, "2001:db8::1": false} {
		if got := n.IPs[0].Ranges[0].Contains(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is leased: %v", text, got)
		}
	}
	leases, err := v.Leases(t.Context(), "default")
	if err != nil || len(leases) != 1 || leases[netip.MustParseAddr("192.0.2.101")] != "52:54:00:aa:00:01" {
		t.Errorf("%v %v", leases, err)
	}
}

func TestEachCommandThatLibvirtdDoesNotAnswerSaysWhatToDo(t *testing.T) {
	program := filepath.Join(t.TempDir(), "virsh")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho 'error: failed to connect to the hypervisor' >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	v := Virsh{Program: program}
	_, err := v.Pools(t.Context())
	for _, err := range []error{err, v.Check(t.Context())} {
		if err == nil || strings.Count(err.Error(), "install libvirt-clients and libvirt-daemon-system, and start libvirtd") != 1 {
			t.Errorf("%v", err)
		}
	}
}

func TestAGuestThatMayNotHaveItsDisksIsToldOf(t *testing.T) {
	program := filepath.Join(t.TempDir(), "virsh")
	for said, want := range map[string]string{
		"internal error: cannot load AppArmor profile 'libvirt-79e1baae-b2b4-4976-aaaf-94fec38fef04'":                  "journalctl -u libvirtd",
		"internal error: process exited while connecting to monitor: Could not open '/srv/vm/web1': Permission denied": "journalctl -k --grep DENIED",
		"Cannot access storage file '/root/vm/web1' (as uid:64055, gid:64055): Permission denied":                      "chmod o+x",
	} {
		if err := os.WriteFile(program, []byte("#!/bin/sh\ncat >&2 <<'END'\nerror: Failed to start domain 'web1'\nerror: "+said+"\nEND\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := (Virsh{Program: program}).Start(t.Context(), "web1"); err == nil || !strings.Contains(err.Error(), said) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
}

func TestANodeWithoutLibvirtIsToldWhatToInstall(t *testing.T) {
	err := Virsh{Program: "/nonexistent/virsh"}.Check(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "libvirt: /nonexistent/virsh: ") || !strings.HasSuffix(err.Error(), "; install libvirt-clients and libvirt-daemon-system, and start libvirtd") {
		t.Errorf("%v", err)
	}
}

func TestWhatVirshPrintsAndNobodyCanReadIsSaidToBeVirshs(t *testing.T) {
	v, _ := recorder(t, map[string]string{"dumpxml --inactive 1": "\x1b garbage", "list --all --uuid --name": "\n\x1b[2J garbage of more than thirty-six bytes\n", "vol-dumpxml /a": "{", "domstate 1": "\x1b[2J\n0", "vol-pool /a": "a\nb", "pool-list --name": "default\n\x9b\n", "domcapabilities --arch x86_64 --machine q35 --virttype kvm": "<"})
	_, list := v.Domains(t.Context())
	_, domain := v.Domain(t.Context(), "1")
	_, volume := v.Below(t.Context(), "/a")
	_, most := v.MaxVCPUs(t.Context(), "x86_64", true)
	_, state := v.State(t.Context(), "1")
	_, pool := v.PoolOf(t.Context(), "/a")
	_, pools := v.names(t.Context(), "pool-list", "--name")
	for command, err := range map[string]error{"list": list, "domstate": state, "vol-pool": pool, "pool-list": pools, "dumpxml": domain, "vol-dumpxml": volume, "domcapabilities": most} {
		if want := "virsh " + command + " prints what can't be read"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if v.IsGone(t.Context(), "1") {
		t.Error("a domain is taken for gone by that")
	}
}
