//go:build root && slow

package libvirt

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

type layout struct {
	layout, firmware string
	boots            string // the volume with the boot record; "" is none
	root             string
}

// layouts are made of one tree; those for UEFI, of trees of their own, take longer.
var layouts = []layout{
	{"boot+root+swap", "bios", "/web1-boot", "/web1-root"},
	{"single", "bios", "/web1", "/web1"},
}

// TestEachLayoutFromItsMakingToItsEnd is all but the booting.
func TestEachLayoutFromItsMakingToItsEnd(t *testing.T) {
	for _, row := range layouts {
		t.Run(row.layout+"/"+row.firmware, func(t *testing.T) {
			l := newLab(t)
			l.vm(small("--layout", row.layout, "--firmware", row.firmware, "web1")...)
			if xml := l.tool("virsh", "-q", "dumpxml", "web1"); strings.Contains(xml, "firmware='efi'") != (row.firmware != "bios") {
				t.Errorf("the domain's firmware:\n%s", xml)
			}
			if row.boots != "" {
				l.bootRecordComesBack(pool + row.boots)
			}
			if row.firmware != "bios" {
				l.espComesBack(pool + row.root)
			}
			l.fails("only made larger", program, "vm", "grow", "--root-size", "1G", "web1")
			l.vm("grow", "--root-size", "+1G", "web1")
			l.vm("grow", "--root-size", "4G", "web1") // what is done is no fault
			if row.layout == "single" {
				l.tool("sfdisk", "--verify", pool+row.root)
			}
			l.vm("mount", "web1")
			l.fails("is mounted already", program, "vm", "mount", "web1")
			l.fails("is mounted already on /mnt/web1: vm umount web1 first", program, "vm", "start", "web1")
			l.fails("is mounted already", program, "vm", "remove", "--yes", "web1")
			if size := strings.Fields(l.tool("df", "--output=size", "-BM", "/mnt/web1"))[1]; size < "3800M" {
				t.Errorf("the filesystem has %s", size)
			}
			if key := strings.Fields(l.tool("cat", "/mnt/web1/etc/ssh/ssh_host_ed25519_key.pub"))[1]; !strings.Contains(l.vm("show", "--json", "web1"), key) {
				t.Error("the guest's host key is not noted down")
			}
			l.vm("umount", "web1")
			l.vm("remove", "--yes", "web1")
			l.clean(5 * time.Second)
		})
	}
}

// bootRecordComesBack zeroes the boot code and what follows the table, as far as it
// is GRUB's, and has it written anew, byte by byte what it was.
func (l lab) bootRecordComesBack(disk string) {
	l.Helper()
	before := l.tool("head", "-c", "1048576", disk)
	l.tool("dd", "if=/dev/zero", "of="+disk, "bs=440", "count=1", "conv=notrunc", "status=none")
	if strings.HasSuffix(disk, "-boot") {
		l.tool("dd", "if=/dev/zero", "of="+disk, "bs=512", "seek=1", "count=2000", "conv=notrunc", "status=none")
	}
	l.vm("grub", "web1")
	if l.tool("head", "-c", "1048576", disk) != before {
		l.Error("the boot record is another")
	}
}

// espComesBack zeroes the EFI system partition, and expects its serial number and its files
// to be there again.
func (l lab) espComesBack(disk string) {
	l.Helper()
	at := strings.Fields(l.tool("partx", "--noheadings", "--nr", "15", "--output", "START,SECTORS", disk))
	start, _ := strconv.Atoi(at[0])
	sectors, _ := strconv.Atoi(at[1])
	const esp = "/srv/esp"
	look := func() string {
		l.tool("dd", "if="+disk, "of="+esp, "bs=512", "skip="+at[0], "count="+at[1], "status=none")
		names := strings.Fields(l.tool("mdir", "-/", "-b", "-i", esp, "::"))
		slices.Sort(names)
		config := l.tool("mtype", "-i", esp, "::/EFI/debian/grub.cfg")
		return l.tool("blkid", "-p", "-o", "value", "-s", "UUID", esp) + config + strings.Join(names, "\n")
	}
	before := look()
	l.tool("dd", "if=/dev/zero", "of="+disk, "bs=512", "seek="+strconv.Itoa(start), "count="+strconv.Itoa(min(sectors, 16384)), "conv=notrunc", "status=none")
	l.vm("grub", "web1")
	if after := look(); after != before || !strings.Contains(strings.ToUpper(after), "BOOTX64.EFI") {
		l.Errorf("the EFI system partition has\n%s, and had\n%s", after, before)
	}
	l.tool("fsck.fat", "-n", esp)
}

func TestGrowShutsDownAndStartsAgainWhateverComesOfIt(t *testing.T) {
	l := newLab(t)
	l.machine(answers(2, 0))
	running := func(after string) {
		t.Helper()
		if state := l.state("web2"); state != "running" {
			t.Fatalf("it is %s after %s", state, after)
		}
		l.answers()
	}
	l.fails("or give --stop", program, "vm", "grow", "--root-size", "+64M", "web2")

	// What can be refused is, while the guest runs.
	for says, size := range map[string]string{"is only made larger": "32M", "nothing to do": "64M", "MiB in all, and 104857600000 MiB are asked for": "100000T"} {
		steps, last, _ := l.took("grow", "--stop", "--root-size", size, "web2")
		if len(steps) > 1 || !strings.Contains(last, says) {
			t.Errorf("with %s it took %q, and says %q", size, steps, last)
		}
	}
	id := l.tool("virsh", "-q", "domid", "web2")

	// It doesn't hear the first time, and is asked again.
	begin := time.Now()
	l.record(answers(1, 4*time.Second)) // from its next start on
	steps, last, err := l.took("grow", "--stop", "--root-size", "+64M", "web2")
	if took := time.Since(begin); took < 10*time.Second || took > 40*time.Second {
		t.Errorf("it took %v", took)
	}
	if err != nil || !strings.Contains(last, "from 64 MiB to 128 MiB") || len(steps) < 6 || steps[1] != "shut down the guest" || steps[len(steps)-1] != "start the guest again" {
		t.Errorf("%v: %q, and it says %q", err, steps, last)
	}
	running("growing")
	if l.tool("virsh", "-q", "domid", "web2") == id {
		t.Error("it was not shut down")
	}

	// The pool is gone when the guest has shut down.
	said := l.growsWithoutPool()
	if strings.Contains(said, "vm start") {
		t.Errorf("it is said to be shut off:\n%s", said)
	}
	running("a failure")

	// Nor can it be started again.
	l.tool("virsh", "-q", "attach-disk", "web2", "/srv/none", "vdc", "--config")
	if said = l.growsWithoutPool(); !strings.Contains(said, "web2 was running and is shut off now: vm start web2: start the guest again: ") {
		t.Errorf("of two errors it says:\n%s", said)
	}
	l.vm("remove", "--yes", "web2")
	l.clean(0)
}

func TestAGuestThatAFullPoolHasPausedIsShownAsThat(t *testing.T) {
	l := newLab(t)
	l.tool("sh", "-c", "mkdir /srv/full && truncate -s 16M /srv/full.img && mkfs.ext4 -q -O ^has_journal -m 0 /srv/full.img && mount -o loop /srv/full.img /srv/full && fallocate -l 8M /srv/full/ballast")
	defer l.tool("sh", "-c", "umount /srv/full && rmdir /srv/full && rm /srv/full.img")
	l.virsh("pool-create-as", "full", "dir", "--target", "/srv/full")
	defer l.virsh("pool-destroy", "full")
	l.virsh("vol-create-as", "default", "web2-boot", "1M", "--format", "raw")
	l.virsh("vol-create-as", "full", "web2-root", "8G", "--format", "raw", "--allocation", "0")
	l.record(writes())
	disk := func(file, dev, order string) string { // SeaBIOS knows only what it may boot from
		return "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='" + file + "'/><target dev='" + dev + "' bus='virtio'/><boot order='" + order + "'/></disk>"
	}
	l.write("/srv/machine.xml", "<domain type='qemu'><name>web2</name><metadata><guest xmlns='urn:instance-debootstrap:vm'><layout>boot+root+swap</layout></guest></metadata><memory unit='MiB'>64</memory>"+
		"<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>"+disk(pool+"/web2-boot", "vda", "1")+disk("/srv/full/web2-root", "vdb", "2")+"</devices></domain>")
	l.virsh("define", "/srv/machine.xml")
	l.virsh("start", "web2")
	for deadline := time.Now().Add(time.Minute); l.state("web2") != "paused"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the guest is %s, and the pool has\n%s", l.state("web2"), l.tool("df", "/srv/full"))
		}
	}
	for _, args := range [][]string{{"list"}, {"show", "web2"}} {
		if got := l.vm(args...); !strings.Contains(got, "paused (I/O error, vdb: no space)") {
			t.Errorf("vm %s:\n%s", args[0], got)
		}
	}
	if got := l.vm("list", "--json"); !strings.Contains(got, `"state":"paused","state_reason":"I/O error, vdb: no space"`) {
		t.Errorf("as JSON: %s", got)
	}
	l.fails("make room in its pool", program, "vm", "stop", "web2")
	l.vm("remove", "--yes", "--stop", "web2")
	l.clean(0)
}

func TestOnATerminalEachStepHasALineAndRemoveAsks(t *testing.T) {
	l := newLab(t)
	options := small()
	steps := l.steps(options...)
	shown, err := l.onTerminal("", append(append([]string{"stty", "cols", "72;", program, "vm"}, options...), "web1")...)
	if err != nil {
		t.Fatalf("%v:\n%s", err, shown)
	}
	var seen, numbers []string
	numbered := regexp.MustCompile(`^\[ ?([0-9]+)/[0-9]+\] `)
	finished := regexp.MustCompile(`^\[ ?[0-9]+/[0-9]+\] (.*?): .*  [0-9]+\.[0-9]s$`)
	for line := range strings.Lines(shown) {
		wiped := strings.Split(strings.TrimRight(line, "\r\n"), "\x1b[K")
		for _, part := range wiped {
			if part = strings.TrimRight(part, "\r"); strings.HasPrefix(part, "[") && utf8.RuneCountInString(part) > 71 {
				t.Errorf("of a terminal of 72 columns this is wrapped: %q", part)
			}
		}
		if m := numbered.FindStringSubmatch(wiped[len(wiped)-1]); m != nil {
			numbers = append(numbers, m[1])
		}
		if m := finished.FindStringSubmatch(wiped[len(wiped)-1]); m != nil {
			seen = append(seen, m[1])
		}
	}
	if !slices.Equal(seen, steps) {
		t.Errorf("lines of\n%q, for the steps\n%q:\n%q", seen, steps, shown)
	}
	if !strings.Contains(shown, "start the guest: not needed: --start was not given") {
		t.Errorf("it does not say why a step is left out:\n%q", shown)
	}
	for i, number := range numbers {
		if number != strconv.Itoa(i+1) {
			t.Fatalf("a step has no line, or two: %v", numbers)
		}
	}
	if lines := strings.Count(shown, "\n"); len(numbers) <= len(steps) || lines > len(numbers)+3 || !strings.Contains(shown, "...  ") { // no KVM, a pool that isn't started with the node, and the last one
		t.Errorf("%d lines for %d steps:\n%q", lines, len(numbers), shown)
	}

	shown, err = l.onTerminal("web\n", program, "vm", "remove", "web1")
	for _, says := range []string{"web1 is shut off", pool + "/web1-boot (512 MiB)", pool + "/web1-root (3072 MiB)", pool + "/web1-swap (64 MiB)", "Type its name: ", "nothing was removed"} {
		if err == nil || !strings.Contains(shown, says) {
			t.Errorf("%v, and no %q:\n%s", err, says, shown)
		}
	}
	l.vm("show", "web1")
	l.fails("nobody can be asked here", program, "vm", "remove", "web1")
	if shown, err := l.onTerminal("web1\n", program, "vm", "remove", "web1"); err != nil || !strings.Contains(shown, "undefine the domain") || !strings.Contains(shown, "the guest web1 is removed, with its disks") {
		t.Errorf("%v:\n%s", err, shown)
	}
	l.clean(0)
}

func TestEventsTellOfEachStepAndOfTheEnd(t *testing.T) {
	l := newLab(t)
	steps := l.steps(small()...)
	begin := time.Now()
	events, err := l.events(append(small(), "web1")...)
	t.Logf("a warm create took %.1f s", time.Since(begin).Seconds())
	var seen []string
	for _, e := range events {
		if e.MS != nil {
			seen = append(seen, e.Step)
			t.Logf("%5d ms %s", *e.MS, e.Step)
		}
	}
	if err != nil || !slices.Equal(seen, steps) {
		t.Errorf("%v, and events of\n%q, for the steps\n%q", err, seen, steps)
	}
	if last := events[len(events)-1]; last.Level != "info" || !strings.HasPrefix(last.Message, "made the guest web1: instance-debootstrap vm start web1 starts it. Ways in: vm ssh -i "+key+" web1; ") {
		t.Errorf("at the end: %+v", last)
	}
	events, err = l.events(append(small(), "web1")...)
	if last := events[len(events)-1]; err == nil || last.Level != "error" || !strings.Contains(last.Message, "web1 exists already") {
		t.Errorf("%v, and at the end of a failure: %+v", err, last)
	}
	if _, err := l.events("remove", "--yes", "web1"); err != nil {
		t.Error(err)
	}
	l.clean(0)
}

func TestAGuestHasTheScreenAndThePasswordOfRootsThatAreAskedFor(t *testing.T) {
	l := newLab(t)
	parts := []string{"<graphics type='vnc'>", "<listen type='socket'/>", "<model type='virtio' heads='1' primary='yes'/>", "<input type='tablet' bus='virtio'>"}
	const file = "/srv/password"
	l.write(file, "correct horse\n")
	create := func(more ...string) []string { // without a key
		return append([]string{"create", "--user-net", "--root-size", "3G", "--swap-size", "64M"}, more...)
	}
	refused := func(says string, options ...string) {
		t.Helper()
		l.fails(says, append([]string{program, "vm"}, append(create(options...), "web1")...)...)
	}
	withFile := []string{"--graphics", "vnc", "--root-password-file", file}
	refused(file+": others may read it (mode 0644): chmod 600", withFile...)
	l.tool("chmod", "600", file)
	shown, err := exec.Command(program, append([]string{"vm"}, append(create(withFile...), "web1")...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, shown)
	}
	xml, password := l.access(string(shown), "Ways in: vm console web1, with root's password; vm mount")
	l.vm("remove", "--yes", "web1")
	if f := strings.Split(password, "$"); len(f) != 4 || strings.TrimSpace(l.tool("openssl", "passwd", "-6", "-salt", f[2], "correct horse")) != password {
		t.Errorf("with a file it is %q", password)
	}
	for _, part := range parts {
		if !strings.Contains(xml, part) {
			t.Errorf("with --graphics vnc there is no %s:\n%s", part, xml)
		}
	}

	refused("nobody could log in to the guest")
	for _, says := range []string{"exclude each other", `--graphics "spice": must be none or vnc`} {
		refused(says, append(withFile, "--insecure-blank-password", "--graphics", "spice")...)
	}
	for _, wrong := range []string{"", "\n", "two\nlines\n", strings.Repeat("x", 257)} {
		os.WriteFile(file, []byte(wrong), 0o600)
		refused("must have the password as its only line", withFile...)
	}

	plan := func(options ...string) string { return l.vm(append(create(options...), "--dry-run", "web1")...) }
	if got := plan("--insecure-blank-password"); !strings.Contains(got, "root has no password") {
		t.Errorf("with --insecure-blank-password:\n%s", got)
	}
	defaults, err := os.ReadFile("/etc/default/ganeti-instance-debootstrap")
	if err != nil {
		t.Fatal(err)
	}
	l.write("/etc/default/ganeti-instance-debootstrap", string(defaults)+"ROOT_PASSWORD=blank\n")
	if got := plan(); !strings.Contains(got, "root has no password") {
		t.Errorf("with ROOT_PASSWORD=blank in the settings:\n%s", got)
	}
	l.write("/etc/default/ganeti-instance-debootstrap", string(defaults)+"ROOT_PASSWORD=locked\n")
	refused("nobody could log in to the guest")
	l.clean(0)
}
