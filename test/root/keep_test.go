//go:build root

package root

import (
	"cmp"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// keepsAs makes an instance whose guest is then changed, and has its reinstall keep paths.
func (l *lab) keepsAs(paths string, as func(tree string)) {
	l.Helper()
	l.tinyTree()
	l.create()
	l.change(as)
	l.env["INSTANCE_REINSTALL"], l.env["OSP_REINSTALL_KEEP"] = "1", paths
}

// held are the folders of what is held on the node.
func (l *lab) held() []string {
	held, _ := filepath.Glob(base + "/state/kept/*/*")
	return held
}

func (l *lab) holdsNothing() {
	l.Helper()
	if left, _ := filepath.Glob(base + "/state/kept/*"); len(left) > 0 {
		l.Errorf("the node holds %q", left)
	}
}

// app is what an old guest has below a folder, and its description.
func (l *lab) app(tree string) {
	l.Helper()
	l.tool("sh", "-e", "-c", `cd "$0"; mkdir -p etc/ssh srv/app/sub srv/other; echo other >srv/other/file
echo 'ann:x:1001:1001::/home/ann:/bin/sh' >>etc/passwd; printf 'root:x:0:\nann:x:1001:\nstaff:x:50:\n' >etc/group
echo key >etc/ssh/ssh_host_ed25519_key; chmod 600 etc/ssh/ssh_host_ed25519_key
cd srv/app; echo data >file; ln file sub/link; ln -s /etc/shadow out; ln -s file in; mkfifo fifo; truncate -s 50M sparse; echo end >>sparse
chown 1001:50 file; chown -h 1001:1001 in; chmod 2750 sub; chown 0:50 sub; setfattr -n user.note -v hello file; setfattr -n trusted.note -v x sub
setfacl -m u:1001:rw,g:50:r file; setfacl -d -m u:1001:rwx sub; touch -d '2001-02-03 04:05:06.789' file; chown 4711 sparse`, tree)
}

// isThere looks for that in the new guest, where ann has another number and staff none.
func (l *lab) isThere(tree string) {
	l.Helper()
	got := l.tool("sh", "-e", "-c", `cd "$0"; find etc/ssh srv/app -printf '%p %M %U %G %n %s %l\n' | grep -v 'srv/app/sub [^ ]* [^ ]* [^ ]* [^ ]* [0-9]* $\|^etc/ssh d\|^srv/app d' | LC_ALL=C sort
stat -c '%A %u %g' srv/app/sub; stat -c '%y' srv/app/file | cut -c1-23
getfattr -n user.note --only-values srv/app/file; getfattr -n trusted.note --only-values srv/app/sub; echo; getfacl -n -c -p srv/app/file srv/app/sub | tr '\n' ' '; echo
[ $(stat -c %i srv/app/file) = $(stat -c %i srv/app/sub/link) ]; [ $(stat -c %b srv/app/sparse) -lt 1000 ]; cat etc/ssh/*`, tree)
	want := `etc/ssh/ssh_host_ed25519_key -rw------- 0 0 1 4 
srv/app/fifo prw-r--r-- 0 0 1 0 
srv/app/file -rw-rw-r-- 2002 50 2 5 
srv/app/in lrwxrwxrwx 2002 2002 1 4 file
srv/app/out lrwxrwxrwx 0 0 1 11 /etc/shadow
srv/app/sparse -rw-r--r-- 4711 0 1 52428804 
srv/app/sub/link -rw-rw-r-- 2002 50 2 5 
drwxr-s--- 0 50
2001-02-03 04:05:06.789
hellox
user::rw- user:2002:rw- group::r-- group:50:r-- mask::rw- other::r--  user::rwx group::r-x other::--- default:user::rwx default:user:2002:rwx default:group::r-x default:mask::rwx default:other::---  
key`
	if got != want {
		l.Errorf("in the new guest are\n%s\nand not\n%s", got, want)
	}
}

const annsHook = `echo 'ann:x:2002:2002::/home/ann:/bin/sh' >>"$TARGET/etc/passwd"; printf 'root:x:0:\nann:x:2002:\n' >"$TARGET/etc/group"`

func TestAReinstallKeepsWhatItIsTold(t *testing.T) {
	for _, c := range []struct{ style, fstype, newtype string }{{"msdos", "ext4", "ext4"}, {"gpt", "xfs", "btrfs"}, {"none", "btrfs", "xfs"}} {
		l := newLab(t, 700)
		l.env["OSP_PARTITION_STYLE"], l.env["OSP_FILESYSTEM"] = c.style, c.fstype
		l.keepsAs("/etc/ssh /srv/app /no/such", l.app)
		l.env["OSP_FILESYSTEM"] = c.newtype
		l.hook("10-ann", annsHook)
		log := l.create()
		for _, want := range []string{"the old guest has no /no/such", `50 was "staff"`, "4711"} {
			if !strings.Contains(log, want) {
				t.Errorf("%q is not in\n%s", want, log)
			}
		}
		l.holdsNothing()
		l.mounted(func(tree string) {
			l.isThere(tree)
			if _, err := os.Stat(tree + "/srv/other"); err == nil {
				t.Error("what wasn't to be kept was")
			}
			if left, _ := filepath.Glob(tree + "/.instance*"); len(left) > 0 {
				t.Errorf("left is %q", left)
			}
			receipt, err := os.ReadFile(tree + "/var/lib/instance-debootstrap/receipt.json")
			var r struct{ Kept struct{ Paths []string } }
			if err = cmp.Or(err, json.Unmarshal(receipt, &r)); err != nil || strings.Join(r.Kept.Paths, " ") != "/etc/ssh /srv/app" {
				t.Errorf("%v: the receipt has %q", err, r.Kept.Paths)
			}
		})
	}
}

// By themselves the new guest's udev would call them ens3 and so on.
func TestTheNICsAreCalledAsTheKeptNetworkFilesCallThem(t *testing.T) {
	for name, hook := range map[string]string{"without a hook": "", "beside a hook": "true"} {
		l := newLab(t, 600)
		l.networkTree("sbin/udevd")
		l.knownNIC()
		l.create()
		old := l.guestFile("etc/network/interfaces")
		l.env["INSTANCE_REINSTALL"], l.env["OSP_REINSTALL_KEEP"] = "1", "/etc/network"
		if hook != "" {
			l.hook("10-any", hook)
		}
		has(t, l.create(), "the kept network files name nic0: the guest calls aa:00:00:12:34:56 so", "what was kept, has set up the network (/etc/network/interfaces)")
		if got := l.guestFile("etc/network/interfaces"); got != old || !strings.Contains(old, "iface nic0 ") {
			t.Errorf("%s: of\n%s\nis kept\n%s", name, old, got)
		}
		has(t, l.guestFile(nicRules), `ATTR{address}=="aa:00:00:12:34:56"`, `NAME="nic0"`)
	}
}

// A folder takes 1.5 KiB of a tar, nothing but its inode of an xfs, and a block of an ext4.
func TestManySmallThingsThatTheNewDiskHasNoRoomForAreRefusedAndTheOldGuestStays(t *testing.T) {
	l := newLab(t, 600)
	l.env["OSP_FILESYSTEM"] = "xfs"
	l.keepsAs("/srv/app", func(tree string) {
		l.tool("sh", "-ec", "mkdir -p $0/srv/app; cd $0/srv/app; seq 70000 | xargs mkdir", tree)
	})
	l.env["OSP_FILESYSTEM"], l.env["OSP_SWAP_FILE_SIZE"] = "ext4", "300"
	l.fails("with what REINSTALL_KEEP keeps: disk " + l.disk + " is too small")
	l.holdsNothing()
	l.mounted(func(tree string) {
		if _, err := os.Stat(tree + "/srv/app/70000"); err != nil {
			t.Error(err)
		}
	})
}

// Go's reader of tars takes no header of more than 1 MiB, which the kernel lets a guest's users make.
func TestAFileWithAMegabyteOfAttributesIsKept(t *testing.T) {
	l := newLab(t, 700)
	l.env["OSP_FILESYSTEM"] = "xfs"
	l.keepsAs("/srv/app", func(tree string) {
		l.tool("python3", "-c", `import os, sys
os.makedirs(sys.argv[1]); path = sys.argv[1] + "/file"; open(path, "w").close()
for i in range(20): os.setxattr(path, "user.a%d" % i, b"x" * 60000)`, tree+"/srv/app")
	})
	l.create()
	l.mounted(func(tree string) {
		if got := l.tool("getfattr", "--absolute-names", "-n", "user.a19", "--only-values", tree+"/srv/app/file"); len(got) != 60000 {
			t.Errorf("an attribute has %d bytes", len(got))
		}
	})
}

func TestWhatAnotherInstanceLeftOnADiskIsNotKept(t *testing.T) {
	l := newLab(t, 600)
	l.keepsAs("/srv/app", l.app)
	delete(l.env, "INSTANCE_REINSTALL")
	l.create()
	l.mounted(func(tree string) {
		if _, err := os.Stat(tree + "/srv/app"); err == nil {
			t.Error("a new instance has files of the one before")
		}
	})
}

func TestAHostileOldGuestGetsNothingButItsFiles(t *testing.T) {
	l := newLab(t, 600)
	l.keepsAs("/srv/app", func(tree string) {
		l.app(tree)
		l.tool("sh", "-e", "-c", `cd "$0/srv/app"; mknod disk b 8 0; mknod null c 1 3; cp /bin/true suid; chmod 6755 suid; cp /bin/true caps; setcap cap_sys_admin+ep caps
truncate -s 1T huge; mkdir ..x; ln -s ../../../../../../etc up; python3 - <<'E'
import os,socket
s=socket.socket(socket.AF_UNIX); s.bind('socket')
for i in range(300):
    os.mkdir('d'*60); os.chdir('d'*60)
    if i == 50: break
open('deep','w').write('x')
E
printf x >"$(printf 'odd\nname\001')"`, tree)
	})
	log := l.create()
	for _, want := range []string{"2 device nodes", "2 of the kept files had set-user-ID"} {
		if !strings.Contains(log, want) {
			t.Errorf("%q is not in\n%s", want, log)
		}
	}
	l.holdsNothing()
	l.mounted(func(tree string) {
		got := l.tool("sh", "-c", `cd "$0/srv/app"; ls -d disk null socket 2>/dev/null; stat -c '%n %a' suid caps; getcap caps; stat -c %s huge; readlink up; find . -name deep | wc -c; ls | grep -c odd`, tree)
		if want := "suid 755\ncaps 755\n1099511627776\n../../../../../../etc\n3118\n"; !strings.HasPrefix(got, want) {
			t.Errorf("%q, not %q", got, want)
		}
	})
}

func TestWhatCannotBeKeptIsRefusedAndTheOldGuestStays(t *testing.T) {
	for name, c := range map[string]struct {
		keep, want string
		as         func(l *lab, tree string)
	}{
		"a link":            {"/srv/app", "/srv/app in the guest: it is a symbolic link", func(l *lab, tree string) { l.tool("ln", "-s", "/etc", tree+"/srv/app") }},
		"a link on the way": {"/srv/app/x", "/srv/app in the guest: it is a symbolic link", func(l *lab, tree string) { l.tool("ln", "-s", "../../../..", tree+"/srv/app") }},
		"a device":          {"/srv/app", "it is a device node", func(l *lab, tree string) { l.tool("mknod", tree+"/srv/app", "c", "1", "3") }},
		"a fifo":            {"/srv/app", "it is a FIFO", func(l *lab, tree string) { l.tool("mkfifo", tree+"/srv/app") }},
		"too much": {"/srv/app", "more than REINSTALL_KEEP_MAX", func(l *lab, tree string) {
			l.tool("sh", "-c", "mkdir $0; head -c 3M /dev/urandom >$0/x", tree+"/srv/app")
		}},
		"no room on the node": {"/srv/app", "no space left on device", func(l *lab, tree string) {
			l.tool("sh", "-c", "mkdir $0; head -c 1M /dev/urandom >$0/x", tree+"/srv/app")
		}},
	} {
		l := newLab(t, 600)
		l.write("default", "REINSTALL_KEEP_MAX=2M\n", 0o644)
		l.keepsAs(c.keep, func(tree string) {
			l.tool("mkdir", "-p", tree+"/srv")
			c.as(l, tree)
		})
		if name == "no room on the node" {
			l.tool("mount", "-t", "tmpfs", "-o", "size=300k", "none", base+"/state")
		}
		l.fails(c.want)
		l.mounted(func(tree string) {
			if _, err := os.Lstat(tree + "/srv/app"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
		l.holdsNothing()
		if name == "no room on the node" {
			l.tool("umount", base+"/state")
		}
	}
}

func TestADiskThatCannotBeReadIsRefusedUnlessNothingIsToBeKept(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.tool("mkswap", l.disk)
	l.env["INSTANCE_REINSTALL"], l.env["OSP_REINSTALL_KEEP"] = "1", "/srv/app"
	if log := l.fails("REINSTALL_KEEP=none installs it all the same"); !strings.Contains(log, "swap") {
		t.Error(log)
	}
	if out := l.tool("blkid", "-p", "-o", "value", "-s", "TYPE", l.disk); out != "swap" {
		t.Errorf("the disk holds %s", out)
	}
	l.env["OSP_REINSTALL_KEEP"] = "none"
	l.create()
	l.tool("truncate", "-s", "0", l.disk)
	l.tool("truncate", "-s", "600M", l.disk)
	l.env["OSP_REINSTALL_KEEP"] = "/srv/app"
	if log := l.create(); !strings.Contains(log, "holds no guest of which anything could be kept") {
		t.Error(log)
	}
}

func TestWhatIsHeldIsRootsAloneAndDoctorTellsOfIt(t *testing.T) {
	l := newLab(t, 600)
	l.keepsAs("/etc/ssh /srv/app", l.app)
	l.hook("10-ann", annsHook+"\nfalse")
	log, exit := l.run("create")
	if exit != 1 || len(l.held()) != 1 || !strings.Contains(log, "kept of the old guest is in "+l.held()[0]) {
		t.Fatalf("exit status %d, held %q\n%s", exit, l.held(), log)
	}
	for dir := l.held()[0]; dir != base+"/state"; dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, err, st.Mode())
		}
	}
	files, _ := filepath.Glob(l.held()[0] + "/*")
	for _, name := range files {
		if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, err, st.Mode())
		}
	}
	if out, _ := l.byHand("doctor"); !strings.Contains(out, "held are files of inst1.example (/etc/ssh, /srv/app)") || !strings.Contains(out, l.held()[0]) {
		t.Error(out)
	}
	must(t, os.MkdirAll(base+"/state/kept/"+l.env["INSTANCE_UUID"]+"/unfinished", 0o700))
	if out, _ := l.byHand("doctor"); !strings.Contains(out, "/unfinished is what a reinstall didn't read to its end") {
		t.Error(out)
	}
	l.hook("10-ann", annsHook)
	if plan := l.planned("plan", "create"); !strings.Contains(plan, "1 held by earlier runs") {
		t.Error(plan)
	}
	if log := l.create(); !strings.Contains(log, "what an earlier run has read is kept") {
		t.Error(log)
	}
	l.holdsNothing()
	l.mounted(l.isThere)
}

func TestHeldFilesThatWereDamagedAreNotPutBack(t *testing.T) {
	l := newLab(t, 600)
	l.keepsAs("/srv/app", l.app)
	l.hook("10-fails", "false")
	l.fails("kept of the old guest is in")
	must(t, os.Remove(base+"/conf/hooks/10-fails"))
	l.tool("sh", "-c", `printf X | dd of="$0/files.tar" bs=1 seek=$((512 * 3 + 100)) conv=notrunc status=none; printf Y | dd of="$0/files.tar" bs=1 seek=2000 conv=notrunc status=none`, l.held()[0])
	if log := l.fails("since the node has damaged them"); strings.Contains(log, "doesn't take") {
		t.Errorf("the filesystem is blamed:\n%s", log)
	}
	if len(l.held()) != 1 {
		t.Errorf("held are %q", l.held())
	}
}

func TestFilesAreHeldAsLongAsNobodyKnowsWhetherTheyAreNeeded(t *testing.T) {
	l := newLab(t, 600)
	l.keepsAs("/srv/app", l.app)
	l.hook("10-fails", "false")
	l.fails("kept of the old guest is in")
	must(t, os.Remove(base+"/conf/hooks/10-fails"))
	delete(l.env, "OSP_REINSTALL_KEEP") // as Ganeti forgets what was for one reinstall
	l.fails("give REINSTALL_KEEP=/srv/app, which puts them into the new guest")
	l.env["OSP_REINSTALL_KEEP"] = "none"
	l.create()
	l.env["OSP_REINSTALL_KEEP"] = "/srv/app"
	l.fails("has a guest that was installed without them, on 20")
	l.change(func(tree string) { // another provider's
		l.tool("sh", "-ec", `rm -r "$0/var/lib/instance-debootstrap"; mkdir -p "$0/var/lib/systemd" "$0/srv/app"; echo >"$0/var/lib/systemd/random-seed"; echo >"$0/srv/app/theirs"`, tree)
	})
	l.fails("has a guest that was installed without them, and has been started")
	l.mounted(func(tree string) {
		if _, err := os.Stat(tree + "/srv/app/theirs"); err != nil {
			t.Error(err)
		}
	})
	must(t, os.RemoveAll(l.held()[0]))
	l.create()
}

func TestAnOldGuestThatIsStillThereIsReadAnew(t *testing.T) {
	l := newLab(t, 600)
	l.keepsAs("/srv/app", l.app)
	saved := l.tool("mktemp", "-p", t.TempDir())
	l.tool("cp", "--sparse=always", l.disk, saved)
	l.hook("10-fails", "false")
	l.fails("kept of the old guest is in")
	must(t, os.Remove(base+"/conf/hooks/10-fails"))
	l.tool("cp", "--sparse=always", saved, l.disk) // as after a kill before the disk was touched
	l.change(func(tree string) { must(t, os.WriteFile(tree+"/srv/app/newer", nil, 0o600)) })
	l.create()
	l.holdsNothing()
	l.mounted(func(tree string) {
		if _, err := os.Stat(tree + "/srv/app/newer"); err != nil {
			t.Error(err)
		}
	})
}

// killSeed is what the moments of a test are chosen by; KILL_SEED=N repeats them.
func killSeed(t *testing.T) *rand.Rand {
	t.Helper()
	seed := attackNumber(t, "KILL_SEED", 1)
	t.Logf("KILL_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func TestTwoReinstallsAtOnceKeepTheFiles(t *testing.T) {
	l := newLab(t, 600)
	l.keepsAs("/etc/ssh /srv/app", l.app)
	l.hook("10-ann", annsHook+"\nsleep 1")
	exits, random := make(chan int, 2), killSeed(t)
	for range 2 {
		cmd := l.command("create")
		go func() { cmd.Run(); exits <- cmd.ProcessState.ExitCode() }()
		time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
	}
	if a, b := <-exits, <-exits; a+b != 1 {
		t.Errorf("the exit statuses are %d and %d", a, b)
	}
	l.clean(2 * time.Second)
	l.holdsNothing()
	l.mounted(l.isThere)
}

// Whenever a reinstall is killed, the files are in the old guest, held, or in the new guest;
// and the next one brings them there.
func TestKilledAtAnyMomentAReinstallLosesNothing(t *testing.T) {
	l := newLab(t, 600)
	l.hook("10-ann", "sleep 0.2\n"+annsHook)
	l.keepsAs("/etc/ssh /srv/app", l.app)
	saved := filepath.Join(t.TempDir(), "saved")
	l.tool("cp", "--sparse=always", l.disk, saved)
	begun := time.Now()
	l.create()
	whole := time.Since(begun)
	states, random := map[string]int{}, killSeed(t)
	for i := range 25 {
		l.tool("cp", "--sparse=always", saved, l.disk)
		l.killed(time.After(time.Duration(random.Int64N(int64(whole)))), kills["SIGKILL"])
		state := "in a guest"
		if _, err := os.Stat(filepath.Join(append(l.held(), "")[0], "held.json")); len(l.held()) > 0 && err == nil {
			state = "held"
		}
		states[state]++
		if log, exit := l.run("create"); exit != 0 {
			t.Fatalf("kill %d, %s: exit status %d\n%s", i, state, exit, log)
		}
		l.holdsNothing()
		l.mounted(l.isThere)
	}
	t.Logf("after the kills the files were %v", states)
	if states["held"] == 0 {
		t.Error("no kill came while they were held only")
	}
}
