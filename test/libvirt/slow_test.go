//go:build root && slow

package libvirt

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func init() {
	layouts = append(layouts, layout{"single", "uefi", "", "/web1"}, layout{"single", "both", "/web1", "/web1"})
}

// shutDown has the guest shut down in an orderly way.
func (l lab) shutDown(guest string) {
	l.Helper()
	l.ssh(guest, "systemctl --no-block poweroff")
	for range 6000 {
		if strings.TrimSpace(l.try("virsh", "-q", "domstate", guest)) == "shut off" {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	l.Fatalf("%s does not shut down", guest)
}

func TestAGuestOfThreeVolumesFromItsMakingToItsEnd(t *testing.T) {
	l := newLab(t)
	l.vm(small("--wait", "web1")...)
	if got := l.ssh("web1", "hostname -s; findmnt -no SOURCE /boot; swapon --noheadings --show=NAME; cat /proc/cmdline"); !strings.Contains(got, "web1\n/dev/vda1\n/dev/vdc\n") || !strings.Contains(got, "console=ttyS0") {
		t.Errorf("the guest says:\n%s", got)
	}
	if state := l.ssh("web1", "systemctl is-system-running --wait || systemctl --failed"); state != "running" {
		t.Errorf("the system is %s", state)
	}
	l.ssh("web1", "update-grub && grub-install /dev/vda && debconf-show grub-pc | grep -q install_devices:")

	l.fails("shut it down first", program, "vm", "mount", "web1")
	l.vm("mount", "--read-only", "web1")
	if _, err := os.Stat("/mnt/web1/boot/grub/grub.cfg"); err != nil {
		t.Error(err)
	}
	l.vm("umount", "web1")
	l.fails("give --stop", program, "vm", "remove", "--yes", "web1")
	l.shutDown("web1")

	l.vm("mount", "web1")
	l.write("/mnt/web1/root/noted", "from the node\n")
	l.fails("is mounted already", program, "vm", "mount", "web1")
	l.fails("is mounted already", program, "vm", "remove", "--yes", "web1")
	l.vm("umount", "web1")

	// The boot record, without the table, and GRUB's core image.
	l.tool("dd", "if=/dev/zero", "of="+pool+"/web1-boot", "bs=440", "count=1", "conv=notrunc", "status=none")
	l.tool("dd", "if=/dev/zero", "of="+pool+"/web1-boot", "bs=512", "seek=1", "count=2000", "conv=notrunc", "status=none")
	l.vm("grub", "web1")
	l.vm("grow", "--root-size", "+1G", "web1")
	l.tool("virsh", "-q", "start", "web1")
	l.reach("web1")
	if got := l.ssh("web1", "cat /root/noted; df --output=size -BM / | tail -1"); !strings.HasPrefix(got, "from the node\n") || !strings.Contains(got, "39") && !strings.Contains(got, "40") && !strings.Contains(got, "38") {
		t.Errorf("the guest says:\n%s", got)
	}

	l.vm("grow", "--stop", "--root-size", "+1G", "web1") // and it runs again
	l.reach("web1")
	if size := l.ssh("web1", "df --output=size -BM / | tail -1"); size < "4800M" || len(size) != 5 {
		t.Errorf("its root has %s", size)
	}
	if got := l.ssh("web1", "journalctl --no-pager -o cat -b -1 -n 100"); !strings.Contains(got, "Reached target poweroff.target") || !strings.Contains(got, "Unmounted boot.mount") {
		t.Errorf("it was not shut down in order; the end of its journal:\n%s", got)
	}
	l.removedInOrder("web1")
	l.clean(5 * time.Second)
}

// reach waits for a guest that was started with virsh.
func (l lab) reach(guest string) {
	l.Helper()
	for deadline := time.Now().Add(20 * time.Minute); ; time.Sleep(2 * time.Second) {
		out, err := exec.Command(program, "vm", "ssh", "-i", key, guest, "true").CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			console, _ := os.ReadFile("/var/log/libvirt/qemu/" + guest + ".console")
			l.Fatalf("%s is not reached: %v %s\n%s", guest, err, out, console[max(0, len(console)-3000):])
		}
	}
}

func TestASingleVolumeBootsByUEFIAndGrows(t *testing.T) {
	l := newLab(t)
	l.vm(small("--layout", "single", "--firmware", "uefi", "--wait", "web2")...)
	if got := l.ssh("web2", "test -d /sys/firmware/efi && findmnt -no SOURCE /boot/efi"); got != "/dev/vda15" {
		t.Errorf("the guest says %q", got)
	}
	l.shutDown("web2")
	l.fails("only made larger", program, "vm", "grow", "--root-size", "1G", "web2")
	l.vm("grow", "--root-size", "5G", "web2")
	l.vm("grow", "--root-size", "5G", "web2") // what is done is no fault
	l.tool("sgdisk", "--verify", pool+"/web2")
	if nvram, _ := filepath.Glob("/var/lib/libvirt/qemu/nvram/*"); len(nvram) != 1 { // that remove finds something to remove
		t.Errorf("of the firmware's variables there are %v", nvram)
	}
	l.vm("mount", "--read-only", "web2")
	if size := strings.Fields(l.tool("df", "--output=size", "-BM", "/mnt/web2"))[1]; size < "4700M" {
		t.Errorf("the filesystem has %s", size)
	}
	l.vm("umount", "web2")
	l.vm("remove", "--yes", "web2")
	l.clean(5 * time.Second)
}

// processes lists the pids of a create: the one that was started, its guard, and
// the one in the namespaces.
func processes(outer int) (guard, inner int) {
	children, _ := exec.Command("pgrep", "-P", strconv.Itoa(outer)).Output()
	for _, text := range strings.Fields(string(children)) {
		pid, _ := strconv.Atoi(text)
		argv, _ := os.ReadFile("/proc/" + text + "/cmdline")
		if strings.Contains(string(argv), "guard") {
			guard = pid
		} else {
			inner = pid
		}
	}
	return guard, inner
}

var ends = []struct {
	name string
	end  func(outer, guard, inner int)
}{
	{"SIGINT", func(outer, _, _ int) { syscall.Kill(outer, syscall.SIGINT) }},
	{"SIGTERM to the group", func(outer, _, _ int) { syscall.Kill(-outer, syscall.SIGTERM) }},
	{"SIGKILL", func(outer, _, _ int) { syscall.Kill(outer, syscall.SIGKILL) }},
	{"SIGKILL to the inner process", func(_, _, inner int) { syscall.Kill(inner, syscall.SIGKILL) }},
	{"SIGKILL to the group", func(outer, _, _ int) { syscall.Kill(-outer, syscall.SIGKILL) }},
	{"SIGKILL to all three", func(outer, guard, inner int) {
		syscall.Kill(guard, syscall.SIGKILL)
		syscall.Kill(outer, syscall.SIGKILL)
		syscall.Kill(inner, syscall.SIGKILL)
	}},
}

func TestHoweverACreateEndsNothingIsLeft(t *testing.T) {
	l := newLab(t)
	l.hook("#!/bin/sh\n")
	options := small("--wait", "--rollback")
	l.vm(append(small(), "web3")...) // the tree and its image are made
	l.vm("remove", "--yes", "web3")
	steps := l.steps(options...)
	count := 0
	for _, e := range ends {
		for i, step := range steps[:len(steps)-1] { // once it is kept it stays
			t.Run(e.name+"/"+step, func(t *testing.T) {
				l := lab{t}
				if l.ended(append(options, "web3"), steps, i, e.end) {
					count++
				}
				if e.name == "SIGKILL to all three" {
					time.Sleep(200 * time.Millisecond)
					l.vm("list") // what sweeps up then
				}
				l.clean(40 * time.Second)
			})
		}
	}
	t.Logf("%d steps but the last, %d ends of each: %d creates, %d of which had come to their step", len(steps)-1, len(ends), len(ends)*(len(steps)-1), count)
}

// ended starts a vm command and ends it at the beginning of step number i. It reports
// whether that was before its end.
func (l lab) ended(options, steps []string, i int, end func(outer, guard, inner int)) bool {
	l.Helper()
	cmd := exec.Command(program, append([]string{"--log-format", "json", "vm"}, options...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		l.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	reached := i == 0
	if i == 0 {
		time.Sleep(100 * time.Millisecond)
	}
	for !reached && lines.Scan() {
		var event struct{ Step string }
		json.Unmarshal(lines.Bytes(), &event)
		reached = event.Step == steps[i-1]
	}
	guard, inner := processes(cmd.Process.Pid)
	end(cmd.Process.Pid, guard, inner)
	for lines.Scan() { // to the end, which is when the guard is gone too
	}
	if err := cmd.Wait(); err == nil {
		l.Errorf("%s succeeded", options[0])
		return false
	}
	return reached
}

// TestAGuestUnderSecureBootGrowsWhileItRuns: a partition of gpt, and a disk without one.
func TestAGuestUnderSecureBootGrowsWhileItRuns(t *testing.T) {
	l := newLab(t)
	l.fails("--secure-boot needs --firmware uefi", append(append([]string{program, "vm"}, small("--secure-boot")...), "web2")...)
	l.vm(small("--layout", "single", "--firmware", "uefi", "--secure-boot", "--disk", "256M,mount=/srv", "--extra-pkgs", "tree", "--wait", "web2")...)
	if got := l.ssh("web2", "od -An -tu1 -j4 -N1 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c; command -v tree"); strings.Join(strings.Fields(got), " ") != "1 /usr/bin/tree" {
		t.Errorf("the guest says %q", got)
	}
	size := func(folder string) string { return l.ssh("web2", "df --output=size -BM "+folder+" | tail -1") }
	l.vm("grow", "--root-size", "+1G", "web2")
	if got := size("/"); got < "3700M" || len(got) != 5 {
		t.Errorf("its root has %s", got)
	}
	l.vm("grow", "--root-size", "4G", "web2") // what is done is no fault
	l.vm("grow", "--disk", "data1", "--size", "512M", "web2")
	if got := size("/srv"); got < "440M" || len(got) != 4 {
		t.Errorf("its data disk has %s", got)
	}
	// A guest whose agent says anything else isn't believed, and hears what remains.
	l.ssh("web2", `mkdir -p /run/df && printf '#!/bin/sh\nprintf "size\\n\\033[2Jnone\\n"\n' >/run/df/df && chmod 755 /run/df/df && mount --bind /run/df/df /usr/bin/df`)
	said := l.fails("of its size the guest says", program, "vm", "grow", "--root-size", "+512M", "web2")
	if strings.Contains(said, "\033") {
		t.Errorf("its answer reaches the terminal: %q", said)
	}
	l.ssh("web2", "umount /usr/bin/df; systemctl stop qemu-guest-agent")
	l.fails("its agent doesn't answer: shut it down first, or give --stop", program, "vm", "grow", "--root-size", "+512M", "web2")
	l.shutDown("web2")
	l.tool("sgdisk", "--verify", pool+"/web2")
	l.vm("mount", "--read-only", "web2") // whole, as the node sees it
	l.vm("umount", "web2")
	l.vm("remove", "--yes", "web2")
	l.clean(5 * time.Second)
}
