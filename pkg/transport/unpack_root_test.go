//go:build root

package transport

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/cell"
)

// The node daemon runs its scripts with this umask.
func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		panic("needs root")
	}
	syscall.Umask(0o077)
	os.Exit(m.Run())
}

// everything fills a folder with what only root can make.
const everything = `umask 022
mkdir -p dev etc/private home
mknod dev/null c 1 3; chmod 666 dev/null; mknod dev/sda b 8 0; mknod dev/far b 4000 1000000; mkfifo dev/pipe; chown 5:6 dev/pipe
cp /bin/true etc/ping; setcap cap_net_raw+ep etc/ping; cp /bin/true etc/su; chmod 4755 etc/su; chmod 1777 home
echo text > etc/plain; setfacl -m u:1234:r,g:4321:rw etc/plain; setfacl -d -m u:1234:rx etc/private
setfattr -n user.note -v "$(printf '%0300d' 0)" etc/plain; setfattr -n trusted.note -v there home
setfattr -n user.binary -v 0x000a3d00ff etc/plain; setfattr -n user.a=b -v x etc/plain
setfattr -n security.selinux -v label etc/su
echo owned > home/owned; chown 70000:80000 home/owned; echo far > home/far; chown 4000000000:4000000000 home/far
truncate -s 50M home/sparse; echo end >> home/sparse; setfattr -n user.note -v sparse home/sparse; ln home/sparse home/again
ln -s /etc/passwd home/link; chown -h 7:8 home/link
find . -print0 | xargs -0 touch -h -d '2021-03-04 05:06:07.123456789'`

// described is what find, getfattr and sha256sum say of a tree.
func described(t *testing.T, dir string) string {
	return shell(t, dir, `export LC_ALL=C
find . -printf '%P %y %m %U:%G %n %T@ %l ' \( -type f -printf '%s\n' -o \( -type b -o -type c \) -exec stat -c '%t,%T' {} \; -o -printf '\n' \) | sort
find . -print0 | sort -z | xargs -0 getfattr -h -d -m '^(user|trusted|system|security.cap)' -e hex
find . -type f -print0 | sort -z | xargs -0 sha256sum`)
}

func TestATreeWithEverythingIsMeasuredAndComesBack(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	shell(t, from, everything)
	files := measure(t, "everything", from)
	must(t, Unpack(t.Context(), strings.NewReader(files), to))
	if got, want := described(t, to), described(t, from); got != want {
		t.Errorf("what came back is\n%s\nand was\n%s", got, want)
	}
	if said := shell(t, to, "getfattr -d -m security.selinux etc/su 2>&1"); said != "" {
		t.Errorf("the node's own label is in the tree: %s", said)
	}
	if used := strings.TrimSpace(shell(t, to, "stat -c %b home/sparse")); len(used) > 3 {
		t.Errorf("the sparse file has %s sectors", used)
	}
}

func TestWhatIsMountedInATreeIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	mnt := filepath.Join(dir, "mnt")
	must(t, os.Mkdir(mnt, 0o755))
	must(t, unix.Mount("none", mnt, "tmpfs", 0, ""))
	t.Cleanup(func() { unix.Unmount(mnt, unix.MNT_DETACH) })
	must(t, os.WriteFile(filepath.Join(mnt, "other"), []byte("x"), 0o600))
	entries, err := readTar(strings.NewReader(measure(t, "a mount", dir)))
	if err != nil || len(entries) != 2 {
		t.Errorf("%d members, want the folder and the mount point: %v", len(entries), err)
	}
}

// inOwnMounts runs do in a mount namespace of its own. Tools that it starts are
// not in it.
func inOwnMounts(t *testing.T, do func()) {
	t.Helper()
	must(t, cell.OnThread(func() error {
		if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")); err != nil {
			return err
		}
		do()
		return nil
	}))
}

func TestAMissingDecompressorIsTheNodesFault(t *testing.T) {
	streams, packages := map[string]string{}, map[string]string{"gzip": "gzip", "zstd": "zstd", "xz": "xz-utils", "bzip2": "bzip2", "lz4": "lz4"}
	for tool := range packages {
		streams[tool] = compressed(t, tree(t), tool, "-c")
	}
	inOwnMounts(t, func() {
		for tool, stream := range streams {
			for _, dir := range []string{"/usr/bin/", "/bin/", "/usr/local/bin/"} {
				if _, err := os.Stat(dir + tool); err == nil {
					must(t, unix.Mount("/dev/null", dir+tool, "", unix.MS_BIND, ""))
				}
			}
			_, err := Open(t.Context(), strings.NewReader(stream))
			if err == nil || !strings.HasSuffix(err.Error(), "install the package "+packages[tool]) {
				t.Errorf("%s: %v", tool, err)
			}
		}
	})
}

func kind(name string, typeflag byte, to string) entry {
	return entry{tar.Header{Name: name, Typeflag: typeflag, Linkname: to}, ""}
}

// escapes are tars that try to reach a folder of the node's. Whether tar takes
// them or not, nothing there may change.
func escapes(node string) map[string][]entry {
	const up = "../../../../../../../../../.."
	device := entry{tar.Header{Name: "./new", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, ""}
	return map[string][]entry{
		"an absolute name":           {file(node+"/new", "out"), file(node+"/file", "out")},
		"through a link":             {kind("./out", tar.TypeSymlink, node), file("./out/new", "out"), file("./out/file", "out")},
		"through a relative link":    {kind("./out", tar.TypeSymlink, up+node), file("./out/new", "out")},
		"through two links":          {kind("./a", tar.TypeSymlink, "b"), kind("./b", tar.TypeSymlink, node), file("./a/new", "out")},
		"through a folder's link":    {kind("./d", tar.TypeDir, ""), kind("./d/out", tar.TypeSymlink, node), kind("./d/out", tar.TypeDir, ""), file("./d/out/new", "out")},
		"through a link's hard link": {kind("./out", tar.TypeSymlink, node), kind("./again", tar.TypeLink, "./out"), file("./again/new", "out")},
		"over a link to a file":      {kind("./out", tar.TypeSymlink, node+"/file"), file("./out", "out")},
		"a folder over a link":       {kind("./out", tar.TypeSymlink, node), kind("./out/", tar.TypeDir, "")},
		"a hard link out":            {kind("./h", tar.TypeLink, node+"/file"), file("./h", "out")},
		"a relative hard link out":   {kind("./h", tar.TypeLink, up+node+"/file"), file("./h", "out")},
		"a hard link through a link": {kind("./out", tar.TypeSymlink, node), kind("./h", tar.TypeLink, "./out/file"), file("./h", "out")},
		"the top is a link":          {kind("./", tar.TypeSymlink, node), file("./new", "out")},
		"a device through a link":    {kind("./out", tar.TypeSymlink, node), entry{tar.Header{Name: "./out/new", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, ""}},
		"a device for the node":      {device, file("./new", "out")},
		"a fifo that is written to":  {kind("./pipe", tar.TypeFifo, ""), file("./pipe", "out")},
		"attributes through a link":  {kind("./out", tar.TypeSymlink, node+"/file"), {tar.Header{Name: "./out", PAXRecords: map[string]string{"SCHILY.xattr.user.note": "out"}}, "out"}},
	}
}

func TestWhatIsUnpackedStaysInItsFolder(t *testing.T) {
	node := t.TempDir()
	must(t, os.Chmod(node, 0o700))
	must(t, os.WriteFile(filepath.Join(node, "file"), []byte("the node's\n"), 0o640))
	before := described(t, node)
	for name, entries := range escapes(node) {
		into := filepath.Join(t.TempDir(), "guest")
		must(t, os.Mkdir(into, 0o755))
		var files bytes.Buffer
		s, err := Open(t.Context(), strings.NewReader(tarOf(t, entries...)))
		must(t, err)
		if err := s.Walk(Sink{Files: &files}); err != nil {
			t.Logf("%s: %v", name, err)
			continue
		}
		if err := Unpack(t.Context(), &files, into); err != nil {
			t.Logf("%s: %v", name, err)
		}
		if after := described(t, node); after != before {
			t.Fatalf("%s: the node's folder is\n%s\nand was\n%s", name, after, before)
		}
		if others, _ := filepath.Glob(filepath.Dir(into) + "/*"); len(others) != 1 {
			t.Errorf("%s: beside the folder there are %v", name, others)
		}
	}
}

func TestATarOfOddOwnersAndModesIsUnpackedAsItIs(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	must(t, w.WriteHeader(&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o751, Uid: 3, Gid: 4}))
	must(t, w.WriteHeader(&tar.Header{Name: "./f", Typeflag: tar.TypeReg, Mode: 0o6000, Uid: 123456, Gid: 1, Uname: "root", Gname: "root"}))
	must(t, w.Close())
	must(t, Unpack(t.Context(), &out, dir))
	if got := shell(t, dir, "stat -c '%a %u %g' . f"); got != "751 3 4\n6000 123456 1\n" {
		t.Errorf("stat says %q", got)
	}
}

func TestUnpackTellsOfATarThatIsCutOff(t *testing.T) {
	files := tree(t)
	if err := Unpack(t.Context(), io.LimitReader(strings.NewReader(files), 1100), t.TempDir()); err == nil {
		t.Error("no error")
	}
}
