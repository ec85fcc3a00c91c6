//go:build root

package userspace

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == Helper {
		if err := Hand(os.Getenv("_FUSE_COMMFD")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func tool(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// file makes a sparse file, its size in MiB.
func file(t *testing.T, mib int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.Truncate(path, mib<<20))
	return path
}

// serve serves an image by nbd, as QEMU's options say, and returns its URI.
func serve(t *testing.T, options string) string {
	t.Helper()
	uri, _ := serveBy(t, options)
	return uri
}

func serveBy(t *testing.T, options string) (uri string, server *exec.Cmd) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "socket")
	server = exec.Command("qemu-nbd", "--persistent", "--shared=4", "--discard=unmap", "-k", socket, "--image-opts", options)
	server.Stderr = os.Stderr
	must(t, server.Start())
	t.Cleanup(func() { server.Process.Kill(); server.Wait() })
	for range 6000 {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return "nbd+unix:///?socket=" + socket, server
}

func raw(path string) string { return "driver=raw,file.driver=file,file.filename=" + path }

func newSession(t *testing.T) *session.Session {
	t.Helper()
	paths.LockDir = t.TempDir()
	s := &session.Session{WorkDir: t.TempDir()}
	t.Cleanup(func() { s.UndoTo(context.Background(), 0) })
	return s
}

func open(t *testing.T, s *session.Session, disk, format string, readOnly bool) string {
	t.Helper()
	d, err := Parse(disk, format)
	must(t, err)
	path, err := d.Open(context.Background(), s, readOnly)
	must(t, err)
	return path
}

func blocks(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	return st.Blocks
}

// TestWhatIsWrittenGivenUpAndZeroedReachesTheStorage, and nothing is left after it.
func TestWhatIsWrittenGivenUpAndZeroedReachesTheStorage(t *testing.T) {
	disk := file(t, 64)
	for name, source := range map[string]func() (string, string){
		"nbd": func() (string, string) { return serve(t, raw(disk)), Raw },
		"qcow2": func() (string, string) {
			image := filepath.Join(t.TempDir(), "image")
			tool(t, "qemu-img", "create", "-q", "-f", "qcow2", image, "64M")
			return image, Qcow2
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSession(t)
			where, format := source()
			storage := disk
			if format == Qcow2 {
				storage = where
			}
			path := open(t, s, where, format, false)
			st, err := os.Stat(path)
			if err != nil || st.Size() != 64<<20 || !st.Mode().IsRegular() {
				t.Fatalf("%v, %v", st, err)
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			must(t, err)
			data := bytes.Repeat([]byte("data"), 4<<20)
			_, err = f.WriteAt(data, 0)
			must(t, err)
			must(t, f.Sync())
			full := blocks(t, storage)
			must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 8<<20))
			must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, 8<<20, 1<<20))
			got := make([]byte, 10<<20)
			_, err = f.ReadAt(got, 0)
			must(t, err)
			if !bytes.Equal(got[:9<<20], make([]byte, 9<<20)) || !bytes.Equal(got[9<<20:], data[:1<<20]) {
				t.Error("what was zeroed isn't zero, or what was written isn't there")
			}
			must(t, f.Close())
			must(t, s.UndoTo(context.Background(), 0))
			if now := blocks(t, storage); full < 16<<11 || now > full-7<<11 {
				t.Errorf("the storage had %d blocks, and has %d after half was given up", full, now)
			}
			if left, err := os.ReadDir(s.WorkDir); err != nil || len(left) > 0 {
				t.Errorf("left are %v, %v", left, err)
			}
			back := filepath.Join(t.TempDir(), "back")
			tool(t, "qemu-img", "convert", "-U", "-f", format, "-O", "raw", storage, back)
			b, err := os.ReadFile(back)
			must(t, err)
			if !bytes.Equal(b[9<<20:16<<20], data[9<<20:]) || !bytes.Equal(b[:9<<20], make([]byte, 9<<20)) {
				t.Error("the storage has something else than what was written")
			}
			if format == Qcow2 {
				tool(t, "qemu-img", "check", "-q", storage)
			}
		})
	}
}

// TestWhatIsWrittenWhileTheServerIsSlowIsWhatArrives: QEMU's daemons up to 10.2 at least take
// a second write's bytes for those of the first, when that still waits for the server.
func TestWhatIsWrittenWhileTheServerIsSlowIsWhatArrives(t *testing.T) {
	disk := file(t, 128)
	uri, server := serveBy(t, raw(disk))
	s := newSession(t)
	f, err := os.OpenFile(open(t, s, uri, Raw, false), os.O_RDWR, 0)
	must(t, err)
	ended := make(chan bool)
	slow := make(chan bool)
	go func() {
		defer close(slow)
		for {
			server.Process.Signal(unix.SIGSTOP)
			time.Sleep(4 * time.Millisecond)
			server.Process.Signal(unix.SIGCONT)
			select {
			case <-ended:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	w := blockdev.NewWriter(context.Background(), f)
	want := make([]byte, 128<<20)
	for i := range want {
		want[i] = byte((i>>12)*7 + i>>20)
	}
	_, err = w.WriteAt(want, 0)
	must(t, err)
	must(t, w.Finish())
	close(ended)
	<-slow
	must(t, f.Close())
	must(t, s.UndoTo(context.Background(), 0))
	got, err := os.ReadFile(disk)
	must(t, err)
	wrong := 0
	for at := 0; at < len(want); at += 4096 {
		if !bytes.Equal(got[at:at+4096], want[at:at+4096]) {
			wrong++
		}
	}
	if wrong > 0 {
		t.Errorf("%d blocks of %d are others than were written", wrong, len(want)/4096)
	}
}

// TestAFlushThatFailsIsAFailure: what the server didn't make durable isn't on the disk.
func TestAFlushThatFailsIsAFailure(t *testing.T) {
	options := "driver=raw,file.driver=blkdebug,file.inject-error.0.event=none,file.inject-error.0.iotype=flush,file.inject-error.0.errno=5,file.image.driver=file,file.image.filename=" + file(t, 8)
	s := newSession(t)
	path := open(t, s, serve(t, options), Raw, false)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("data"), 0)
	must(t, err)
	f.Close()
	if err := s.UndoTo(context.Background(), 0); err == nil || !strings.Contains(err.Error(), "input/output error") {
		t.Errorf("the end of a disk that can't be flushed: %v", err)
	}
}

// TestTheDaemonEndsInOrderEachTime: an early version unmounted first, and of QEMU 7.2 some
// daemons died of that.
func TestTheDaemonEndsInOrderEachTime(t *testing.T) {
	uri := serve(t, raw(file(t, 8)))
	for range 40 {
		s := newSession(t)
		f, err := os.OpenFile(open(t, s, uri, Raw, false), os.O_RDWR, 0)
		must(t, err)
		_, err = f.WriteAt(make([]byte, 1<<20), 0)
		must(t, err)
		must(t, f.Close())
		must(t, s.UndoTo(context.Background(), 0))
	}
}

func TestADaemonThatDiedIsAFailure(t *testing.T) {
	s := newSession(t)
	uri := serve(t, raw(file(t, 8)))
	open(t, s, uri, Raw, false)
	must(t, unix.Kill(pid(t, uri), unix.SIGKILL))
	if err := s.UndoTo(context.Background(), 0); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("%v", err)
	}
}

func TestASecondRunOnADiskIsToldOfTheFirst(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	tool(t, "qemu-img", "create", "-q", "-f", "qcow2", image, "8M")
	for disk, format := range map[string]string{serve(t, raw(file(t, 8))): Raw, image: Qcow2} {
		s := newSession(t)
		open(t, s, disk, format, false)
		d, err := Parse(disk, format)
		must(t, err)
		if _, err := d.Open(context.Background(), s, false); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("disk %s is in use: another run of instance-debootstrap works on it (pid %d, since ", disk, os.Getpid())) {
			t.Errorf("%s twice: %v", disk, err)
		}
		if out, err := exec.Command("qemu-io", "-f", Qcow2, "-c", "write 0 512", image).CombinedOutput(); format == Qcow2 && (err == nil || !strings.Contains(string(out), "lock")) {
			t.Errorf("another QEMU: %v, %s", err, out)
		}
		must(t, s.UndoTo(context.Background(), 0))
	}
}

// TestAGlanceIsInNobodysWay: import looks so at the instance's other disks, on which other runs
// of the same import work.
func TestAGlanceIsInNobodysWay(t *testing.T) {
	uri := serve(t, raw(file(t, 8)))
	d, err := Parse(uri, "")
	must(t, err)
	s, other := newSession(t), newSession(t)
	looks := 0
	look := func(path string) {
		looks++
		if b, err := os.ReadFile(path); err != nil || len(b) != 8<<20 {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}
	must(t, d.Glance(context.Background(), s, func(path string) {
		look(path)
		open(t, other, uri, "", false)
	}))
	must(t, d.Glance(context.Background(), s, look))
	must(t, other.UndoTo(context.Background(), 0))
	if left, err := os.ReadDir(s.WorkDir); looks != 2 || err != nil || len(left) > 0 {
		t.Errorf("%d looks; left are %v, %v", looks, left, err)
	}
}

// A boot test's QEMU is nobody, and is handed the open file.
func TestWhoIsHandedTheOpenFileReadsItWhoeverItIs(t *testing.T) {
	path := open(t, newSession(t), serve(t, raw(file(t, 8))), Raw, true)
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	cmd := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", "stat -L -c %s /proc/self/fd/3 && head -c 4096 <&3 | wc -c")
	cmd.ExtraFiles = []*os.File{f}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "8388608\n4096\n" {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", path).CombinedOutput(); err == nil {
		t.Errorf("nobody opens it by its name: %d bytes", len(out))
	}
}

func TestADiskThatIsLookedAtCantBeWrittenTo(t *testing.T) {
	disk := file(t, 8)
	s := newSession(t)
	path := open(t, s, serve(t, raw(disk)), Raw, true)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("data"), 0)
		f.Close()
	}
	if err == nil {
		t.Error("it can be written to")
	}
	must(t, s.UndoTo(context.Background(), 0))
}

// TestARawDiskIsNotProbed: a guest has written the head of a qcow2 to its raw disk.
func TestARawDiskIsNotProbed(t *testing.T) {
	secret, disk := file(t, 1), filepath.Join(t.TempDir(), "disk")
	tool(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", secret, disk)
	st, err := os.Stat(disk)
	must(t, err)
	must(t, os.Truncate(disk, 8<<20))
	s := newSession(t)
	for name, path := range map[string]string{"a path": open(t, s, disk, "", false), "nbd": open(t, s, serve(t, raw(disk)), "", false)} {
		b, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(b, []byte("QFI\xfb")) || len(b) != 8<<20 {
			t.Errorf("%s: %d bytes, %v (the qcow2 has %d)", name, len(b), err, st.Size())
		}
	}
	must(t, s.UndoTo(context.Background(), 0))
	image := disk + ".qcow2" // which nobody serves
	tool(t, "cp", disk, image)
	d, err := Parse(image, Qcow2)
	must(t, err)
	if _, err := d.Open(context.Background(), s, true); err == nil || !strings.Contains(err.Error(), "backing file") {
		t.Errorf("with a backing file: %v", err)
	}
}

// pid is that of the daemon that serves a disk.
func pid(t *testing.T, disk string) (pid int) {
	t.Helper()
	_, disk, _ = strings.Cut(disk, "socket=")
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		b, _ := os.ReadFile(path)
		if bytes.HasPrefix(b, []byte(daemon)) && bytes.Contains(b, []byte(disk)) {
			fmt.Sscanf(path, "/proc/%d/", &pid)
			return pid
		}
	}
	t.Fatal("no daemon")
	return 0
}

// TestTheDaemonIsConfined: it has no right to mount and no file of the node but libraries
// and the socket; it can get nothing new.
func TestTheDaemonIsConfined(t *testing.T) {
	s := newSession(t)
	uri := serve(t, raw(file(t, 8)))
	open(t, s, uri, Raw, false)
	proc := fmt.Sprintf("/proc/%d/", pid(t, uri))
	status, err := os.ReadFile(proc + "status")
	must(t, err)
	for _, want := range []string{"CapEff:\t0000000000000002", "CapBnd:\t0000000000000002", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !bytes.Contains(status, []byte(want+"\n")) {
			t.Errorf("without %q:\n%s", want, status)
		}
	}
	for _, hidden := range []string{"etc/shadow", "root", "home", "proc/1", "dev/loop-control", "dev/kvm", "usr/bin/bash", "sys/kernel"} {
		if _, err := os.Lstat(proc + "root/" + hidden); err == nil {
			t.Errorf("it sees /%s", hidden)
		}
	}
	image := filepath.Join(t.TempDir(), "image")
	tool(t, "qemu-img", "create", "-q", "-f", "qcow2", image, "8M")
	open(t, s, image, Qcow2, false)
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	ours, err := os.Readlink("/proc/self/ns/net")
	must(t, err)
	seen := 0
	for _, path := range all {
		if b, _ := os.ReadFile(path); bytes.Contains(b, []byte(`"driver":"qcow2"`)) && bytes.HasPrefix(b, []byte(daemon)) {
			seen++
			if theirs, err := os.Readlink(filepath.Dir(path) + "/ns/net"); err != nil || theirs == ours {
				t.Errorf("a qcow2's daemon has the node's network: %v", err)
			}
		}
	}
	if seen == 0 {
		t.Error("no daemon of a qcow2 was found")
	}
	must(t, s.UndoTo(context.Background(), 0))
}

func TestAServerThatIsNotThereIsNamed(t *testing.T) {
	s := newSession(t)
	d, err := Parse("nbd:unix:/nowhere/socket", "")
	must(t, err)
	var said bytes.Buffer
	_, err = d.Open(zerolog.New(&said).WithContext(context.Background()), s, false)
	if strings.Contains(said.String(), "blockdev") || !strings.Contains(said.String(), `"Failed to connect`) {
		t.Errorf("the log has the daemon's options: %s", said.String())
	}
	if err == nil || !strings.Contains(err.Error(), "Failed to connect to '/nowhere/socket'") || strings.Contains(err.Error(), "blockdev") {
		t.Errorf("%v", err)
	}
	must(t, s.UndoTo(context.Background(), 0))
	if left, err := os.ReadDir(s.WorkDir); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// TestTheRemedyOfAGlusterDiskIsOneThatNewerNodesHave: QEMU's driver has left Debian after 13.
func TestTheRemedyOfAGlusterDiskIsOneThatNewerNodesHave(t *testing.T) {
	if found, _ := filepath.Glob(modules + "gluster.so"); len(found) > 0 {
		return // this node has it
	}
	d, err := Parse("gluster://host/volume/path", "")
	must(t, err)
	if err := d.Missing(context.Background()); err == nil || !strings.Contains(err.Error(), "access parameter to kernelspace") {
		t.Errorf("%v", err)
	}
}

func TestADiskThatClaimsToBeLargerThanAnyIsRefused(t *testing.T) {
	s := newSession(t)
	d, err := Parse(serve(t, "driver=null-co,size=65T"), "")
	must(t, err)
	if _, err := d.Open(context.Background(), s, true); err == nil || !strings.Contains(err.Error(), "claims to have 65 TiB") {
		t.Errorf("%v", err)
	}
	must(t, s.UndoTo(context.Background(), 0))
	if left, err := os.ReadDir(s.WorkDir); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// The server of a socket is somebody's, who need not be root, and two look at once.
func TestLookersShareADiskAndReachAnotherUsersSocket(t *testing.T) {
	uri := serve(t, raw(file(t, 8)))
	_, socket, _ := strings.Cut(uri, "socket=")
	must(t, os.Chown(socket, 65534, 65534))
	must(t, os.Chmod(socket, 0o600))
	s := newSession(t)
	open(t, s, uri, Raw, true)
	open(t, s, uri, Raw, true)
	ours, err := os.Readlink("/proc/self/ns/net")
	must(t, err)
	if theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid(t, uri))); err != nil || theirs == ours {
		t.Errorf("the daemon of a socket has the node's network: %v", err)
	}
	d, err := Parse(uri, Raw)
	must(t, err)
	if _, err := d.Open(context.Background(), s, false); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("who writes got %v", err)
	}
	must(t, s.UndoTo(context.Background(), 0))
}

// TestADiskOfARunningGuestIsRefused: who writes is refused, with the guest's process, and who
// looks isn't. The guest's QEMU has no machine.
func TestADiskOfARunningGuestIsRefused(t *testing.T) {
	uri := serve(t, raw(file(t, 8)))
	for _, option := range [][]string{
		{"-drive", "if=none,format=raw,file=" + uri},
		{"-blockdev", `{"driver":"nbd","node-name":"storage","server":{"type":"unix","path":"` + strings.TrimPrefix(uri, "nbd+unix:///?socket=") + `"}}`},
	} {
		guest := exec.Command("qemu-system-x86_64", append([]string{"-machine", "none", "-nodefaults", "-display", "none", "-S"}, option...)...)
		guest.Stderr = os.Stderr
		must(t, guest.Start())
		end := func() { guest.Process.Kill(); guest.Wait() }
		t.Cleanup(end)
		d, err := Parse(uri, "")
		must(t, err)
		for range 500 { // its exe is ours until it has started
			if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", guest.Process.Pid)); strings.Contains(exe, "qemu-system") {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		s := newSession(t)
		if _, err := d.Open(context.Background(), s, false); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("disk %s is in use: open in qemu-system-x86_64 (process %d)", uri, guest.Process.Pid)) {
			t.Errorf("%v: %v", option, err)
		}
		must(t, s.UndoTo(context.Background(), 0))
		open(t, s, uri, "", true)
		must(t, s.UndoTo(context.Background(), 0))
		end()
		open(t, s, uri, "", false)
		must(t, s.UndoTo(context.Background(), 0))
	}
}

// TestAProgramIsCalledSoThatNoTerminalObeysIt: any user may name one, and its arguments.
func TestAProgramIsCalledSoThatNoTerminalObeysIt(t *testing.T) {
	uri := serve(t, raw(file(t, 8)))
	path := filepath.Join(t.TempDir(), "qemu\x1b[2J\ncreate: web1 is installed")
	tool(t, "cp", "/bin/bash", path)
	other := exec.Command(path, "-c", "read", uri)
	in, err := other.StdinPipe()
	must(t, err)
	must(t, other.Start())
	t.Cleanup(func() { in.Close(); other.Wait() })
	d, err := Parse(uri, "")
	must(t, err)
	for range 500 { // its exe is ours until it has started
		if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", other.Process.Pid)); exe == path {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	want := fmt.Sprintf(`is in use: open in qemu\x1b[2J\x0acreate: web1 is installed (process %d); stop`, other.Process.Pid)
	if err := d.InUse(nil); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, without %s", err, want)
	}
}
