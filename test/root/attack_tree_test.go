//go:build root

package root

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// growHostile makes things in a tree that a user of a guest, or its root, can make. A name may be
// a link by then, to the node's own files, a device of the node, or a FIFO that nobody reads: files
// are new ones, within the tree.
func growHostile(r *rand.Rand, tree string) (what string) {
	dir := filepath.Join(tree, "hostile")
	os.MkdirAll(dir, 0o777)
	top, err := os.OpenRoot(tree)
	if err != nil {
		return err.Error()
	}
	defer top.Close()
	within, err := top.OpenRoot("hostile")
	if err != nil {
		return err.Error()
	}
	defer within.Close()
	var did []string
	for range 4 + r.IntN(12) {
		name := strings.ReplaceAll(pick(r, oddNames), "/", "_")
		if len(name) > 200 {
			name = fmt.Sprint(r.Uint64())
		}
		step := r.IntN(11)
		did = append(did, fmt.Sprint(step))
		switch step {
		case 0:
			content, mode := bytes.Repeat([]byte{byte(r.Uint64())}, r.IntN(100000)), uint32(r.IntN(0o1000))
			writeNew(within, name, mode, func(f *os.File) { f.Write(content) })
		case 1:
			within.Symlink(pick(r, []string{"/etc/passwd", "../../../../../../..", "/proc/1/fd/3", "/dev/sda", strings.Repeat("x", 1+r.IntN(4000)), "."}), name)
		case 2: // deep, as mkdir(2) in the folder itself can be
			growDeep(within, 1+r.IntN(40), strings.Repeat("n", 1+r.IntN(240)))
		case 3:
			for i := range r.IntN(40) {
				unix.Lsetxattr(dir, fmt.Sprint("user.", r.Uint64(), i), bytes.Repeat([]byte("v"), r.IntN(3000)), 0)
			}
		case 4:
			writeNew(within, name, 0o644, nil)
			unix.Lsetxattr(filepath.Join(dir, name), "user."+pick(r, []string{"a=b", "new\nline", "\x1b[2J", "%", "user.a", strings.Repeat("n", 200)}), []byte(pick(r, evilNames)), 0)
		case 5:
			writeNew(within, name, 0o4755, func(f *os.File) { f.WriteString("hard") })
			for i := range r.IntN(200) {
				within.Link(name, fmt.Sprint(name, i))
			}
		case 6:
			syscall.Mknod(filepath.Join(dir, name), pick(r, []uint32{syscall.S_IFBLK, syscall.S_IFCHR, syscall.S_IFIFO, syscall.S_IFSOCK})|0o666, r.IntN(1<<20))
		case 7:
			writeNew(within, name, 0o644, func(f *os.File) {
				f.Truncate(r.Int64N(1 << 40))
				for range r.IntN(60) {
					f.WriteAt([]byte("data"), r.Int64N(1<<30))
				}
			})
		case 8: // what the program itself reads
			growRead(r, top)
		case 9:
			exec.Command("setfacl", "-m", fmt.Sprintf("u:%d:rwx,g:%d:-", r.Uint32(), r.Uint32()), dir).Run()
		case 10:
			when := syscall.Timespec{Sec: r.Int64N(1<<35) - 1<<31, Nsec: r.Int64N(1e9)}
			syscall.UtimesNano(dir, []syscall.Timespec{when, when})
		}
	}
	return "steps " + strings.Join(did, " ")
}

// writeNew makes a file, unless the name is taken; fill may be nil.
func writeNew(root *os.Root, name string, mode uint32, fill func(f *os.File)) {
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	if fill != nil {
		fill(f)
	}
	unix.Fchmod(int(f.Fd()), mode)
}

// growDeep makes folders in folders, and a file in the last.
func growDeep(root *os.Root, parts int, name string) {
	at, err := root.OpenRoot(".")
	for ; parts > 0 && err == nil; parts-- {
		at.Mkdir(name, 0o755)
		var next *os.Root
		next, err = at.OpenRoot(name)
		at.Close()
		at = next
	}
	if err == nil {
		writeNew(at, "file", 0o644, func(f *os.File) { f.WriteString("deep\n") })
		at.Close()
	}
}

// growRead has one of the files that the program reads be something else.
func growRead(r *rand.Rand, root *os.Root) {
	target := pick(r, []string{"etc/fstab", "etc/hostname", "etc/os-release", "etc/hosts", "var/lib/instance-debootstrap/receipt.json", "boot/grub/grub.cfg"})
	root.MkdirAll(filepath.Dir(target), 0o755)
	root.Remove(target)
	switch r.IntN(3) {
	case 0:
		root.Symlink(pick(r, []string{"/etc/passwd", "../../../../../etc/passwd", "fstab", "/dev/zero"}), target)
	case 1:
		content := strings.Repeat(pick(r, evilNames), 1+r.IntN(2000))
		writeNew(root, target, 0o644, func(f *os.File) { f.WriteString(content) })
	case 2:
		syscall.Mkfifo(filepath.Join(root.Name(), target), 0o644)
	}
}

// TestAHostileTreeIsGrownWithinItself: a link in it may lead to the node's files, and what comes
// later may have its name.
func TestAHostileTreeIsGrownWithinItself(t *testing.T) {
	outside := t.TempDir()
	victim := filepath.Join(outside, "file")
	must(t, os.WriteFile(victim, []byte("untouched"), 0o600))
	for seed := range uint64(200) {
		tree := t.TempDir()
		dir := filepath.Join(tree, "hostile")
		must(t, os.Mkdir(dir, 0o755))
		for i, name := range oddNames {
			path := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
			if i%3 == 0 { // opening one would wait for ever
				must(t, syscall.Mkfifo(path, 0o644))
				continue
			}
			must(t, os.Symlink(victim, path))
		}
		for n := range 240 {
			must(t, os.Symlink(outside, filepath.Join(dir, "n"+strings.Repeat("n", n))))
		}
		growHostile(rand.New(rand.NewPCG(1, seed)), tree)
		must(t, os.RemoveAll(tree))
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "untouched" {
		t.Errorf("what is outside is %.20q, %v", b, err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("outside are %v, %v", entries, err)
	}
	if size, err := unix.Listxattr(victim, nil); err != nil || size != 0 {
		t.Errorf("the file outside has attributes of %d bytes, %v", size, err)
	}
}
