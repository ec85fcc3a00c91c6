//go:build root

package guest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The node daemon runs its scripts with this umask.
func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		panic("needs root")
	}
	syscall.Umask(0o077)
	os.Exit(m.Run())
}

// tree makes a guest tree beside a folder "node" that stands for everything
// outside, and returns both with a handle on the tree. Entries are "path" for a
// folder, "path=text" for a file, "path->target" for a link.
func tree(t *testing.T, entries ...string) (r *Root, top, node string) {
	t.Helper()
	base := t.TempDir()
	top, node = filepath.Join(base, "tree"), filepath.Join(base, "node")
	must(t, os.MkdirAll(top, 0o755))
	must(t, os.MkdirAll(node, 0o755))
	for _, e := range entries {
		name, target, link := strings.Cut(e, "->")
		name, text, file := strings.Cut(name, "=")
		at := filepath.Join(top, name)
		must(t, os.MkdirAll(filepath.Dir(at), 0o755))
		switch {
		case link:
			must(t, os.Symlink(strings.ReplaceAll(target, "NODE", node), at))
		case file:
			must(t, os.WriteFile(at, []byte(text), 0o644))
			must(t, os.Chmod(at, 0o644))
		default:
			must(t, os.MkdirAll(at, 0o755))
		}
	}
	r, err := OpenRoot(t.Context(), top)
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r, top, node
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fails checks that err is there and holds the text.
func fails(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want one with %q", err, text)
	}
}

func noTemp(t *testing.T, top string) {
	t.Helper()
	must(t, filepath.WalkDir(top, func(p string, _ fs.DirEntry, err error) error {
		if strings.Contains(p, ".instance-debootstrap-") {
			t.Errorf("left behind: %s", p)
		}
		return err
	}))
}

func modeOf(t *testing.T, file string) (mode fs.FileMode, uid, gid uint32) {
	t.Helper()
	st, err := os.Lstat(file)
	must(t, err)
	sys := st.Sys().(*syscall.Stat_t)
	return st.Mode(), sys.Uid, sys.Gid
}

func TestLinksNeverLeaveTheTree(t *testing.T) {
	for name, link := range map[string]string{
		"absolute":   "etc->NODE",
		"relative":   "etc->../node",
		"dots":       "etc->../../../../../../../../../..",
		"root":       "etc->/",
		"other root": "etc->/proc/1/root",
	} {
		r, top, node := tree(t, link)
		must(t, os.WriteFile(filepath.Join(node, "hostname"), []byte("node\n"), 0o644))
		if data, err := r.ReadFile("/etc/hostname", 100); err == nil {
			t.Errorf("%s: read %q", name, data)
		}
		// Where the link leads to inside the tree, writing there is right.
		_ = r.WriteFile("/etc/hostname", []byte("guest\n"), 0o644)
		_ = r.WriteFile("/etc/hostname", []byte("guest\n"), 0o644, Follow)
		_ = r.MkdirAll("/etc/network", 0o755)
		_ = r.Symlink("x", "/etc/link")
		_ = r.Remove("/etc/hostname2")
		data, err := os.ReadFile(filepath.Join(node, "hostname"))
		must(t, err)
		left, err := os.ReadDir(node)
		must(t, err)
		if string(data) != "node\n" || len(left) != 1 {
			t.Errorf("%s: the node's folder changed: %q, %v", name, data, left)
		}
		noTemp(t, top)
	}
}

func TestAbsoluteLinksMeanTheGuestsFiles(t *testing.T) {
	r, top, _ := tree(t, "real/hostname=inside\n", "etc->/real", "abs->/etc/hostname", "up->../../../etc/hostname")
	for _, name := range []string{"/etc/hostname", "abs", "/up", "/etc/../real/hostname"} {
		data, err := r.ReadFile(name, 100)
		must(t, err)
		if string(data) != "inside\n" {
			t.Errorf("%s: %q", name, data)
		}
	}
	// What Go's os.Root makes of the same tree, and why it isn't used.
	std, err := os.OpenRoot(top)
	must(t, err)
	defer std.Close()
	if _, err := std.ReadFile("etc/hostname"); err == nil {
		t.Error("os.Root follows absolute links now: it could replace Root")
	}
}

func TestLinkIsReplacedNotFollowed(t *testing.T) {
	r, top, node := tree(t, "etc/hostname->/other", "other=old\n", "etc/hosts->NODE/hosts")
	must(t, r.WriteFile("/etc/hostname", []byte("new\n"), 0o644))
	must(t, r.WriteFile("/etc/hosts", []byte("new\n"), 0o644))
	other, err := os.ReadFile(filepath.Join(top, "other"))
	must(t, err)
	mode, _, _ := modeOf(t, filepath.Join(top, "etc/hostname"))
	if string(other) != "old\n" || !mode.IsRegular() {
		t.Errorf("link target %q, hostname %v", other, mode)
	}
	if left, _ := os.ReadDir(node); len(left) != 0 {
		t.Errorf("written outside: %v", left)
	}
}

func TestFollowWritesTheLinksTarget(t *testing.T) {
	r, top, _ := tree(t, "etc/a->b", "etc/b->/var/lib/../c", "var/lib", "etc/loop->loop")
	must(t, r.WriteFile("/etc/a", []byte("x"), 0o644, Follow))
	data, err := os.ReadFile(filepath.Join(top, "var/c"))
	must(t, err)
	if string(data) != "x" {
		t.Errorf("%q", data)
	}
	if target, err := r.Readlink("/etc/a"); err != nil || target != "b" {
		t.Errorf("the link is %q, %v", target, err)
	}
	fails(t, r.WriteFile("/etc/loop", nil, 0o644, Follow), "too many levels")
}

func TestOnlyRegularFilesAreOpened(t *testing.T) {
	r, top, _ := tree(t, "etc/dir/x=y")
	etc := filepath.Join(top, "etc")
	must(t, unix.Mkfifo(filepath.Join(etc, "fifo"), 0o644))
	must(t, unix.Mknod(filepath.Join(etc, "zero"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))))
	must(t, unix.Mknod(filepath.Join(etc, "disk"), unix.S_IFBLK|0o644, int(unix.Mkdev(7, 0))))
	must(t, unix.Mknod(filepath.Join(etc, "sock"), unix.S_IFSOCK|0o644, 0))
	must(t, os.Symlink("fifo", filepath.Join(etc, "tofifo")))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for name, what := range map[string]string{
			"fifo": "a FIFO", "tofifo": "a FIFO", "zero": "a device node", "disk": "a device node", "sock": "a socket", "dir": "a directory",
		} {
			_, err := r.ReadFile("/etc/"+name, 10)
			fails(t, err, "read /etc/"+name+" in the guest: it is "+what)
			if name != "tofifo" {
				fails(t, r.WriteFile("/etc/"+name, []byte("x"), 0o644), what)
				fails(t, r.Symlink("x", "/etc/"+name), what)
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("blocked on a FIFO")
	}
	noTemp(t, top)
}

func TestLinkLoopsAreErrors(t *testing.T) {
	r, _, _ := tree(t, "etc/hostname->hostname", "a->b", "b->a")
	_, err := r.ReadFile("/etc/hostname", 10)
	fails(t, err, "too many levels of symbolic links")
	fails(t, r.WriteFile("/a/hostname", nil, 0o644), "too many levels of symbolic links")
	fails(t, r.MkdirAll("/a/b", 0o755), "too many levels of symbolic links")
}

func TestReadIsBounded(t *testing.T) {
	r, top, _ := tree(t, "etc/hostname=", "exact=12345")
	must(t, os.Truncate(filepath.Join(top, "etc/hostname"), 2<<30))
	_, err := r.ReadFile("/etc/hostname", 4096)
	fails(t, err, "2147483648 bytes, more than the 4096 allowed")
	if data, err := r.ReadFile("/exact", 5); err != nil || string(data) != "12345" {
		t.Errorf("%q, %v", data, err)
	}
	_, err = r.ReadFile("/exact", 4)
	fails(t, err, "more than the 4 allowed")
}

func TestMountsAndProcessFilesAreOutOfReach(t *testing.T) {
	r, top, _ := tree(t, "proc", "fd->/proc/self/fd", "host->/proc/sys/kernel/hostname")
	must(t, unix.Mount("proc", filepath.Join(top, "proc"), "proc", 0, ""))
	defer unix.Unmount(filepath.Join(top, "proc"), unix.MNT_DETACH)
	_, err := r.ReadFile("/host", 100)
	fails(t, err, "another filesystem, mounted over the tree")
	_, err = r.ReadDir("/fd")
	fails(t, err, "another filesystem")
}

func TestOwnerAndModeOfAnOldFileAreKept(t *testing.T) {
	r, top, _ := tree(t, "etc/shadow=old", "etc/link->shadow")
	shadow := filepath.Join(top, "etc/shadow")
	must(t, os.Chown(shadow, 3, 42))
	must(t, os.Chmod(shadow, 0o640|fs.ModeSetuid))
	must(t, r.WriteFile("/etc/shadow", []byte("new"), 0o644))
	if mode, uid, gid := modeOf(t, shadow); mode != 0o640 || uid != 3 || gid != 42 {
		t.Errorf("kept %v %d:%d, want 0640 3:42", mode, uid, gid)
	}
	must(t, r.WriteFile("/etc/shadow", []byte("new"), 0o644, Reset))
	if mode, uid, gid := modeOf(t, shadow); mode != 0o644 || uid != 0 || gid != 0 {
		t.Errorf("reset to %v %d:%d, want 0644 0:0", mode, uid, gid)
	}
	must(t, r.WriteFile("/etc/link", nil, 0o604))
	if mode, uid, _ := modeOf(t, filepath.Join(top, "etc/link")); mode != 0o604 || uid != 0 {
		t.Errorf("new file %v %d, want 0604 0", mode, uid)
	}
}

func TestOtherHardLinksKeepTheirContent(t *testing.T) {
	r, top, node := tree(t, "etc/hosts=old")
	out := filepath.Join(node, "linked")
	must(t, os.Link(filepath.Join(top, "etc/hosts"), out))
	must(t, r.WriteFile("/etc/hosts", []byte("new"), 0o644))
	if data, _ := os.ReadFile(out); string(data) != "old" {
		t.Errorf("written through a hard link: %q", data)
	}
}

func TestFailedWriteLeavesNoTemporaryFile(t *testing.T) {
	r, top, _ := tree(t, "etc/hosts=old")
	must(t, unix.Mount("tmpfs", filepath.Join(top, "etc"), "tmpfs", 0, "size=64k,mode=755"))
	defer unix.Unmount(filepath.Join(top, "etc"), unix.MNT_DETACH)
	inner, err := OpenRoot(t.Context(), filepath.Join(top, "etc"))
	must(t, err)
	defer inner.Close()
	must(t, inner.WriteFile("/hosts", []byte("old"), 0o644))
	fails(t, inner.WriteFile("/hosts", make([]byte, 1<<20), 0o644), "no space left")
	if data, err := inner.ReadFile("/hosts", 10); err != nil || string(data) != "old" {
		t.Errorf("%q, %v", data, err)
	}
	noTemp(t, top)
	_, err = r.ReadFile("/etc/hosts", 10)
	fails(t, err, "mounted over the tree")
}

func TestFoldersAreMadeWithTheirMode(t *testing.T) {
	r, top, _ := tree(t, "etc/dangling->/nowhere", "etc/file=x", "usr/lib", "lib->usr/lib")
	must(t, r.MkdirAll("/lib/systemd/network", 0o755))
	must(t, r.MkdirAll("/lib/systemd/network/", 0o700))
	mode, _, _ := modeOf(t, filepath.Join(top, "usr/lib/systemd/network"))
	above, _, _ := modeOf(t, filepath.Join(top, "usr/lib/systemd"))
	if mode.Perm() != 0o755 || above.Perm() != 0o755 {
		t.Errorf("modes %v and %v, want 0755", mode, above)
	}
	fails(t, r.MkdirAll("/etc/dangling/x", 0o755), "make folder /etc/dangling in the guest: it is a link to nothing")
	fails(t, r.MkdirAll("/etc/file/x", 0o755), "make folder /etc/file in the guest: not a directory")
}

func TestPathsThatNameNoFileAreRefused(t *testing.T) {
	r, _, _ := tree(t, "etc/x=y")
	for _, name := range []string{"", "/", "/etc/..", "/etc/.", "//"} {
		fails(t, r.WriteFile(name, nil, 0o644), "invalid argument")
		fails(t, r.Remove(name), "invalid argument")
	}
	if err := r.Remove("/etc/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is no fs.ErrNotExist", err)
	}
	if err := r.Remove("/etc"); err == nil {
		t.Error("removed a folder")
	}
}

func TestNamesMatch(t *testing.T) {
	r, _, _ := tree(t, "etc/ssh/ssh_host_b=x", "etc/ssh/ssh_host_a=x", "etc/ssh/sshd_config=x")
	names, err := r.Glob("/etc/ssh", "ssh_host_*")
	must(t, err)
	if !slices.Equal(names, []string{"ssh_host_a", "ssh_host_b"}) {
		t.Errorf("%v", names)
	}
	if names, err = r.Glob("/no/such", "*"); err != nil || names != nil {
		t.Errorf("missing folder: %v, %v", names, err)
	}
}

func TestWhatAKilledWriterHasLeftIsGoneAfterTheNextWrite(t *testing.T) {
	r, top, _ := tree(t)
	left := filepath.Join(top, "etc/.instance-debootstrap-new")
	must(t, os.MkdirAll(filepath.Dir(left), 0o755))
	must(t, os.WriteFile(left, []byte("half"), 0o600))
	must(t, r.WriteFile("/etc/hostname", []byte("inst2\n"), 0o644))
	noTemp(t, top)
	must(t, os.Mkdir(left, 0o755)) // by the guest
	must(t, r.WriteFile("/etc/hostname", []byte("inst3\n"), 0o644))
	if names, err := os.ReadDir(filepath.Dir(left)); err != nil || len(names) != 2 {
		t.Errorf("%v, %v", names, err)
	}
}

func TestWhatIsWrittenBelowAFolderOfItsOwnLiesOnItsFilesystem(t *testing.T) {
	r, top, node := tree(t, "var")
	must(t, r.Graft("/var", node))
	must(t, r.Put("/var/lib/new/file", "text", 0o644, Durable))
	if got, err := os.ReadFile(filepath.Join(node, "lib/new/file")); string(got) != "text" {
		t.Errorf("%q, %v", got, err)
	}
	if left, err := os.ReadDir(filepath.Join(top, "var")); len(left) > 0 || err != nil {
		t.Errorf("the folder has %v, %v", left, err)
	}
}
