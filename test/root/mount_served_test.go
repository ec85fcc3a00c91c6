//go:build root

package root

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mounting is a mount of a served disk: its command runs as long as that.
type mounting struct {
	cmd    *exec.Cmd
	dir    string
	stderr *strings.Builder
	ended  chan error
}

// mountServed mounts a disk that has to be served, and returns when it is mounted.
func (l *lab) mountServed(disk string, options ...string) mounting {
	l.Helper()
	return l.mountServedOn(l.TempDir(), disk, options...)
}

func (l *lab) mountServedOn(dir, disk string, options ...string) mounting {
	l.Helper()
	m := mounting{dir: dir, stderr: &strings.Builder{}, ended: make(chan error, 1)}
	m.cmd = exec.Command(program, append(append([]string{"mount"}, options...), disk, m.dir)...)
	m.cmd.Stderr = m.stderr
	must(l, m.cmd.Start())
	over := make(chan struct{})
	go func() { m.ended <- m.cmd.Wait(); close(over) }()
	l.Cleanup(func() { l.endServed(m, over) })
	for range 600 {
		if exec.Command("mountpoint", "-q", m.dir).Run() == nil {
			return m
		}
		select {
		case err := <-m.ended:
			l.Fatalf("mount %v %s: %v\n%s", options, disk, err, m.stderr)
		case <-time.After(100 * time.Millisecond):
		}
	}
	l.Fatalf("mount %v %s: nothing is mounted", options, disk)
	return m
}

// endServed ends the command, which unmounts the disk's file as well; where it was killed, that is
// done here: a later test would meet a mount whose server is gone.
func (l *lab) endServed(m mounting, over <-chan struct{}) {
	m.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-over:
	case <-time.After(20 * time.Second):
		m.cmd.Process.Kill()
		<-over
	}
	exec.Command("umount", m.dir).Run()
	served, _ := filepath.Glob(base + "/run/run-mount-*/*/*")
	for _, file := range served {
		exec.Command("umount", "--lazy", file).Run()
	}
}

// daemon is the process that serves the disk.
func (m mounting) daemon(l *lab) string {
	l.Helper()
	return l.tool("pgrep", "-P", fmt.Sprint(m.cmd.Process.Pid), "qemu-storage")
}

// ends expects the command to end well, and nothing to be left of it.
func (l *lab) ends(m mounting, disk string) {
	l.Helper()
	select {
	case err := <-m.ended:
		if err != nil {
			l.Fatalf("%v\n%s", err, m.stderr)
		}
	case <-time.After(time.Minute):
		l.Fatalf("it goes on:\n%s", m.stderr)
	}
	l.gone(disk)
	if left, _ := filepath.Glob(base + "/run/run-mount-*"); len(left) > 0 {
		l.Errorf("left: %v", left)
	}
}

func TestADiskThatIsServedIsMountedForAsLongAsTheCommandRuns(t *testing.T) {
	l := newLab(t, 600)
	l.guest("gpt", "ext4")
	image := filepath.Join(t.TempDir(), "web1.qcow2")
	l.tool("qemu-img", "convert", "-O", "qcow2", l.disk, image)
	uri, _ := l.serve(l.disk)
	written := map[string]string{}
	for _, c := range []struct {
		name, disk, shown string
		options           []string
		end               func(m mounting)
	}{
		{"umount", image, image, []string{"--format", "qcow2"}, func(m mounting) { l.tool("umount", m.dir) }},
		{"SIGINT", image, image, []string{"--format", "qcow2"}, func(m mounting) { must(l, m.cmd.Process.Signal(os.Interrupt)) }},
		{"SIGTERM while a process is in it", uri, l.disk, nil, func(m mounting) {
			user := exec.Command("sleep", "8") // longer than a busy unmount is tried
			user.Dir = m.dir
			must(l, user.Start())
			must(l, m.cmd.Process.Signal(unix.SIGTERM))
			must(l, user.Wait()) // the mount was there until then
		}},
	} {
		m := l.mountServed(c.disk, c.options...)
		must(l, os.WriteFile(m.dir+"/"+c.name, []byte(c.name), 0o644))
		c.end(m)
		l.ends(m, c.shown)
		written[c.name] = c.disk
		if strings.Contains(c.name, "process") {
			l.matches(m.stderr.String(), `is used by "sleep" \(process [0-9]+\): this command ends when nobody uses it`)
		}
	}
	for name, disk := range written {
		options := []string{"--read-only"}
		if disk == image {
			options = append(options, "--format", "qcow2")
		}
		m := l.mountServed(disk, options...)
		if got, err := os.ReadFile(m.dir + "/" + name); string(got) != name {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if err := os.WriteFile(m.dir+"/more", nil, 0o644); err == nil {
			t.Errorf("%s: a read-only mount was written to", name)
		}
		l.tool("umount", m.dir)
		l.ends(m, disk)
	}
	l.tool("qemu-img", "check", "-q", image)
}

// The daemon must not write to a disk whose lock went with the command: its guest may be
// started then.
func TestAKilledMountOfADiskThatIsServedEndsItsDaemonAndTheNextOneSweepsUp(t *testing.T) {
	l := newLab(t, 600)
	l.guest("none", "ext4")
	image := filepath.Join(t.TempDir(), "web1.qcow2")
	l.tool("qemu-img", "convert", "-O", "qcow2", l.disk, image)
	m := l.mountServed(image, "--format", "qcow2")
	must(t, os.WriteFile(m.dir+"/synced", []byte("x"), 0o644))
	l.tool("sync", "-f", m.dir+"/synced")
	daemon := m.daemon(l)
	must(t, m.cmd.Process.Kill())
	<-m.ended
	lives := func() bool { _, err := os.Stat("/proc/" + daemon); return err == nil }
	for try := 0; try < 100 && lives(); try++ {
		time.Sleep(50 * time.Millisecond)
	}
	if lives() {
		t.Fatalf("the daemon %s goes on", daemon)
	}
	l.tool("umount", m.dir)
	m = l.mountServed(image, "--format", "qcow2")
	if _, err := os.Stat(m.dir + "/synced"); err != nil {
		t.Error(err)
	}
	l.tool("umount", m.dir)
	l.ends(m, image)
}

// The disk's file is busy as long as the guest's filesystem in it is mounted.
func TestWhatDoctorAdvisesAfterAKilledMountOfADiskThatIsServedCanBeDone(t *testing.T) {
	l := newLab(t, 600)
	l.guest("none", "ext4")
	image := filepath.Join(t.TempDir(), "web1.qcow2")
	l.tool("qemu-img", "convert", "-O", "qcow2", l.disk, image)
	m := l.mountServed(image, "--format", "qcow2")
	must(t, m.cmd.Process.Kill())
	<-m.ended
	out, _ := exec.Command(program, "doctor").CombinedOutput()
	advice := regexp.MustCompile("has left it: `([^`]+)`").FindStringSubmatch(string(out))
	if advice == nil {
		t.Fatalf("nothing is advised:\n%s", out)
	}
	l.tool("sh", "-c", advice[1])
	out, _ = exec.Command(program, "doctor").CombinedOutput()
	if strings.Contains(string(out), "has left it") || exec.Command("mountpoint", "-q", m.dir).Run() == nil {
		t.Errorf("after `%s`:\n%s", advice[1], out)
	}
}

// A storage that hangs is its own instance's trouble: nobody else may ask the loop device
// over it what it is over, since the kernel then waits for it too.
func TestAStorageThatHangsKeepsNoOtherInstanceWaiting(t *testing.T) {
	l := newLab(t, 600)
	l.guest("none", "ext4")
	uri, server := l.serve(l.disk)
	m := l.mountServed(uri)
	must(t, server.Process.Signal(unix.SIGSTOP))
	goOn := func() { server.Process.Signal(unix.SIGCONT) }
	defer goOn()
	// Its reading waits for the server, with the pages of the disk locked.
	reader := exec.Command("find", m.dir, "-type", "f", "-exec", "cat", "{}", "+")
	must(t, reader.Start())
	time.Sleep(time.Second)
	other := l.blankDisk("other", 600)
	l.env["DISK_0_PATH"] = other
	ended := make(chan string, 1)
	go func() {
		log, exit := l.run("create")
		ended <- fmt.Sprintf("exit status %d\n%s", exit, log)
	}()
	select {
	case said := <-ended:
		if !strings.HasPrefix(said, "exit status 0") {
			t.Error(said)
		}
	case <-time.After(30 * time.Second):
		t.Error("the create of another instance waits")
		goOn()
		<-ended
	}
	goOn()
	reader.Wait()
	l.tool("umount", m.dir)
	l.ends(m, l.disk)
}

// The filesystem outlives its name: in a folder above that got another name, for a process
// that was in it when it was unmounted lazily, in a bind mount.
func TestADiskIsServedForAsLongAsItsFilesystemLives(t *testing.T) {
	l := newLab(t, 600)
	l.guest("none", "ext4")
	for name, c := range map[string]struct{ begin, end string }{
		"another name":  {"mv $0 $0.moved", "umount $0.moved/mnt"},
		"a bind mount":  {"mkdir $0.bind && mount --bind $0/mnt $0.bind && umount $0/mnt", "umount $0.bind"},
		"a lazy umount": {"cd $0/mnt; umount -l $0/mnt; sleep 3; echo lives >late; cat late", "true"},
	} {
		t.Run(name, func(t *testing.T) {
			l := &lab{T: t, disk: l.disk, env: l.env, fakes: l.fakes}
			image := filepath.Join(t.TempDir(), "web1.qcow2")
			l.tool("qemu-img", "convert", "-O", "qcow2", l.disk, image)
			above := filepath.Join(t.TempDir(), "above")
			must(t, os.MkdirAll(above+"/mnt", 0o755))
			m := l.mountServedOn(above+"/mnt", image, "--format", "qcow2")
			l.tool("sh", "-ec", "echo whole >$0/mnt/early", above)
			l.tool("sh", "-ec", c.begin, above)
			l.tool("sh", "-ec", c.end, above)
			l.ends(m, image)
			m = l.mountServed(image, "--read-only", "--format", "qcow2")
			if got, err := os.ReadFile(m.dir + "/early"); string(got) != "whole\n" {
				t.Errorf("%q, %v", got, err)
			}
			l.tool("umount", m.dir)
			l.ends(m, image)
		})
	}
}

func TestWritesThatAServedDiskHadNoRoomForAreTold(t *testing.T) {
	l := newLab(t, 600)
	l.guest("none", "ext4")
	small := t.TempDir()
	l.tool("mount", "-t", "tmpfs", "-o", "size=40M", "tmpfs", small)
	t.Cleanup(func() { exec.Command("umount", "-l", small).Run() })
	image := small + "/web1.qcow2"
	l.tool("qemu-img", "convert", "-O", "qcow2", l.disk, image)
	m := l.mountServed(image, "--format", "qcow2")
	exec.Command("dd", "if=/dev/urandom", "of="+m.dir+"/large", "bs=1M", "count=80", "status=none").Run() // may succeed: it is in memory
	exec.Command("umount", m.dir).Run()
	select {
	case err := <-m.ended:
		if err == nil || !strings.Contains(m.stderr.String(), "may not be on the disk") {
			t.Errorf("%v\n%s", err, m.stderr)
		}
	case <-time.After(time.Minute):
		t.Fatalf("it goes on:\n%s", m.stderr)
	}
	l.gone(image)
}

// A daemon that died can't be had back: the folder is free at once, whoever is in it, and the
// command says why.
func TestAMountWhoseDaemonDiedSaysSoAtOnce(t *testing.T) {
	l := newLab(t, 600)
	l.guest("none", "ext4")
	image := filepath.Join(t.TempDir(), "web1.qcow2")
	l.tool("qemu-img", "convert", "-O", "qcow2", l.disk, image)
	m := l.mountServed(image, "--format", "qcow2")
	user := exec.Command("sleep", "1000")
	user.Dir = m.dir
	must(t, user.Start())
	defer func() { user.Process.Kill(); user.Wait() }()
	must(t, os.WriteFile(m.dir+"/not-synced", make([]byte, 1<<20), 0o644))
	l.tool("kill", "-9", m.daemon(l))
	select {
	case err := <-m.ended:
		if err == nil {
			t.Error("it ended as if all was well")
		}
		l.matches(m.stderr.String(), "what served the disk has ended: "+m.dir+" is unmounted, .*may not be on the disk\n(.*\n)*.*signal: killed")
	case <-time.After(10 * time.Second):
		t.Fatalf("it goes on:\n%s", m.stderr)
	}
	if exec.Command("mountpoint", "-q", m.dir).Run() == nil {
		t.Error("it is mounted")
	}
	user.Process.Kill()
	user.Wait()
	l.gone(image)
	m = l.mountServed(image, "--format", "qcow2")
	l.tool("umount", m.dir)
	l.ends(m, image)
}
