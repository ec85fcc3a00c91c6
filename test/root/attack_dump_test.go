//go:build root

package root

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A dump's directories have no checksum: whoever writes one can name anything "..".
// What restore(8) is led to by that is looked for in a node of the test's own: a root
// of its own on a tmpfs, with a /dev of its own and the first process of a PID
// namespace of its own, so that also /proc/1/root leads nowhere else.

// privateNode makes a script's command run in such a node, with the folders that it
// is given, and notes what the node's own filesystem has before and after. Canaries
// are where something that leads out would write.
const privateNode = `
root=$1 told=$2 devices=$3 folders=$4; shift 4
mount --make-rprivate /
mount -t tmpfs -o mode=755 private "$root"
cd "$root"
mkdir -p proc sys dev tmp run/lock var/tmp var/lib mnt root old canary
for d in usr bin sbin lib lib32 lib64 libx32 etc; do
	if [ -L /$d ]; then cp -P /$d .
	elif [ -d /$d ]; then mkdir $d; mount --bind /$d $d; mount -o remount,bind,ro $d; fi
done
chmod 1777 tmp var/tmp run/lock
mount -t proc proc proc
mount --bind /sys sys; mount -o remount,bind,ro sys
mount -t tmpfs -o mode=755 dev dev
cp -a "$devices"/. dev
for d in $folders; do mkdir -p ".$d"; mount --bind "$d" ".$d"; done
for d in canary root var/lib tmp run mnt; do echo untouched >$d/file; done
pivot_root . old
umount -l /old
look() { find / -xdev -printf '%p %y %m %s %U %l\n' | sort; cat /canary/* /root/* /var/lib/* /tmp/file* /run/file* /mnt/*; find /dev -printf '%p %y\n' | sort; }
look >"$told/before"
status=0; "$@" || status=$?
look >"$told/after"
exit $status`

// inAPrivateNode has the command see that node.
func (l *lab) inAPrivateNode(cmd *exec.Cmd) (outer *exec.Cmd, told string) {
	l.Helper()
	devices := filepath.Join(base, "devices")
	if _, err := os.Stat(devices); err != nil {
		must(l, os.Mkdir(devices, 0o755))
		for name, minor := range map[string]int{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
			must(l, syscall.Mknod(filepath.Join(devices, name), syscall.S_IFCHR|0o666, 1<<8|minor))
		}
		must(l, syscall.Mknod(filepath.Join(devices, "loop-control"), syscall.S_IFCHR|0o600, 10<<8|237))
		for i := range 128 {
			must(l, syscall.Mknod(filepath.Join(devices, fmt.Sprint("loop", i)), syscall.S_IFBLK|0o600, 7<<8|i))
		}
	}
	told = l.TempDir()
	folders := strings.Join([]string{base, filepath.Dir(l.disk), l.fakes, told}, " ")
	args := append([]string{"--mount", "--pid", "--fork", "--kill-child", "sh", "-e", "-c", privateNode, "sh", l.TempDir(), told, devices, folders}, cmd.Args...)
	outer = exec.Command("unshare", args...)
	outer.Env, outer.SysProcAttr = cmd.Env, cmd.SysProcAttr
	if outer.SysProcAttr == nil {
		outer.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	}
	return outer, told
}

// dumpOf is a dump(8) of a tree that a shell makes.
func (l *lab) dumpOf(make string) []byte {
	l.Helper()
	disk, dir, stream := filepath.Join(l.TempDir(), "dumped"), l.TempDir(), filepath.Join(l.TempDir(), "dump")
	l.tool("sh", "-e", "-c", "truncate -s 16M "+disk+"; mke2fs -q -F -t ext2 "+disk+"; dev=$(losetup --show -f "+disk+"); mount $dev "+dir+
		"; (cd "+dir+"; "+make+"); umount "+dir+"; dump -0 -q -f "+stream+" $dev; losetup -d $dev")
	out, err := os.ReadFile(stream)
	must(l, err)
	return out
}

// evilDumpOf names each "uu" in it "..".
func (l *lab) evilDumpOf(make string) []byte {
	l.Helper()
	const folder = "\x04\x02" // d_type and d_namlen of restore's struct direct
	out := l.dumpOf(make)
	evil := bytes.ReplaceAll(out, []byte(folder+"uu\x00"), []byte(folder+"..\x00"))
	if bytes.Equal(evil, out) {
		l.Fatal("no directory entry was renamed")
	}
	return evil
}

const upToTheTop = "uu/uu/uu/uu/uu/uu/uu/uu/uu/uu/uu/uu"

// TestADumpWhoseFoldersAreCalledDotDotReachesNothingOfTheNode.
func TestADumpWhoseFoldersAreCalledDotDotReachesNothingOfTheNode(t *testing.T) {
	for name, make := range map[string]string{
		"beside the target":    "mkdir -p uu/uu/canary uu/canary " + upToTheTop + "/canary; for d in uu uu/uu " + upToTheTop + "; do echo evil >$d/canary/file; echo evil >$d/canary/new; done",
		"through an open file": "for n in $(seq 3 20); do d=" + upToTheTop + "/proc/1/fd/$n/1/root/canary; mkdir -p $d; echo evil >$d/file; echo evil >$d/new; d=" + upToTheTop + "/proc/1/fd/$n/canary; mkdir -p $d; echo evil >$d/file; done",
		"through a process":    "for n in 1 2 self; do d=" + upToTheTop + "/proc/$n/root/canary; mkdir -p $d; echo evil >$d/file; echo evil >$d/new; done",
	} {
		for _, namespace := range []string{"private", "host"} {
			t.Run(name+"/"+namespace, func(t *testing.T) {
				l := newMoveLab(t, 600)
				evil := l.evilDumpOf("echo hello >hello; " + make)
				l.target(600)
				l.write("default", "NAMESPACE="+namespace+"\n", 0o644)
				outer, told := l.inAPrivateNode(l.importing(0, l.disk))
				f := l.feed(bytes.NewReader(evil), outer)
				before, err := os.ReadFile(filepath.Join(told, "before"))
				must(t, err)
				after, err := os.ReadFile(filepath.Join(told, "after"))
				must(t, err)
				if !bytes.Equal(before, after) {
					t.Errorf("the node was\n%s\nand is\n%s", before, after)
				}
				if f.exit != 1 {
					t.Errorf("exit status %d: such a dump is no backup", f.exit)
				}
				if t.Failed() {
					t.Logf("import said\n%s", f.log)
				}
				l.clean(0)
			})
		}
	}
}

// TestADumpMakesNoNodeOfAnotherDisk, which a second name for it writes through.
func TestADumpMakesNoNodeOfAnotherDisk(t *testing.T) {
	for _, namespace := range []string{"private", "host"} {
		t.Run(namespace, func(t *testing.T) {
			l := newMoveLab(t, 600)
			other := filepath.Join(t.TempDir(), "canary-disk")
			must(t, os.WriteFile(other, bytes.Repeat([]byte("canary\n\n"), 1<<17), 0o600))
			dev := l.tool("losetup", "--show", "-f", other)
			detachAtEnd(t, dev, other)
			minor := strings.TrimPrefix(dev, "/dev/loop")
			make := "mkdir -p " + upToTheTop + "/uu/dev; for d in uu/uu " + upToTheTop + "; do mkdir -p $d/dev; mknod $d/dev/evil-disk b 7 " + minor + "; done; head -c 300000 /dev/zero >" + upToTheTop + "/uu/dev/evil-disk; mkdir -p uu/dev; head -c 300000 /dev/zero >uu/dev/evil-disk"
			evil := l.evilDumpOf(make)
			l.target(600)
			l.write("default", fmt.Sprintf("NAMESPACE=%s\n", namespace), 0o644)
			outer, _ := l.inAPrivateNode(l.importing(0, l.disk))
			f := l.feed(bytes.NewReader(evil), outer)
			l.tool("losetup", "-d", dev)
			b, err := os.ReadFile(other)
			must(t, err)
			if !bytes.Equal(b, bytes.Repeat([]byte("canary\n\n"), 1<<17)) {
				t.Errorf("another disk was written to; import said\n%s", f.log)
			}
			if f.exit != 1 {
				t.Errorf("exit status %d\n%s", f.exit, f.log)
			}
			l.clean(0)
		})
	}
}

// TestADumpWhoseMapHasNoEndIsEnded: restore(8) works on it without a word for as long
// as it is let.
func TestADumpWhoseMapHasNoEndIsEnded(t *testing.T) {
	l := newMoveLab(t, 600)
	dump := l.dumpOf("echo hello >hello")
	const clri, count = 6, dumpRecord + 160 // the map of free inodes is the second record
	if kind := binary.LittleEndian.Uint32(dump[dumpRecord:]); kind != clri {
		t.Fatalf("the second record is of type %d", kind)
	}
	binary.LittleEndian.PutUint32(dump[count:], 0xffffffff)
	dumpRepaired(dump)
	l.target(600)
	outer, _ := l.inAPrivateNode(l.importing(0, l.disk))
	late := time.AfterFunc(3*time.Minute, func() { syscall.Kill(-outer.Process.Pid, syscall.SIGKILL) })
	f := l.feed(bytes.NewReader(dump), outer)
	if !late.Stop() {
		t.Fatalf("import does not end within three minutes:\n%s", f.log)
	}
	l.failedWith(f, "backup")
	l.noInstance(f.log)
}
