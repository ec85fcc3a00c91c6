//go:build root

package root

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// inspect looks at l.disk as JSON and for people; not a byte of it may change.
func (l *lab) inspect() (in map[string]any, text string) {
	l.Helper()
	before := sumOf(l.T, l.disk)
	run := func(args ...string) []byte {
		var out, said bytes.Buffer
		cmd := exec.Command(program, append([]string{"inspect"}, args...)...)
		cmd.Stdout, cmd.Stderr = &out, &said
		if err := cmd.Run(); err != nil {
			l.Fatalf("inspect %q: %v\n%s", args, err, said.String())
		}
		return out.Bytes()
	}
	must(l, json.Unmarshal(run("--json", l.disk), &in))
	text = string(run(l.disk))
	if sumOf(l.T, l.disk) != before {
		l.Errorf("inspect changed the disk")
	}
	return in, text
}

func TestInspectShowsWhatIsThere(t *testing.T) {
	for _, c := range []struct{ style, fstype, firmware string }{
		{"none", "ext2", "auto"}, {"none", "btrfs", "auto"}, {"msdos", "ext4", "bios"}, {"msdos", "xfs", "auto"}, {"gpt", "ext4", "both"},
	} {
		t.Run(c.style+"/"+c.fstype, func(t *testing.T) {
			l := newLab(t, 700)
			l.grubTree()
			l.env["OSP_PARTITION_STYLE"], l.env["OSP_FILESYSTEM"], l.env["OSP_FIRMWARE"] = c.style, c.fstype, c.firmware
			l.hook("10-big", `head -c 100M /dev/urandom >"$TARGET/big"`)
			log := l.create()
			var receipt map[string]any
			l.mounted(func(tree string) { receipt = l.receiptOf(tree, log) })
			in, text := l.inspect()
			l.clean(0)
			a, _ := json.Marshal(receipt)
			if b, _ := json.Marshal(in["receipt"]); string(a) != string(b) {
				t.Errorf("the guest has the receipt\n%s\ninspect shows\n%s", a, b)
			}
			loader := map[bool]string{true: "grub-bios", false: "none"}[c.firmware == "bios"]
			if in["style"] != c.style || in["boot_loader"] != loader && in["boot_loader"] != "grub-bios" {
				t.Errorf("style %v, boot loader %v", in["style"], in["boot_loader"])
			}
			fs := in["filesystem"]
			if c.style != "none" {
				fs = l.samePartitions(in)
			}
			l.sameFilesystem(fs, c.fstype, text)
		})
	}
}

// samePartitions compares the partitions with sfdisk, and returns the root's filesystem.
func (l *lab) samePartitions(in map[string]any) (root any) {
	l.Helper()
	var dump struct {
		Table struct {
			ID         string
			Partitions []struct {
				Node, Type, Name, UUID string
				Start, Size            int64
			}
		} `json:"partitiontable"`
	}
	must(l, json.Unmarshal([]byte(l.tool("sfdisk", "--json", l.disk)), &dump))
	if id := strings.TrimPrefix(strings.ToLower(dump.Table.ID), "0x"); in["id"] != id {
		l.Errorf("disk %v, sfdisk says %s", in["id"], id)
	}
	parts := in["partitions"].([]any)
	if len(parts) != len(dump.Table.Partitions) {
		l.Errorf("%d partitions, sfdisk has %d", len(parts), len(dump.Table.Partitions))
	}
	for _, want := range dump.Table.Partitions {
		found := false
		for _, p := range parts {
			got := p.(map[string]any)
			if want.Node != fmt.Sprintf("%s%v", l.disk, got["number"]) {
				continue
			}
			found = true
			name, _ := got["name"].(string)
			uuid := strings.ToLower(want.UUID)
			if uuid == "" {
				uuid = got["uuid"].(string) // sfdisk has none for msdos
			}
			if got["start_sector"] != float64(want.Start) || got["sectors"] != float64(want.Size) || got["type"] != want.Type || name != want.Name || got["uuid"] != uuid {
				l.Errorf("%v, sfdisk has %+v", got, want)
			}
			if got["number"] == 1.0 {
				root = got["filesystem"]
			}
			if want.Name == "EFI system" && field(got["filesystem"], "type") != "vfat" {
				l.Errorf("the EFI system partition holds %v", got["filesystem"])
			}
		}
		if !found {
			l.Errorf("no partition %s", want.Node)
		}
	}
	return root
}

// sameFilesystem compares a filesystem with what blkid and df say of it.
func (l *lab) sameFilesystem(fs any, fstype, text string) {
	l.Helper()
	dev := l.root()
	uuid := l.tool("blkid", "-p", "-s", "UUID", "-o", "value", dev)
	l.tool("losetup", "-d", dev)
	if field(fs, "type") != fstype || field(fs, "uuid") != uuid || !strings.Contains(text, uuid) {
		l.Errorf("%v, blkid says %s %s", fs, fstype, uuid)
	}
	l.mounted(func(tree string) {
		var size, used float64
		fmt.Sscan(l.tool("sh", "-c", "df -B1 --output=size,used "+tree+" | tail -n 1"), &size, &used)
		// df leaves out what the filesystem itself takes, another sum for each type, and
		// counts what btrfs keeps twice.
		const apart = 64 << 20
		gotSize, _ := field(fs, "size_bytes").(float64)
		gotUsed, _ := field(fs, "used_bytes").(float64)
		if gotSize < size || gotSize > size+apart || gotUsed < used-apart/4 || gotUsed > used+apart {
			l.Errorf("size %v, used %v; df says %v and %v", gotSize, gotUsed, size, used)
		}
	})
}

func TestInspectSaysWhyItShowsNoReceipt(t *testing.T) {
	script := func(s string) func(l *lab) { return func(l *lab) { l.tool("sh", "-e", "-c", s, "sh", l.disk) } }
	for name, c := range map[string]struct {
		make  func(l *lab)
		style string
		why   string
		text  string
	}{
		"blank":           {func(*lab) {}, "none", "nothing known", "nothing known"},
		"two partitions":  {script(`printf ',100M,L\n,,L\n' | sfdisk -q "$1"; mke2fs -q -F -L first -E offset=1048576 "$1" 90M`), "msdos", "2 partitions", "label first"},
		"extended":        {script(`printf ',100M,5\n,,8e\n' | sfdisk -q "$1"`), "msdos", "2 partitions", "extended"},
		"swap":            {script(`mkswap -q -L mine "$1"`), "none", "swap", "swap, UUID"},
		"LVM":             {script(`d=$(losetup --show -f "$1"); pvcreate -qq -ff -y $d; losetup -d $d`), "none", "LVM2_member", "LVM2_member"},
		"damaged gpt":     {script(`sgdisk -n 1:0:0 "$1" >/dev/null; printf '\377\377' | dd of="$1" bs=1 seek=592 conv=notrunc status=none`), "", "", "table:"},
		"beyond the disk": {script(`echo ,,L | sfdisk -q "$1"; truncate -s 520M "$1"`), "unknown", "isn't on the disk", "unknown"},
		"an empty ext4":   {script(`mke2fs -q -F -t ext4 "$1"`), "none", "the guest has no /var/lib", "ext4"},
		"a dirty journal": {func(l *lab) { l.guest("msdos", "ext4"); l.dirty() }, "msdos", "not unmounted cleanly", "ext4"},
		"a dirty xfs":     {func(l *lab) { l.guest("msdos", "xfs"); l.dirty() }, "msdos", "log has to be replayed", "xfs"},
		"a dirty btrfs":   {func(l *lab) { l.guest("none", "btrfs"); l.dirty() }, "none", "log has to be replayed", "btrfs"},
		"a loop over it":  {func(l *lab) { l.guest("none", "ext4"); l.root() }, "none", "in use", "is over it"},
		"an open QEMU lock": {func(l *lab) {
			l.guest("none", "ext4")
			cmd := exec.Command("qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none", "-S", "-monitor", "none", "-blockdev", "driver=file,node-name=d,filename="+l.disk)
			must(l, cmd.Start())
			l.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
			l.tool("sh", "-c", `for i in $(seq 100); do for f in /proc/"$0"/fd/*; do [ "$(readlink "$f")" = "$1" ] && sleep 0.5 && exit 0; done; sleep 0.1; done; exit 1`, fmt.Sprint(cmd.Process.Pid), l.disk)
		}, "none", "in use", "in use:"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newMoveLab(t, 600)
			c.make(l)
			in, text := l.inspect()
			why, _ := in["no_receipt"].(string)
			if c.style != "" && in["style"] != c.style || !strings.Contains(why, c.why) || in["receipt"] != nil || !strings.Contains(text, c.text) {
				t.Errorf("style %v, no receipt: %q; want %q, %q\n%s", in["style"], why, c.style, c.why, text)
			}
		})
	}
}

func TestSeveralWhoInspectADiskAtOnceAllSeeItsReceipt(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.create()
	device := l.tool("losetup", "-f", "--show", l.disk)
	defer l.tool("losetup", "-d", device)
	copied := l.disk + "-copy"
	l.tool("cp", "--sparse=always", l.disk, copied)
	for _, disk := range []string{copied, device} {
		var said [4]bytes.Buffer
		var runs []*exec.Cmd
		for i := range said {
			cmd := exec.Command(program, "inspect", disk)
			cmd.Stdout, cmd.Stderr = &said[i], &said[i]
			must(t, cmd.Start())
			runs = append(runs, cmd)
		}
		for i, cmd := range runs {
			if err := cmd.Wait(); err != nil || !strings.Contains(said[i].String(), "inst1.example") || strings.Contains(said[i].String(), "in use") {
				t.Errorf("%s: %v\n%s", disk, err, said[i].String())
			}
		}
	}
}

func TestAReceiptThatAGuestMadeUpHarmsNobody(t *testing.T) {
	const path = "/var/lib/instance-debootstrap/receipt.json"
	secret := t.TempDir() + "/secret"
	must(t, os.WriteFile(secret, []byte(`{"instance": "CANARY"}`), 0o600))
	for name, c := range map[string]struct{ script, shows string }{
		"a link to the node":      {"ln -sf " + secret + " $1" + path, "no " + path},
		"a folder that is a link": {"rm -r $1/var/lib/instance-debootstrap; ln -s " + t.TempDir() + " $1/var/lib/instance-debootstrap", "no " + path},
		"a fifo":                  {"rm $1" + path + "; mkfifo $1" + path, "a FIFO"},
		"a device":                {"rm $1" + path + "; mknod $1" + path + " c 1 5", "a device node"},
		"an endless file":         {"truncate -s 400M $1" + path, "bytes"},
		"nonsense":                {"echo nonsense > $1" + path, "invalid character"},
		"the terminal's own":      {`printf '{"instance": "\\u001b[31mred\\u0007\\n", "suite": "\\u202etrixie", "boot": {"firmware": ["\\u001b"]}, "ssh_host_keys": [{"type": "\\u001b]0;x\\u0007"}]}' > $1` + path, `\x1b[31mred\a\n`},
		"deep":                    {`{ printf '{"x":'; head -c 200000 /dev/zero | tr '\0' '['; } > $1` + path, "none:"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 600)
			l.guest("msdos", "ext4")
			l.change(func(tree string) { l.tool("sh", "-e", "-c", c.script, "sh", tree) })
			_, text := l.inspect()
			if !strings.Contains(text, c.shows) || strings.Contains(text, "CANARY") || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' || r > 0x7f }) {
				t.Errorf("%q", text)
			}
			l.clean(0)
		})
	}
}

func TestInspectRefusesWhatIsNoDisk(t *testing.T) {
	l := newLab(t, 600)
	for want, args := range map[string][]string{
		"no such file": {"inspect", "/nonexistent"}, "neither a block device nor a file": {"inspect", t.TempDir()}, "expected one DISK": {"inspect"}, "unknown option --jason": {"inspect", l.disk, "--jason"},
	} {
		if out, exit := l.byHand(args...); exit == 0 || !strings.Contains(out, want) {
			t.Errorf("%q: exit status %d\n%s", args, exit, out)
		}
	}
	must(t, os.Truncate(l.disk, 100))
	if out, exit := l.byHand("inspect", l.disk); exit != 1 || !strings.Contains(out, l.disk) {
		t.Errorf("exit status %d\n%s", exit, out)
	}
}

func TestTheBillOfADiskIsOfWhatTheGuestHas(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.addPackages()
	l.create()
	bill, exit := l.byHand("inspect", "--sbom", l.disk)
	if exit != 0 {
		t.Fatal(bill)
	}
	var read struct {
		BOMFormat  string
		Metadata   struct{ Component struct{ Name string } }
		Components []struct{ Purl string }
	}
	must(t, json.Unmarshal([]byte(bill), &read))
	if read.BOMFormat != "CycloneDX" || read.Metadata.Component.Name != "inst1.example" || len(read.Components) != 3 || !strings.HasPrefix(read.Components[0].Purl, "pkg:deb/debian/acl@2.3?arch=amd64") {
		t.Errorf("%+v\n%s", read, bill)
	}
	for _, other := range []string{"--json", "--packages", "--outdated"} {
		if out, exit := l.byHand("inspect", "--sbom", other, l.disk); exit != 2 || !strings.Contains(out, "leave out --json, --packages and --outdated") {
			t.Errorf("with %s: exit status %d\n%s", other, exit, out)
		}
	}
	if out, exit := l.byHand("inspect", "--sbom", l.blankDisk("blank", 10)); exit != 1 || !strings.Contains(out, "there are no packages for a bill of materials: ") {
		t.Errorf("of a blank disk: exit status %d\n%s", exit, out)
	}
	if out, exit := l.byHand("inspect", "--packages", l.blankDisk("blank2", 10)); exit != 1 || !strings.Contains(out, "there are no packages to list: ") {
		t.Errorf("the list of a blank disk: exit status %d\n%s", exit, out)
	}
}
