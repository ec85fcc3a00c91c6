//go:build root

package root

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// hostileTree is what a guest's users, without root's rights, can do to whoever moves
// their files. It is the same for the same seed.
func (l *lab) hostileTree(dir string, seed uint64) {
	l.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	l.tool("sh", "-e", "-c", `cd "$0"; mkdir -p hostile/top; truncate -s 3M hostile/top/sparse; echo x >> hostile/top/sparse`, dir)
	top := dir + "/hostile/top"
	for chain := range 3 {
		fd, err := unix.Open(top, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(l, err)
		for length := 0; length < 4096+chain*7000; {
			name := l.hostileName(r, 1+r.IntN(255))
			length += len(name) + 1
			must(l, unix.Mkdirat(fd, name, uint32(0o700|r.IntN(0o77))))
			child, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
			must(l, err)
			unix.Close(fd)
			fd = child
			l.hostileFilesIn(fd, top, r)
		}
		unix.Close(fd)
	}
	l.manyAttributes(top+"/attributes", r)
	for i := range 50 {
		must(l, os.WriteFile(top+"/"+l.hostileName(r, 1+r.IntN(255)), fmt.Append(nil, i), 0o600))
	}
}

// hostileName is a name of any bytes.
func (l *lab) hostileName(r *rand.Rand, n int) string {
	name := make([]byte, n)
	for i := range name {
		for name[i] == 0 || name[i] == '/' {
			name[i] = byte(r.UintN(256))
		}
	}
	return strings.Replace(string(name), ".", "x", 1)
}

func (l *lab) hostileFilesIn(fd int, top string, r *rand.Rand) {
	l.Helper()
	if r.IntN(3) == 0 {
		must(l, unix.Symlinkat("../../"+l.hostileName(r, 100), fd, "a-link"))
	}
	if r.IntN(3) == 0 {
		must(l, unix.Linkat(unix.AT_FDCWD, top+"/sparse", fd, "of the top", 0))
	}
	f, err := unix.Openat(fd, "file", unix.O_CREAT|unix.O_RDWR, 0o640)
	must(l, err)
	_, err = unix.Pwrite(f, []byte("x"), int64(r.IntN(3))<<16)
	must(l, err)
	must(l, unix.Fsetxattr(f, "user."+strings.ToValidUTF8(l.hostileName(r, 20), "y"), []byte(l.hostileName(r, 90)), 0))
	unix.Close(f)
	must(l, unix.Linkat(fd, "file", fd, "again", 0))
}

// manyAttributes gives a file as many and as large ones as its filesystem takes, at
// most 80 of 65,000 bytes.
func (l *lab) manyAttributes(path string, r *rand.Rand) {
	l.Helper()
	must(l, os.WriteFile(path, nil, 0o600))
	for i := range 80 {
		for n := 65000; n > 0; n /= 2 {
			err := unix.Setxattr(path, fmt.Sprintf("user.%d", i), []byte(l.hostileName(r, n)), 0)
			if err == nil {
				break
			}
			if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.E2BIG) && !errors.Is(err, unix.ERANGE) {
				l.Fatal(err)
			}
		}
	}
}

// hostileSum stands for all that a tar can have of the hostile tree.
func (l *lab) hostileSum() (sum string) {
	l.Helper()
	l.mounted(func(tree string) {
		sum = l.tool("sh", "-c", `tar -C "$0" --xattrs --xattrs-include='*' --numeric-owner --format=posix --pax-option=exthdr.name=x,delete=atime,delete=ctime --sort=name -cf - hostile | sha256sum`, tree)
	})
	return sum
}

func TestWhatAGuestsUsersDidIsMoved(t *testing.T) {
	for i, c := range []struct {
		fstype, format string
		sizeMiB        int64
	}{
		{"ext4", "tar", 900}, {"ext4", "image", 560}, {"xfs", "tar", 560}, {"xfs", "image", 900}, {"xfs", "image", 560},
		{"btrfs", "tar", 560}, {"btrfs", "image", 560}, {"xfs", "auto", 600},
	} {
		t.Run(fmt.Sprintf("%s/%s/%d", c.fstype, c.format, c.sizeMiB), func(t *testing.T) {
			l := newMoveLab(t, sourceMiB)
			l.guest("msdos", c.fstype)
			delete(l.env, "OLD_INSTANCE_NAME")
			l.change(func(tree string) { l.hostileTree(tree, uint64(i)) })
			l.free(l.disk)
			before := l.hostileSum()
			l.free(l.disk)
			l.env["EXPORT_FORMAT"] = c.format
			stream := l.export(0, l.disk)
			l.target(c.sizeMiB)
			l.importFile(stream)
			if now := l.hostileSum(); now != before {
				t.Errorf("seed %d: the tree was %s and is %s", i, before, now)
			}
			l.mounted(func(tree string) {
				if left := l.tool("find", tree, "-maxdepth", "1", "-name", ".deep*"); left != "" {
					t.Errorf("left: %s", left)
				}
			})
		})
	}
}

// TestAttributesThatDontFitFailTheImport: xfs has room for more than ext4.
func TestAttributesThatDontFitFailTheImport(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("none", "xfs")
	delete(l.env, "OLD_INSTANCE_NAME")
	l.change(func(tree string) {
		for _, name := range []string{"/one", "/two"} {
			must(t, os.WriteFile(tree+name, nil, 0o600))
			must(t, unix.Setxattr(tree+name, "user.large", bytes.Repeat([]byte("x"), 40000), 0))
		}
	})
	stream := l.TempDir() + "/tar"
	l.mounted(func(tree string) {
		l.tool("tar", "-C", tree, "--xattrs", "--xattrs-include=*", "--format=posix", "-cf", stream, ".")
	})
	l.env["OSP_FILESYSTEM"] = "ext4"
	b, err := os.ReadFile(stream)
	must(t, err)
	l.target(600)
	l.importFails(bytes.NewReader(b), `would be incomplete: tar warned of 2 losses, first: .*'user.large'.*'\./one'.*METADATA_LOSS=warn`)
	l.env["METADATA_LOSS"] = "warn"
	log := l.importFile(stream)
	if strings.Count(log, "warn: ") != 1 || !strings.Contains(log, "the new disk is incomplete: tar warned of 2 losses") {
		t.Errorf("the log is\n%s", log)
	}
}

// TestAListOfAttributesThatIsTooLongFailsTheExport: xfs takes more names than the kernel lists.
func TestAListOfAttributesThatIsTooLongFailsTheExport(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("msdos", "xfs")
	delete(l.env, "OLD_INSTANCE_NAME")
	l.change(func(tree string) {
		must(t, os.WriteFile(tree+"/many", nil, 0o600))
		for i := range 300 {
			must(t, unix.Setxattr(tree+"/many", fmt.Sprintf("user.%0240d", i), []byte("x"), 0))
		}
	})
	l.env["EXPORT_FORMAT"] = "tar"
	out, err := os.Create(l.TempDir() + "/stream")
	must(t, err)
	defer out.Close()
	log, _, exit := l.exportTo(out, 0, l.disk)
	if exit != 1 || !strings.Contains(log, `"./many": it has more extended attributes than the kernel can list`) || !strings.Contains(log, "EXPORT_FORMAT=image") {
		t.Errorf("exit status %d\n%s", exit, log)
	}
	l.env["EXPORT_FORMAT"] = "auto"
	l.tool("rm", "-f", out.Name())
	l.export(0, l.disk)
}

func TestADumpNamesTheACLsThatItLoses(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("msdos", "ext4")
	l.change(func(tree string) { l.tool("setfacl", "-d", "-m", "u:1:r", tree+"/etc") })
	l.env["EXPORT_FORMAT"] = "dump"
	out, err := os.Create(l.TempDir() + "/stream")
	must(t, err)
	defer out.Close()
	log, _, exit := l.exportTo(out, 0, l.disk)
	if exit != 0 || strings.Count(log, "have ACLs") != 2 || !strings.Contains(log, `1 files and folders have ACLs, the first "./etc"`) {
		t.Errorf("exit status %d\n%s", exit, log)
	}
}
