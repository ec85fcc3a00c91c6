//go:build root

package root

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// served has a program serve the root disk's file (nbd), and the instance know it by its
// URI only.
func (l *lab) served() (uri string, server *exec.Cmd) {
	l.Helper()
	uri, server = l.serve(l.disk)
	delete(l.env, "DISK_0_PATH")
	l.env["DISK_0_URI"] = uri
	return uri, server
}

// serve has a program serve a disk's file, and returns its URI; options are qemu-nbd's.
func (l *lab) serve(disk string, options ...string) (uri string, server *exec.Cmd) {
	l.Helper()
	socket := filepath.Join(l.TempDir(), "socket")
	if !slices.Contains(options, "--image-opts") {
		options = append(options, "-f", "raw")
	}
	server = exec.Command("qemu-nbd", append(options, "--persistent", "--discard=unmap", "-k", socket, disk)...)
	server.Stderr = os.Stderr
	must(l, server.Start())
	l.Cleanup(func() { server.Process.Kill(); server.Wait() })
	for range 6000 {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return "nbd+unix:///?socket=" + socket, server
}

// daemons lists the storage daemons that serve a disk of this lab.
func (l *lab) daemons(disk string) (pids []string) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range all {
		exe, _ := os.Readlink(p + "/exe")
		cmdline, _ := os.ReadFile(p + "/cmdline")
		if filepath.Base(exe) == "qemu-storage-daemon" && bytes.Contains(cmdline, []byte(disk)) {
			pids = append(pids, filepath.Base(p))
		}
	}
	return pids
}

// gone fails when anything of a run is left, its storage daemons included.
func (l *lab) gone(disk string) {
	l.Helper()
	l.clean(2 * time.Second)
	for range 100 {
		if len(l.daemons(disk)) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	l.Fatalf("daemons are left: %v", l.daemons(disk))
}

func (l *lab) socket() string {
	_, socket, _ := strings.Cut(l.env["DISK_0_URI"], "socket=")
	return socket
}

// exportURI exports the root disk by its URI.
func (l *lab) exportURI() (stream string) {
	l.Helper()
	stream = filepath.Join(l.TempDir(), "stream")
	out, err := os.Create(stream)
	must(l, err)
	defer out.Close()
	cmd, told := l.exporting(0, l.disk)
	cmd.Env = append(cmd.Env, "EXPORT_DEVICE=", "EXPORT_DISK_PATH=", "EXPORT_DISK_URI="+l.env["DISK_0_URI"])
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, &stderr
	l.finish(cmd)
	size := told()
	if !cmd.ProcessState.Success() {
		l.Fatalf("export: %v\n%s", cmd.ProcessState, stderr.String())
	}
	l.gone(l.socket())
	l.toldSize(stream, size)
	return stream
}

// TestEveryVerbOnADiskThatTheKernelNeverSees: create, rename, export and import of a disk
// that has a URI only. What is looked at afterwards is the file behind the server.
func TestEveryVerbOnADiskThatTheKernelNeverSees(t *testing.T) {
	for i, fstype := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fstype, func(t *testing.T) {
			l := newMoveLab(t, 600)
			l.served()
			l.guest([]string{"msdos", "gpt", "none"}[i], fstype)
			l.gone(l.socket())
			if log, exit := l.run("rename"); exit != 0 {
				t.Fatalf("rename: exit status %d\n%s", exit, log)
			}
			l.gone(l.socket())
			l.checkFilesystem(fstype)
			l.mounted(func(tree string) {
				if got := l.tool("cat", tree+"/etc/hostname"); got != "inst2.example" {
					t.Errorf("/etc/hostname is %q", got)
				}
			})
			before, id := l.snapshot(without{}), l.identity()
			l.env["EXPORT_FORMAT"] = []string{"tar", "image", "tar"}[i]
			stream := l.exportURI()

			l.target(700)
			l.served()
			f, err := os.Open(stream)
			must(t, err)
			defer f.Close()
			cmd := l.importing(0, l.disk)
			cmd.Env = append(cmd.Env, "IMPORT_DEVICE=", "IMPORT_DISK_PATH=", "IMPORT_DISK_URI="+l.env["DISK_0_URI"])
			if fed := l.feed(f, cmd); fed.exit != 0 || fed.err != nil {
				t.Fatalf("import: exit status %d, %v\n%s", fed.exit, fed.err, fed.log)
			}
			l.gone(l.socket())
			l.checkFilesystem(fstype)
			l.fillsDisk()
			if got := l.identity(); got.fstype != id.fstype || got.table != id.table {
				t.Errorf("the import is %+v, was %+v", got, id)
			}
			if after := l.snapshot(without{}); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("the files differ:\n%s\nwere\n%s", after, before)
			}
		})
	}
}

// waiting lists the processes that wait in the kernel and can't be killed (state D).
func waiting() (found []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range all {
		stat, _ := os.ReadFile(path)
		if _, after, ok := strings.Cut(string(stat), ") "); ok && strings.HasPrefix(after, "D") {
			pid, _, _ := strings.Cut(string(stat), ") ")
			found = append(found, pid)
		}
	}
	return found
}

// dirtyHook fills the guest's filesystem, writes nothing out, and waits.
func (l *lab) dirtyHook() {
	l.Helper()
	l.hook("10-dirty", fmt.Sprintf(`head -c 200M /dev/zero > "$TARGET/dirty"; (exec -a %s sleep 1000) & wait`, mark()))
}

// TestEndsCleanlyWithPagesToBeWritten: whatever ends, the daemon, its server or the run
// itself, while the guest's filesystem has pages that aren't written, no loop device, no
// mount and no process is left, and none waits for what doesn't come.
func TestEndsCleanlyWithPagesToBeWritten(t *testing.T) {
	// A run whose disk is gone ends when the hook does.
	killDaemon := func(l *lab) { l.tool("kill", "-9", strings.Join(l.daemons(l.socket()), " ")) }
	endHook := func(l *lab) { l.tool("pkill", "-f", "^"+mark()) }
	for name, end := range map[string]func(l *lab, pid int, server *exec.Cmd){
		"the daemon": func(l *lab, _ int, _ *exec.Cmd) {
			killDaemon(l)
			endHook(l)
		},
		"the server": func(l *lab, _ int, server *exec.Cmd) {
			server.Process.Kill()
			endHook(l)
		},
		"the run":                 func(_ *lab, pid int, _ *exec.Cmd) { kills["SIGKILL"](pid) },
		"the run's inner process": func(_ *lab, pid int, _ *exec.Cmd) { kills["SIGKILL to the inner process"](pid) },
		"the run, told to end":    func(_ *lab, pid int, _ *exec.Cmd) { kills["SIGTERM"](pid) },
		"the daemon, then the run": func(l *lab, pid int, _ *exec.Cmd) {
			killDaemon(l)
			kills["SIGKILL"](pid)
		},
		"the server, then the run": func(_ *lab, pid int, server *exec.Cmd) { server.Process.Kill(); kills["SIGKILL"](pid) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 600)
			l.tinyTree()
			_, server := l.served()
			l.dirtyHook()
			var out bytes.Buffer
			cmd := l.command("create")
			cmd.Stdout, cmd.Stderr = &out, &out
			moment := l.running()
			must(t, cmd.Start())
			done := make(chan error, 1)
			go func() { done <- cmd.Wait() }()
			select {
			case err := <-done:
				t.Fatalf("it ended: %v\n%s", err, out.String())
			case <-moment:
			}
			end(l, cmd.Process.Pid, server)
			select {
			case <-done:
			case <-time.After(30 * time.Second):
				t.Fatalf("it does not end; waiting are %q\n%s", waiting(), out.String())
			}
			if cmd.ProcessState.Success() {
				t.Errorf("it ended as if all was well:\n%s", out.String())
			}
			l.gone(l.socket())
			stuck := waiting()
			for until := time.Now().Add(5 * time.Second); len(stuck) > 0 && time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
				now := waiting()
				stuck = slices.DeleteFunc(stuck, func(pid string) bool { return !slices.Contains(now, pid) })
			}
			if len(stuck) > 0 {
				t.Errorf("these wait all the time: %q\n%s", stuck, out.String())
			}
		})
	}
}

// TestSwapAndDataDisksThatTheKernelNeverSees beside a root that is a file.
func TestSwapAndDataDisksThatTheKernelNeverSees(t *testing.T) {
	l, data := dataLab(t, 64, "data=/srv")
	swap := l.blankDisk("swap", 64)
	l.disks(l.disk, data, swap)
	l.env["DISK_2_NAME"] = "swap"
	for i, disk := range []string{data, swap} {
		delete(l.env, fmt.Sprintf("DISK_%d_PATH", i+1))
		l.env[fmt.Sprintf("DISK_%d_URI", i+1)], _ = l.serve(disk)
	}
	if log := l.create(); strings.Contains(log, "qemu-storage-daemon: ") || strings.Contains(log, "fuse") {
		t.Errorf("the daemon has something to say:\n%s", log)
	}
	l.gone("socket")
	l.mountsData(data, "/srv", "ext4", "2")
	if got := l.tool("blkid", "-p", "-s", "TYPE", "-o", "value", swap); got != "swap" {
		t.Errorf("the swap disk holds %q", got)
	}
	l.create() // which takes the data disk as it is
	l.gone("socket")
}

// byURI has the instance know a disk by its URI only.
func (l *lab) byURI(index int, uri string) {
	delete(l.env, fmt.Sprintf("DISK_%d_PATH", index))
	l.env[fmt.Sprintf("DISK_%d_URI", index)] = uri
}

// TestADataDiskWhoseServerRefusesToWriteIsMountedReadOnly as one with a path is, if the guest can't
// write to it either.
func TestADataDiskWhoseServerRefusesToWriteIsMountedReadOnly(t *testing.T) {
	l, data := dataLab(t, 64, "data=/srv")
	l.tool("mke2fs", "-q", "-F", "-t", "ext4", data)
	before := sumOf(t, data)
	uri, _ := l.serve(data, "--read-only")
	l.byURI(1, uri)
	l.matches(l.fails("disk "+uri), "qemu-storage-daemon")
	l.env["DISK_1_ACCESS"] = "ro"
	must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
	if log, exit := l.run("instance-debootstrap", "plan", "create"); exit != 0 {
		t.Errorf("plan: exit status %d\n%s", exit, log)
	}
	l.matches(l.create(), "taken as it is, and mounted read-only")
	l.gone("socket")
	if got := l.fstabLine("/srv"); got != "ro,nofail 0" {
		t.Errorf("fstab: %s", got)
	}
	if sumOf(t, data) != before {
		t.Error("the data disk was written to")
	}
}

// TestADiskWhoseServerRefusesToWriteIsExported, as a snapshot's may.
func TestADiskWhoseServerRefusesToWriteIsExported(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("gpt", "ext4")
	before := sumOf(t, l.disk)
	path := l.disk
	l.env["DISK_0_URI"], _ = l.serve(l.disk, "--read-only")
	delete(l.env, "DISK_0_PATH")
	stream := l.exportURI()
	if m := manifestOf(t, stream); m["holes"] != "unused" {
		t.Errorf("the backup doesn't have the filesystem's used blocks: %v", m)
	}
	if sumOf(t, path) != before {
		t.Error("the disk was changed")
	}
	l.matches(l.fails("disk "+l.env["DISK_0_URI"]), "qemu-storage-daemon")
}

// TestTwoDisksThatAreOneAreCalledSo, and not another run's.
func TestTwoDisksThatAreOneAreCalledSo(t *testing.T) {
	l, _ := dataLab(t, 64, "data=/srv")
	uri, _ := l.served()
	l.byURI(1, uri)
	l.matches(l.fails("DISK_1_URI: disk "+uri), "is another of the instance's disks, too")
}

// TestALayoutPartitionsADiskThatTheKernelNeverSees, which a reinstall leaves alone.
func TestALayoutPartitionsADiskThatTheKernelNeverSees(t *testing.T) {
	l := layoutLab(t, 800, "0 rest ext4 /\n1 100M swap\n1 rest xfs /srv\n")
	second := l.blankDisk("second-disk", 600)
	l.disks(l.disk, second)
	uri, _ := l.serve(second)
	l.byURI(1, uri)
	must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
	log, _ := l.run("instance-debootstrap", "plan", "create")
	l.matches(log, `disk 1 \(nbd\+unix:.*: blank`)
	l.create()
	l.gone("socket")
	l.on(second, func() { l.hasLayout([]string{"1 swap swap", "2 /srv xfs"}) })
	before := sumOf(t, second)
	l.env["INSTANCE_REINSTALL"] = "1"
	l.matches(l.create(), "disk 1 .*is taken as it is")
	l.gone("socket")
	if sumOf(t, second) != before {
		t.Error("a reinstall has changed the second disk")
	}
}

// TestWhatADiskBesideHoldsIsKnownByItsURI: an export names the swap of another disk, and an
// import's fstab does, though that has a URI only and another run works on it.
func TestWhatADiskBesideHoldsIsKnownByItsURI(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("msdos", "ext4")
	swap := l.blankDisk("swap", 64)
	l.disks(l.disk, swap)
	l.tool("mkswap", "-q", swap)
	uuid := l.tool("blkid", "-p", "-s", "UUID", "-o", "value", swap)
	delete(l.env, "DISK_1_PATH")
	l.env["DISK_1_URI"], _ = l.serve(swap)
	must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
	byHand := base + "/os/instance-debootstrap"
	l.lockNamed(exec.Command(byHand, "inspect", l.env["DISK_1_URI"]))
	if out, err := exec.Command(byHand, "inspect", l.env["DISK_1_URI"]).CombinedOutput(); err == nil {
		t.Fatalf("the disk isn't locked:\n%s", out)
	}

	l.env["EXPORT_FORMAT"] = "tar"
	stream := l.export(0, l.disk)
	if got, want := fmt.Sprint(manifestOf(t, stream)["siblings"]), "type:swap uuid:"+uuid; !strings.Contains(got, want) {
		t.Errorf("the backup says of the disks beside: %s", got)
	}

	dir := t.TempDir()
	l.tool("tar", "-xf", l.tar(), "-C", dir)
	must(t, os.WriteFile(dir+"/etc/fstab", []byte("/dev/vda1 / ext4 defaults 0 1\n/dev/vdb none swap sw 0 0\n"), 0o644))
	stream = filepath.Join(t.TempDir(), "tar")
	l.tool("tar", "-cf", stream, "-C", dir, ".")
	target := l.usedDisk(600)
	l.disk, l.env["DISK_0_PATH"] = target, target
	l.importFile(stream)
	l.mounted(func(tree string) {
		if fstab := l.tool("cat", tree+"/etc/fstab"); !strings.Contains(fstab, "UUID="+uuid+" none swap") {
			t.Errorf("fstab doesn't name the swap %s:\n%s", uuid, fstab)
		}
	})
	l.gone("socket")

	// A server that takes no further client isn't waited for.
	client := exec.Command("qemu-io", "-f", "raw", "-c", "sleep 60000", l.env["DISK_1_URI"])
	must(t, client.Start())
	defer func() { client.Process.Kill(); client.Wait() }()
	time.Sleep(time.Second)
	l.target(600)
	l.env["DISK_COUNT"] = "2"
	l.matches(l.importFile(stream), `with a warning: disk 1 can't be looked at, .*no answer within 10s`)
	l.gone("socket")
}

// lockNamed locks the disk that the run works on, which has a URI only: by the file that the
// run locks, and which goes with it.
func (l *lab) lockNamed(run *exec.Cmd) {
	l.Helper()
	ended := make(chan error, 1)
	must(l, run.Start())
	go func() { ended <- run.Wait() }()
	var seen []string
	for over := false; !over; time.Sleep(time.Millisecond) {
		if locks, err := filepath.Glob(base + "/lock/disk-name-*.lock"); len(locks) > 0 {
			must(l, err)
			seen = locks
		}
		select {
		case err := <-ended:
			must(l, err)
			over = true
		default:
		}
	}
	if len(seen) != 1 {
		l.Fatalf("the run has locked %q, not one disk by its URI", seen)
	}
	f, err := os.OpenFile(seen[0], os.O_RDWR|os.O_CREATE, 0o600)
	must(l, err)
	l.Cleanup(func() { f.Close(); os.Remove(seen[0]) })
	must(l, syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
}

func TestADiskThatTheKernelNeverSeesInTheNodesNamespaces(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.served()
	l.write("default", "NAMESPACE=host\n", 0o644)
	l.hook("10-left", fmt.Sprintf(`(cd "$TARGET"; exec -a %s sleep 1000) &`, mark()))
	l.create()
	l.gone(l.socket())
	l.checkFilesystem("ext4")
}

// TestADiskThatCannotBeReachedIsRefused, by its name, before anything is touched.
func TestADiskThatCannotBeReachedIsRefused(t *testing.T) {
	for uri, want := range map[string]string{
		"iscsi://user%secret@host/target/1": "DISK_0_URI: disk .* not a known kind of URI",
		"rbd:pool/volume:key=secret":        `DISK_0_URI: disk .*option "key" is not known`,
		"nbd:unix:/nowhere/socket":          "disk nbd:unix:/nowhere/socket: qemu-storage-daemon: .*Failed to connect to '/nowhere/socket'",
	} {
		l := newMoveLab(t, 600)
		l.tinyTree()
		delete(l.env, "DISK_0_PATH")
		l.env["DISK_0_URI"] = uri
		log := l.fails("")
		l.matches(log, want)
		if strings.Contains(log, "secret") {
			t.Errorf("it tells the secret:\n%s", log)
		}
		l.gone("nowhere")
	}
	l := newMoveLab(t, 600)
	l.tinyTree()
	l.served()
	l.fake("qemu-storage-daemon", "exit 1")
	l.matches(l.fails("disk nbd+unix:"), "qemu-storage-daemon: exit status 1")
	l.untouched()
}

// TestMessagesCallADiskByItsURI, and not by the file by which a run reaches it.
func TestMessagesCallADiskByItsURI(t *testing.T) {
	l := newMoveLab(t, 600)
	l.tinyTree()
	uri, _ := l.served()
	l.env["DEBUG_LEVEL"], l.env["OLD_INSTANCE_NAME"] = "1", "old.example"
	must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
	called := func(log string) {
		t.Helper()
		l.gone(l.socket())
		if strings.Contains(log, "served-") || !strings.Contains(log, uri) {
			t.Errorf("%s is called something else:\n%s", uri, log)
		}
	}
	refused, exit := l.run("rename")
	if called(refused); exit != 1 {
		t.Errorf("a blank disk is renamed:\n%s", refused)
	}
	l.matches(refused, "(?m)^rename: .*disk "+regexp.QuoteMeta(uri))
	called(l.create())
	for _, args := range [][]string{{"plan", "rename"}, {"plan", "rename", "--json"}, {"grow", uri}, {"grow", "--dry-run", uri}, {"--log-format", "json", "--verbose", "grow", uri}, {"inspect", uri}, {"inspect", "--json", uri}} {
		log, exit := l.run("instance-debootstrap", args...)
		if called(log); exit != 0 {
			t.Errorf("%v: %s", args, log)
		}
	}
	log, _ := l.run("rename")
	called(log)
}

// TestAWriteThatFailsNamesTheDisk, and not only the descriptor by which it was written to.
func TestAWriteThatFailsNamesTheDisk(t *testing.T) {
	l := newMoveLab(t, 600)
	l.tinyTree()
	uri, _ := l.serve("driver=raw,file.driver=blkdebug,file.inject-error.0.event=none,file.inject-error.0.iotype=write,file.inject-error.0.errno=28,file.image.driver=file,file.image.filename="+l.disk, "--image-opts")
	delete(l.env, "DISK_0_PATH")
	l.env["DISK_0_URI"] = uri
	l.matches(l.fails(""), "(?m)^create: partition the disk: disk "+regexp.QuoteMeta(uri)+": .*no space left on device")
	l.gone(l.socket())
}

// TestPlanRefusesTheDiskOfARunningGuest as the verb would, with the steps.
func TestPlanRefusesTheDiskOfARunningGuest(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	delete(l.env, "DISK_0_PATH")
	l.env["DISK_0_URI"], _ = l.serve(l.disk, "--shared=3")
	must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
	end, pid := l.guestOf(l.env["DISK_0_URI"])
	log, exit := l.run("instance-debootstrap", "plan", "create")
	if exit != 1 {
		t.Errorf("exit status %d", exit)
	}
	l.matches(log, fmt.Sprintf(`claim the disks.*600 MiB, holds.*\n(.*\n)*refused: disk nbd.* is in use: open in qemu-system-x86_64 \(process %d\)`, pid))
	end()
	if log, exit := l.run("instance-debootstrap", "plan", "create"); exit != 0 {
		t.Errorf("without the guest: exit status %d\n%s", exit, log)
	}
}

// guestOf starts a QEMU, which has no machine, with a disk.
func (l *lab) guestOf(disk string) (end func(), pid int) {
	l.Helper()
	guest := exec.Command("qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none", "-S", "-drive", "if=none,format=raw,file="+disk)
	guest.Stderr = os.Stderr
	must(l, guest.Start())
	end = func() { guest.Process.Kill(); guest.Wait() }
	l.Cleanup(end)
	for range 500 { // its exe is ours until it has started
		if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", guest.Process.Pid)); strings.Contains(exe, "qemu-system") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return end, guest.Process.Pid
}

// TestADiskWithAPathThatARunningGuestHasByItsURIIsRefused: by the path it doesn't show.
func TestADiskWithAPathThatARunningGuestHasByItsURIIsRefused(t *testing.T) {
	l := newMoveLab(t, 600)
	l.tinyTree()
	l.env["DISK_0_URI"], _ = l.serve(l.blankDisk("served", 600))
	end, pid := l.guestOf(l.env["DISK_0_URI"])
	want := fmt.Sprintf("is in use: open in qemu-system-x86_64 (process %d)", pid)
	l.fails(want)
	l.untouched()
	end()
	l.create()
	l.guestOf(l.env["DISK_0_URI"])
	l.env["OLD_INSTANCE_NAME"] = "inst1.example"
	if log, exit := l.run("rename"); exit != 1 || !strings.Contains(log, "in use") {
		t.Errorf("rename: exit status %d\n%s", exit, log)
	}
	l.export(0, l.disk) // which may be a snapshot
}

// TestPlanLooksAtADiskThatTheKernelNeverSees, and doctor says whether it can be.
func TestPlanLooksAtADiskThatTheKernelNeverSees(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.served()
	must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
	log, exit := l.run("instance-debootstrap", "plan", "create")
	if exit != 0 {
		t.Errorf("plan: exit status %d\n%s", exit, log)
	}
	l.matches(log, `on nbd\+unix:.*:\n.*claim the disks.*600 MiB, holds`)
	l.gone(l.socket())
	l.untouched()
	log, _ = l.run("instance-debootstrap", "doctor")
	l.matches(log, "ok +userspace disks +QEMU has drivers for nbd, qcow2")
	l.fake("qemu-storage-daemon", "exit 1")
	log, _ = l.run("instance-debootstrap", "doctor")
	l.matches(log, "ok +userspace disks +none can be worked on.*qemu-storage-daemon")
	if strings.Contains(log, "7.2 or later") {
		t.Errorf("a daemon that fails is taken for an old one:\n%s", log)
	}
	l.fake("qemu-storage-daemon", "echo --export '[type=]nbd'")
	log, _ = l.run("instance-debootstrap", "doctor")
	l.matches(log, "ok +userspace disks +none can be worked on.*install QEMU 7.2 or later")
	l.fake("qemu-storage-daemon", "echo --export '[type=]fuse' version 6.2.0")
	log, _ = l.run("instance-debootstrap", "doctor")
	l.matches(log, "ok +userspace disks +none can be worked on.*install QEMU 7.2 or later")
}

// TestAQcow2ByHand: install, inspect and grow, with --format. What is looked at afterwards
// is its content as qemu-img has it.
func TestAQcow2ByHand(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	image := filepath.Join(t.TempDir(), "web1.qcow2")
	l.tool("qemu-img", "create", "-q", "-f", "qcow2", image, "600M")
	ok := func(args ...string) string {
		t.Helper()
		out, exit := l.here(args...)
		if exit != 0 {
			t.Fatalf("%v: exit status %d\n%s", args, exit, out)
		}
		l.gone(image)
		l.tool("qemu-img", "check", "-q", image)
		return out
	}
	content := func() {
		t.Helper()
		must(t, os.Remove(l.disk))
		l.tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, l.disk)
	}
	l.matches(ok("install", "--format", "qcow2", "--suite", "trixie", "--arch", tinyArch, "--partition-style", "msdos", "--filesystem", "ext4", image), "web1 is installed on "+image)
	content()
	l.checkFilesystem("ext4")
	l.mounted(func(tree string) {
		if got := l.tool("cat", tree+"/etc/hostname"); got != "web1" {
			t.Errorf("/etc/hostname is %q", got)
		}
	})
	if st, err := os.Stat(image); err != nil || st.Size() > 100<<20 {
		t.Errorf("it has grown to %d bytes, %v", st.Size(), err)
	}
	before := sumOf(l, image)
	l.matches(ok("inspect", "--format", "qcow2", image), "(?s)disk: +"+image+", 600 MiB.*instance: +web1")
	if sumOf(l, image) != before {
		t.Error("inspect has changed it")
	}
	l.tool("qemu-img", "resize", "-q", image, "900M")
	before = sumOf(l, image)
	l.matches(ok("grow", "--dry-run", "--format", "qcow2", image), "disk "+image+" of 900 MiB: would grow partition 1")
	if sumOf(l, image) != before {
		t.Error("grow --dry-run has changed it")
	}
	l.matches(ok("grow", "--format", "qcow2", image), "disk "+image+" of 900 MiB: grew partition 1")
	content()
	l.checkFilesystem("ext4")
	l.fillsDisk()

	// Again: it holds data now. And as what it isn't.
	for want, args := range map[string][]string{
		"--force overwrites it":          {"install", "--format", "qcow2", image},
		"give --format qcow2":            {"grow", image},
		"not a qcow2":                    {"inspect", "--format", "qcow2", l.disk},
		"must be raw or qcow2":           {"inspect", "--format", "vmdk", image},
		"--size makes raw image files":   {"install", "--size", "1G", "--format", "qcow2", image + ".new"},
		"a file or a block device of":    {"grow", "--format", "qcow2", "nbd:unix:/x"},
		"give --hostname":                {"install", "nbd:unix:/x"},
		"disk nbd:unix:/x: qemu-storage": {"install", "--hostname", "web1", "nbd:unix:/x"},
	} {
		out, exit := l.here(args...)
		if exit == 0 || !strings.Contains(out, want) {
			t.Errorf("%v: exit status %d, without %q:\n%s", args, exit, want, out)
		}
		l.gone(image)
	}
	if out, exit := l.here("inspect", image); exit != 0 || !strings.Contains(out, "it looks like a qcow2 image: if it is one, give --format qcow2") || !strings.Contains(out, "nothing known") {
		t.Errorf("inspect without a format: exit status %d\n%s", exit, out)
	}
	// One that names other files gets none of them.
	linked := filepath.Join(t.TempDir(), "linked.qcow2")
	l.tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", l.disk, linked)
	external := filepath.Join(t.TempDir(), "external.qcow2")
	l.tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file="+external+".raw", external, "600M")
	for disk, want := range map[string]string{linked: "has a backing file", external: "has its data in another file"} {
		for _, args := range [][]string{{"install", "--force"}, {"inspect"}, {"grow"}} {
			out, exit := l.here(append(args, "--format", "qcow2", disk)...)
			if exit != 1 || !strings.Contains(out, want) {
				t.Errorf("%v of %s: exit status %d\n%s", args, disk, exit, out)
			}
		}
	}
	l.gone("qcow2")
}
