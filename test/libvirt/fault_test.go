//go:build root

package libvirt

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"instance-debootstrap/test/fault"
)

// The fault matrix of the vm commands, as test/root has it of the other verbs: the points come
// from a good run, so a new call of virsh has its cells without more. docs/reliability.md says
// what is looked at.

// faulty is the program that says what it comes to. Its guests are given no kernel and no boot
// loader where FAULTY_BOOTLOADER says so, since no tree of a few files has them.
const faulty = "/srv/faulty/instance-debootstrap"

func init() {
	prepare = append(prepare, buildFaulty)
	fault.Patience = 2 * time.Minute // beside guests that boot, each call of virsh takes a while
}

func buildFaulty(srv string) error {
	top, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	folder := filepath.Join(srv, filepath.Base(filepath.Dir(faulty)))
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	overlay, err := fault.Faulty(top, folder,
		fault.Line{File: "pkg/libvirt/virsh.go", Text: "const callTime = 5 * time.Minute\n", Instead: "var callTime time.Duration = faulty.CallTime()\n"},
		fault.Line{File: "cmd/instance-debootstrap/vmoptions.go", Text: `"bootloader": "grub"`, Instead: `"bootloader": cmp.Or(os.Getenv("FAULTY_BOOTLOADER"), "grub")`})
	if err != nil {
		return err
	}
	build := exec.Command("go", "build", "-overlay", overlay, "-o", filepath.Join(folder, filepath.Base(faulty)), "../../cmd/instance-debootstrap")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// TestAFaultAtAnyPointOfAVMCommandLeavesNothingHalfDone is FAULT_CELLS cells of it, chosen by
// FAULT_SEED, or with FAULT_STATE, a file with the cells that are done, all others.
func TestAFaultAtAnyPointOfAVMCommandLeavesNothingHalfDone(t *testing.T) {
	cases := faultCases()
	if state := os.Getenv("FAULT_STATE"); state != "" {
		fault.All(t, state, cases)
		return
	}
	seed := fault.Number(t, "FAULT_SEED", 1)
	t.Logf("FAULT_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	cases = slices.DeleteFunc(cases, func(c fault.Case) bool { _, _, path := c.Sides(); return path == "data disk" || path == "running" })
	fault.Sample(t, cases, random, int(fault.Number(t, "FAULT_CELLS", 6)))
}

// vmCase is one run of a vm command on web1, which is repeated with each fault.
type vmCase struct {
	verb, layout, path string
	args               []string
	isThere            bool // the guest, before
	// judge says what isn't as it may be after a run; good is how it is after a good one.
	judge func(c *vmCase, r fault.Ran, now state, cell fault.Cell) (wrong string)

	l            lab
	points, sure []string
	before, good state
	processes    []string
	tried        int
}

const dir = fault.Dir("/srv/fault")

func faultCases() []fault.Case {
	three := []string{"--root-size", "512M", "--swap-size", "16M"}
	single := []string{"--root-size", "512M", "--layout", "single"}
	token := []string{"--credential", "site.token=/srv/fault/token"}
	create := func(options ...string) []string {
		return append([]string{"create", "--user-net", "--ssh-key", key + ".pub"}, options...)
	}
	return []fault.Case{
		&vmCase{verb: "vm create", layout: "boot+root+swap", path: "image", args: create(append(three, token...)...), judge: (*vmCase).judgeCreate},
		&vmCase{verb: "vm create", layout: "single", path: "data disk", args: create(append(single, "--disk", "64M,mount=/srv")...), judge: (*vmCase).judgeCreate},
		&vmCase{verb: "vm remove", layout: "boot+root+swap", path: "shut off", args: []string{"remove", "--yes"}, isThere: true, judge: (*vmCase).judgeRemove},
		&vmCase{verb: "vm remove", layout: "boot+root+swap", path: "running", args: []string{"remove", "--yes", "--stop", "--stop-time", "1s"}, isThere: true, judge: (*vmCase).judgeRemove},
		&vmCase{verb: "vm grow", layout: "boot+root+swap", path: "shut off", args: []string{"grow", "--root-size", "600M"}, isThere: true, judge: (*vmCase).judgeGrow},
		&vmCase{verb: "vm mount", layout: "boot+root+swap", path: "shut off", args: []string{"mount"}, isThere: true, judge: (*vmCase).judgeMount},
	}
}

// fewFiles is a bootstrap tool for a tree of a few files, with what --credential asks for.
const fewFiles = `#!/bin/sh
case "$1" in --version) echo "debootstrap 1.0.0"; exit;; esac
for target; do case "$target" in /*/*) break;; esac; done
cd "$target" || exit
mkdir -p etc/network sbin lib/systemd lib/modules/6.1 var/lib/dpkg usr/share
echo root:x:0:0:root:/root:/bin/bash >etc/passwd; echo 'root:*:19000:0:99999:7:::' >etc/shadow
echo 12.1 >etc/debian_version; echo ID=debian >etc/os-release; echo 0123456789abcdef0123456789abcdef >etc/machine-id
: >etc/network/interfaces; : >sbin/ifup; : >sbin/dhclient; : >lib/systemd/systemd; echo kernel/drivers/firmware/qemu_fw_cfg.ko >lib/modules/6.1/modules.builtin
printf 'Package: systemd\nStatus: install ok installed\nArchitecture: amd64\nVersion: 252.1\n\n' >var/lib/dpkg/status
head -c 1M /dev/zero | tr '\0' x >usr/share/big
`

// fewFiles has guests be of that tree, until the test's end.
func (l lab) fewFiles() {
	l.Helper()
	l.write("/etc/default/ganeti-instance-debootstrap", "MIRROR=http://mirror.example/debian\nSUITE=bookworm\nBOOTSTRAP=debootstrap\nSECURITY_MIRROR=none\nCACHE_DIR=/srv/fault/cache\n")
	l.write(string(dir)+"/debootstrap", fewFiles)
	l.tool("chmod", "755", string(dir)+"/debootstrap")
	l.secret(string(dir)+"/token", "tell-nobody")
	for _, path := range fault.ToolsOnPath("debootstrap") {
		l.tool("mount", "--bind", string(dir)+"/debootstrap", path)
		l.Cleanup(func() { l.tool("umount", path) })
	}
}

// TestAGuestThatStaysAfterAFailureIsSaidToNeedAStart: of one that isn't started, nothing is to be
// seen on its console.
func TestAGuestThatStaysAfterAFailureIsSaidToNeedAStart(t *testing.T) {
	l := newLab(t)
	l.fewFiles()
	c := *faultCases()[0].(*vmCase)
	cmd := c.command(c.args...)
	cmd.Env = append(cmd.Env, "FAULTY_POINT=commit|end", "FAULTY_KIND="+fault.Fails)
	out, err := cmd.CombinedOutput()
	if last := (fault.Ran{Log: string(out)}).Last(); err == nil || last != "The guest web1 is whole, and stays. Start it: instance-debootstrap vm start web1; remove it: instance-debootstrap vm remove web1" {
		t.Errorf("%v:\n%s", err, out)
	}
	l.vm("remove", "--yes", "web1")
	l.clean(0)
}

// TestAMountThatCanNotBeToldSaysThatItStays: nobody would look for it, as the command has failed.
func TestAMountThatCanNotBeToldSaysThatItStays(t *testing.T) {
	l := newLab(t)
	l.fewFiles()
	if out, err := new(vmCase).command(faultCases()[0].(*vmCase).args...).CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	for _, fault := range []string{"stdout is full", "stdout's reader is gone"} {
		l.fails("web1 is mounted on /mnt/web1, and stays (unmount it: instance-debootstrap vm umount web1)", "bash", "-c", nodeFaults[fault].shell+`; exec "$0" vm mount web1`, program)
		l.tool("mountpoint", "-q", "/run/instance-debootstrap/guest/web1")
		l.vm("umount", "web1")
	}
	l.vm("remove", "--yes", "web1")
	l.clean(0)
}

// Sides, Ready and Try are what the matrix asks a case for.
func (c *vmCase) Sides() (verb, layout, path string) { return c.verb, c.layout, c.path }

func (c *vmCase) Ready(t *testing.T) []fault.Cell {
	t.Helper()
	c.l = newLab(t)
	l := c.l
	l.smallPool()
	l.fewFiles()
	t.Cleanup(c.reset)
	c.processes = l.processes()
	if _, err := os.Stat(savedDir + "/web1.xml"); err != nil { // the first one makes the tree, and its image
		made := *faultCases()[0].(*vmCase)
		made.l = l
		if r := made.run(fault.Cell{}); r.Exit != 0 {
			t.Fatalf("%v: exit status %d\n%s", made.args, r.Exit, r.Log)
		}
		c.save()
	}
	c.restore()
	c.before = c.look()
	good := c.run(fault.Cell{})
	if good.Exit != 0 {
		t.Fatalf("%v: exit status %d\n%s", c.args, good.Exit, good.Log)
	}
	c.points, c.good = good.Points, c.look()
	if err := fault.StandIns(string(dir), fault.ToolsOf(c.points)); err != nil {
		t.Fatal(err)
	}
	c.restore()
	again := c.run(fault.Cell{})
	if now := c.look(); again.Exit != 0 || !now.isSame(c.good) {
		t.Fatalf("%v, again: exit status %d\n%s\n  it is %v\n  and was %v", c.args, again.Exit, again.Log, now, c.good)
	}
	c.sure = slices.DeleteFunc(slices.Clone(c.points), func(p string) bool { return !slices.Contains(again.Points, p) })
	c.restore()
	return c.cells()
}

func (c *vmCase) cells() []fault.Cell {
	cells := fault.Cells(c.points, func(step, tool, point string) []string {
		switch {
		case tool == "virsh":
			return []string{fault.Lost, libvirtdEnds, libvirtdHangs, libvirtdRestarted}
		case point == step+"|begin":
			return []string{poolFull, poolInactive}
		}
		return nil
	})
	for _, name := range slices.Sorted(maps.Keys(nodeFaults)) {
		if only := nodeFaults[name].only; only == "" || only == c.verb {
			cells = append(cells, fault.Cell{Point: fault.OnTheNode, Kind: name})
		}
	}
	return cells
}

// command is the case's, or another vm command.
func (c *vmCase) command(args ...string) *exec.Cmd {
	cmd := exec.Command(faulty, append(append([]string{"vm"}, args...), "web1")...)
	cmd.Env = append(os.Environ(), "FAULTY_BOOTLOADER=none", "HOME=/root")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// run runs the command with a cell's fault.
func (c *vmCase) run(cell fault.Cell) fault.Ran {
	c.l.Helper()
	cmd := c.command(c.args...)
	_, tool := fault.PointOf(cell.Point)
	inside, stops := cell.Kind, true
	switch {
	case cell.Kind == fault.Hangs && tool == "virsh":
		inside = "hang"
	case cell.Kind == libvirtdEnds, cell.Kind == libvirtdHangs:
		inside = "tell"
	case fault.Signals[cell.Kind] != nil, cell.Kind == fault.Hangs, cell.Kind == libvirtdRestarted, cell.Point != fault.OnTheNode && (cell.Kind == poolFull || cell.Kind == poolInactive):
		inside = "stop"
	default:
		stops = false
	}
	if inside == "hang" || cell.Kind == libvirtdHangs {
		cmd.Env = append(cmd.Env, "FAULTY_CALL_TIME=6s")
	}
	defer c.arrange(cell, cmd)()
	r, err := dir.Run(cmd, cell, inside, func(done chan struct{}) bool { return stops && dir.Stopped(done) }, func(pid int) { c.act(cell, pid) })
	if err != nil {
		c.l.Fatal(err)
	}
	if inside == "stop" { // a call that was begun goes on without who made it
		c.l.try("sh", "-c", `for d in /proc/[0-9]*; do [ "$(readlink $d/exe)" != /usr/bin/virsh ] || kill -CONT ${d#/proc/}; done`)
	}
	if !stops {
		r.Reached = slices.Contains(r.Points, cell.Point)
	}
	return r
}

func (c *vmCase) Try(t *testing.T, cell fault.Cell) (r fault.Ran, sure bool, wrong string) {
	t.Helper()
	c.l = lab{t}
	r = c.run(cell)
	var problems []string
	add := func(text string) {
		if text != "" {
			problems = append(problems, text)
		}
	}
	if r.Late {
		add(fmt.Sprint("it didn't end in ", fault.Patience))
	}
	for _, left := range c.leaves(20 * time.Second) {
		add("left behind: " + left)
	}
	if fault.Crashed.MatchString(r.Log) {
		add("it crashed")
	}
	sure = !slices.Contains(c.points, cell.Point) || slices.Contains(c.sure, cell.Point)
	if !r.Reached && slices.Contains(c.sure, cell.Point) {
		add("not reached: two good runs came to this point")
	}
	said := r // but for a second line, which says what is there
	said.Log, _, _ = strings.Cut(r.Log, "\nThe guest web1 is whole, and stays")
	add(cell.Told(said, fault.Signals[cell.Kind] != nil || cell.Kind == fault.Hangs))
	now := c.look()
	if r.Exit < 0 || strings.Contains(r.Log, "the process that did the work was ended") { // its lock's file goes with the next run
		now.found = slices.DeleteFunc(now.found, func(f string) bool { return strings.HasPrefix(f, "file /run/instance-debootstrap/lock/vm-") })
	}
	add(c.judge(c, r, now, cell))
	isAsBefore := now.isSame(c.before)
	if !isAsBefore || c.tried%8 == 0 { // what is as it was has had its next run
		add(c.again(now))
	}
	if c.tried++; !isAsBefore || len(problems) > 0 || c.tried%8 == 1 {
		c.restore()
	}
	return r, sure, strings.Join(problems, "\n  ")
}

// again does what the docs say is to be done: the same once more, or of a guest that is whole or
// mounted, to remove or unmount it first. After that all is as after a good run.
func (c *vmCase) again(left state) string {
	said := func(args ...string) (string, error) {
		out, err := c.command(args...).CombinedOutput()
		return string(out), err
	}
	if left.has("mount") {
		if out, err := said("umount"); err != nil {
			return "vm umount: " + out
		}
	}
	if c.verb == "vm create" && left.has("domain") && !left.has("file "+stateDir) {
		if out, err := said("remove", "--yes"); err != nil {
			return "vm remove: " + out
		}
	}
	out, err := said(c.args...)
	switch {
	case c.verb == "vm remove" && !left.has("domain web1") && strings.Contains(out, "libvirt has no guest web1"):
		c.reset() // of disks that are left it has said what removes them
	case err != nil:
		return fmt.Sprintf("the next run: %v\n%s", err, out)
	}
	now := c.look()
	for try := 0; try < 10 && !now.isSame(c.good); try++ { // the kernel gives up a loop device when nobody looks at it any longer
		time.Sleep(200 * time.Millisecond)
		now = c.look()
	}
	if !now.isSame(c.good) {
		return fmt.Sprintf("after the next run it is %v\n  and was %v", now, c.good)
	}
	if problems := c.leaves(5 * time.Second); len(problems) > 0 {
		return "left by the next run: " + strings.Join(problems, "; ")
	}
	return ""
}
