//go:build root

package transport

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nest makes folders in each other, of names of length bytes, and files in all of
// them: one with a hole, a link to it, an attribute.
func nest(t *testing.T, dir string, depth, length int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	for i := range depth {
		name := fmt.Sprintf("%0*d", length, i)
		must(t, unix.Mkdirat(fd, name, 0o750))
		child, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		unix.Close(fd)
		fd = child
		f, err := unix.Openat(fd, "file", unix.O_CREAT|unix.O_RDWR, 0o600)
		must(t, err)
		_, err = unix.Pwrite(f, fmt.Append(nil, "of ", i, "\n"), int64(i%3)<<20)
		must(t, err)
		must(t, unix.Fsetxattr(f, "user.depth", fmt.Append(nil, i), 0))
		must(t, unix.Fchown(f, i, i))
		unix.Close(f)
		must(t, unix.Linkat(fd, "file", fd, "hard", 0))
		must(t, unix.Symlinkat("../file", fd, "soft"))
		must(t, unix.Symlinkat(strings.Repeat("long/", 30), fd, "soft and long"))
		must(t, unix.UtimesNanoAt(fd, "file", []unix.Timespec{{Sec: int64(i)}, {Sec: int64(i), Nsec: 5}}, 0))
	}
	unix.Close(fd)
	must(t, os.Chtimes(dir, time.Unix(1, 0), time.Unix(1, 0)))
}

// packed is the tar of a folder.
func packed(t *testing.T, dir string) string {
	t.Helper()
	var out bytes.Buffer
	must(t, Pack(t.Context(), dir, &out))
	return out.String()
}

// unpackDeep unpacks a tar as import does.
func unpackDeep(t *testing.T, archive, into string) error {
	t.Helper()
	s, err := Open(t.Context(), strings.NewReader(archive))
	must(t, err)
	r, w := io.Pipe()
	short := NewShortcuts(into)
	go func() { w.CloseWithError(s.Walk(Sink{Files: w, Shortcuts: short})) }()
	err = Unpack(t.Context(), r, into)
	_, rest := io.Copy(io.Discard, r)
	return errors.Join(err, rest, short.Remove())
}

func TestPathsThatAreLongerThanTheKernelTakesAreUnpacked(t *testing.T) {
	for _, c := range []struct{ depth, length int }{{30, 255}, {400, 20}, {1000, 4}, {60, 255}} {
		from, into := t.TempDir(), t.TempDir()
		nest(t, from, c.depth, c.length)
		found, err := Survey(t.Context(), from)
		must(t, err)
		if !found.Deep || found.Unfit != "" {
			t.Errorf("%+v: found %+v", c, found)
		}
		archive := packed(t, from)
		if err := unpackDeep(t, archive, into); err != nil {
			t.Errorf("%+v: %.400v", c, err)
			continue
		}
		want, err := readTar(strings.NewReader(archive))
		must(t, err)
		got, err := readTar(strings.NewReader(packed(t, into)))
		must(t, err)
		if len(want) < 4*c.depth || len(got) != len(want) {
			t.Errorf("%+v: %d members became %d", c, len(want), len(got))
			continue
		}
		for i := range want {
			if !reflect.DeepEqual(got[i], want[i]) {
				t.Errorf("%+v: member %d, whose path has %d bytes, was %+v and is %+v", c, i, len(want[i].head.Name), want[i].head.FileInfo(), got[i].head.FileInfo())
				break
			}
		}
		shell(t, into, "rm -rf -- *")
		shell(t, from, "rm -rf -- *")
	}
}

func TestANameThatIsLongerThanAnyIsRefused(t *testing.T) {
	into := t.TempDir()
	err := unpackDeep(t, tarOf(t, file("./a/"+strings.Repeat("n", 5000), "x")), into)
	if err == nil || !strings.Contains(err.Error(), "longer than the kernel accepts") {
		t.Errorf("error %.200v", err)
	}
}

func TestALongWayThroughALinkStaysInside(t *testing.T) {
	node := t.TempDir()
	long := strings.Repeat(strings.Repeat("d", 200)+"/", 25)
	entries := []entry{kind("./out", tar.TypeSymlink, node)}
	for path := "./out/"; len(path) < len(long); path += strings.Repeat("d", 200) + "/" {
		entries = append(entries, kind(path, tar.TypeDir, ""))
	}
	entries = append(entries, file("./out/"+long+"new", "out"))
	into := t.TempDir()
	if err := unpackDeep(t, tarOf(t, entries...), into); err != nil {
		t.Logf("%.300v", err)
	}
	if names, _ := filepath.Glob(node + "/*"); len(names) > 0 {
		t.Errorf("in the node's folder are %.100q", names)
	}
	if names, _ := filepath.Glob(into + "/.deep*"); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
}

func TestWhatNoTarCanHoldIsFoundBefore(t *testing.T) {
	deep := t.TempDir()
	nest(t, deep, 110, 250)
	found, err := Survey(t.Context(), deep)
	must(t, err)
	if !strings.Contains(found.Unfit, "longer than 24576") {
		t.Errorf("found %+v", found)
	}
	shell(t, deep, "rm -rf -- *")
	plain := t.TempDir()
	shell(t, plain, `mkdir -p a/b c; for i in {1..500}; do : > a/$i; mkdir c/$i; done; touch a/b/f; setfacl -m u:1:r a/b/f; setfacl -d -m u:1:r c`)
	found, err = Survey(t.Context(), plain)
	must(t, err)
	if found.Unfit != "" || found.Deep || found.ACLs != 2 || found.FirstACL != "./a/b/f" && found.FirstACL != "./c" {
		t.Errorf("found %+v", found)
	}
}

func TestWhatTarOnlyWarnsOfIsALoss(t *testing.T) {
	attribute := func(key string) entry {
		return entry{tar.Header{Name: "./f", PAXRecords: map[string]string{key: "x"}}, "f"}
	}
	for name, c := range map[string]struct {
		e    entry
		want string
	}{
		"an attribute that can't be set": {attribute("SCHILY.xattr.nonsense.a"), "Cannot set 'nonsense.a'"},
		"one that looks like a socket":   {attribute("SCHILY.xattr.nonsense.a: socket ignored\ntar: x"), "Cannot set 'nonsense.a"},
		"ACLs as text":                   {attribute("SCHILY.acl.access"), "its ACLs"},
		"an unknown record":              {attribute("SCHILY.fflags"), "unknown extended header keyword"},
		"another disk's number":          {attribute("SCHILY.dev"), ""},
	} {
		into := t.TempDir()
		err := unpackDeep(t, tarOf(t, c.e), into)
		var loss *LossError
		if (err != nil) != (c.want != "") || err != nil && (!errors.As(err, &loss) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
		if text, err := os.ReadFile(into + "/f"); err != nil || string(text) != "f" {
			t.Errorf("%s: the rest is not there: %v", name, err)
		}
	}
}

func TestASocketIsNoLoss(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(dir, "a: b\x1b\n.sock")}))
	packed(t, dir)
}

func TestFoldersWhoseAttributesNoImportCanHoldAreFoundBeforeTheExport(t *testing.T) {
	dir := t.TempDir()
	shell(t, dir, `truncate -s 400M f; mkfs.xfs -q f; mkdir m; mount -o loop f m`)
	defer shell(t, dir, `umount m`)
	shell(t, dir, `cd m; v=$(head -c 60000 /dev/zero | tr '\0' x)
for i in {1..60}; do mkdir d; cd d; for a in {1..20}; do echo "user.a$a=\"$v\""; done | { echo "# file: ."; cat; } | setfattr --restore=-; done`)
	found, err := Survey(t.Context(), dir+"/m")
	if err != nil || !strings.Contains(found.Unfit, "the folders above it have attributes of more than 64 MiB") {
		t.Errorf("%q, %v", found.Unfit, err)
	}
}

// A thread that stayed in the folder would keep its filesystem mounted; the
// process's first thread stays for ever.
func TestNoThreadStaysInTheFolderThatWasLookedThrough(t *testing.T) {
	dir := t.TempDir()
	for range 20 {
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if _, err := Survey(t.Context(), dir); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var within []string
		threads, err := filepath.Glob("/proc/self/task/*/cwd")
		must(t, err)
		for _, thread := range threads {
			if at, err := os.Readlink(thread); err == nil && at == dir {
				within = append(within, thread)
			}
		}
		if len(within) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("these are in %s yet: %q", dir, within)
		}
	}
}
