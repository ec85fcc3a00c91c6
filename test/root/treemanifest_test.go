//go:build root

package root

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A rich tree has one of everything that a copy of a filesystem can lose, and
// its manifest is what find, stat, getfattr, getfacl, sha256sum and xfs_io say
// about it: none of them had a part in the copy.

// hugeBytes is the size of the sparse file that no disk of these tests could hold.
const hugeBytes = 10 << 30

// richTree makes the tree below dir, on a filesystem with extended attributes.
func richTree(t *testing.T, dir string) {
	t.Helper()
	for _, d := range []string{"names", "modes", "owners", "times", "xattrs", "acls", "links/a/b", "links/c", "sparse", "special", "symlinks", "empty/empty", "many", ".instance-debootstrap"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	richNames(t, dir)
	richModes(t, dir)
	richXattrs(t, filepath.Join(dir, "xattrs"))
	richACLs(t, filepath.Join(dir, "acls"))
	richLinks(t, dir)
	richSparse(t, filepath.Join(dir, "sparse"))
	richSpecial(t, filepath.Join(dir, "special"))
	for i := range 300 {
		must(t, os.WriteFile(filepath.Join(dir, "many", fmt.Sprint(i)), bytes.Repeat([]byte{byte(i)}, i*7), 0o644))
	}
	must(t, os.WriteFile(filepath.Join(dir, ".instance-debootstrap/manifest.json"), []byte(`{"format":1}`), 0o600))
	richTimes(t, dir) // the last: the folders' own times
}

// oddNames are as odd as Linux allows; some look like what tar puts into headers.
var oddNames = []string{
	"new\nline", "\n30 path=..\n", "a=b", "tab\tname", `back\slash`, `\012`, `"quo'tes"`, " leading", "trailing ", "-rf", "--checkpoint-action=exec=false",
	"*", "$(false)", "%s%n", "\xff\xfe\x80", "\x01\x7f", "é", "e\u0301", strings.Repeat("n", 255), strings.Repeat("é", 127) + "x", strings.Repeat("\xfe", 255),
	"GNUSparseFile.0", "PaxHeaders.1", "...", "..x", "@LongLink",
}

func richNames(t *testing.T, dir string) {
	t.Helper()
	for i, name := range oddNames {
		must(t, os.WriteFile(filepath.Join(dir, "names", name), []byte(name), 0o644))
		if i%3 == 0 {
			must(t, os.Mkdir(filepath.Join(dir, "names", "d"+name[1:]), 0o755))
			must(t, os.WriteFile(filepath.Join(dir, "names", "d"+name[1:], name), nil, 0o644))
		}
	}
	long := filepath.Join(dir, "names/long")
	for i := range 16 {
		long = filepath.Join(long, fmt.Sprintf("%03d", i)+strings.Repeat("l", 180))
	}
	must(t, os.MkdirAll(long, 0o755))
	must(t, os.WriteFile(long+"/file", []byte("far down"), 0o644))
	must(t, os.Link(long+"/file", long+"/hard link"))
}

func richModes(t *testing.T, dir string) {
	t.Helper()
	for _, mode := range []uint32{0, 0o001, 0o200, 0o444, 0o600, 0o644, 0o755, 0o777, 0o1644, 0o2755, 0o4755, 0o6711, 0o7777} {
		file := filepath.Join(dir, "modes", fmt.Sprintf("file-%o", mode))
		must(t, os.WriteFile(file, []byte(file), 0o600))
		must(t, unix.Chmod(file, mode))
		must(t, os.Mkdir(filepath.Join(dir, "modes", fmt.Sprintf("dir-%o", mode)), 0o700))
		must(t, unix.Chmod(filepath.Join(dir, "modes", fmt.Sprintf("dir-%o", mode)), mode))
	}
	for _, id := range []int{0, 1, 1000, 65534, 65536, 1 << 21, 4000000000, 1<<32 - 2} {
		for kind, make := range map[string]func(string) error{
			"file": func(p string) error { return os.WriteFile(p, nil, 0o644) },
			"dir":  func(p string) error { return os.Mkdir(p, 0o755) },
			"link": func(p string) error { return os.Symlink("nowhere", p) },
		} {
			path := filepath.Join(dir, "owners", fmt.Sprintf("%s-%d", kind, id))
			must(t, make(path))
			must(t, os.Lchown(path, id, 1<<32-2-id))
		}
	}
	suid := filepath.Join(dir, "owners/suid") // chown(2) clears the bit: it must come last
	must(t, os.WriteFile(suid, []byte("suid"), 0o755))
	must(t, os.Chown(suid, 65534, 4000000000))
	must(t, unix.Chmod(suid, 0o6755))
}

func richXattrs(t *testing.T, dir string) {
	t.Helper()
	values := map[string]string{
		"user.plain": "value", "user.empty": "", "user.binary": "\x00\xff\n\x00", "user.new\nline": "n", "user.a=b": "c=d", "user.100%3D": "%",
		"user.big": strings.Repeat("0123456789", 150), "trusted.ours": "t", "security.ours": "s\x00",
	}
	for _, name := range []string{"file", "dir/", "fifo", "link"} {
		path := filepath.Join(dir, name)
		switch name {
		case "file":
			must(t, os.WriteFile(path, []byte("with attributes"), 0o640))
		case "dir/":
			must(t, os.Mkdir(path, 0o750))
		case "fifo":
			must(t, unix.Mkfifo(path, 0o644))
		case "link":
			must(t, os.Symlink("/dangling", path))
		}
		for attr, value := range values {
			if strings.HasPrefix(attr, "user.") && (name == "fifo" || name == "link") {
				continue // Linux has user attributes on files and folders only
			}
			must(t, unix.Lsetxattr(path, attr, []byte(value), 0))
		}
	}
	for name, caps := range map[string][]string{"ping": {"cap_net_raw+ep"}, "in-a-namespace": {"-n", "100000", "cap_setuid=ep"}} {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte("#!"), 0o755))
		must(t, os.Chown(path, 1000, 1000)) // chown(2) takes capabilities away
		must(t, exec.Command("setcap", append(slices.Clip(caps), path)...).Run())
	}
}

func richACLs(t *testing.T, dir string) {
	t.Helper()
	must(t, os.WriteFile(dir+"/file", []byte("for some"), 0o640))
	must(t, os.MkdirAll(dir+"/default/below", 0o2770))
	must(t, exec.Command("setfacl", "-m", "u:1000:rwx,u:4000000000:r,g:65536:-,m::r", dir+"/file").Run())
	must(t, exec.Command("setfacl", "-d", "-m", "u:1000:rwx,g:33:r,o::-", dir+"/default").Run())
	must(t, exec.Command("setfacl", "-m", "u:33:rwx", dir+"/default").Run())
	must(t, os.WriteFile(dir+"/default/inherits", nil, 0o666))
}

func richLinks(t *testing.T, dir string) {
	t.Helper()
	links := filepath.Join(dir, "links")
	must(t, os.WriteFile(links+"/a/file", []byte("one file of four names"), 0o4711))
	must(t, unix.Chmod(links+"/a/file", 0o4711))
	for _, to := range []string{"a/b/file", "c/file", "c/other"} {
		must(t, os.Link(links+"/a/file", filepath.Join(links, to)))
	}
	must(t, os.Symlink("../c/file", links+"/a/soft"))
	must(t, os.Link(links+"/a/soft", links+"/c/soft"))
	for name, to := range map[string]string{
		"absolute": "/etc/hostname", "dangling": "nothing/here", "up": "../../../../../../etc/passwd", "self": "self", "dot": ".", "root": "/",
		"long": "/" + strings.Repeat("0123456789", 100), "new\nline": "to\nwhat", "bytes": "\xff\xfe", "names": "../names/new\nline",
	} {
		must(t, os.Symlink(to, filepath.Join(dir, "symlinks", name)))
	}
}

// richSparse makes files with holes: each entry is a size and where data is, in
// units of 64 KiB, which is a multiple of every block.
func richSparse(t *testing.T, dir string) {
	t.Helper()
	many := []int64{}
	for i := range int64(60) {
		many = append(many, 2*i+1)
	}
	for name, c := range map[string]struct {
		size int64
		data []int64
	}{
		"start": {3 << 16, []int64{2}}, "middle": {5 << 16, []int64{0, 4}}, "end": {8 << 16, []int64{0, 1}},
		"all": {1 << 20, nil}, "odd-size": {4<<16 + 12345, []int64{1}}, "many": {122 << 16, many}, "dense": {2 << 16, []int64{0, 1}},
		"huge": {hugeBytes, []int64{0, 1000, hugeBytes>>17 + 3, hugeBytes>>16 - 1}},
	} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o644)
		must(t, err)
		must(t, f.Truncate(c.size))
		for _, n := range c.data {
			_, err := f.WriteAt(bytes.Repeat([]byte{byte(n) | 1}, 1<<16), n<<16)
			must(t, err)
		}
		must(t, f.Close())
	}
}

func richSpecial(t *testing.T, dir string) {
	t.Helper()
	for name, dev := range map[string]uint64{"null": unix.Mkdev(1, 3), "large": unix.Mkdev(300, 200000)} {
		must(t, unix.Mknod(filepath.Join(dir, "char-"+name), unix.S_IFCHR|0o666, int(dev)))
		must(t, unix.Mknod(filepath.Join(dir, "block-"+name), unix.S_IFBLK|0o660, int(dev)))
	}
	must(t, unix.Mkfifo(dir+"/fifo", 0o644))
	must(t, unix.Mknod(dir+"/socket", unix.S_IFSOCK|0o755, 0)) // no tar can carry it
}

// richTimes gives every file and folder its time; a filesystem that can't hold
// one takes the nearest that it can.
func richTimes(t *testing.T, dir string) {
	t.Helper()
	at := []unix.Timespec{
		{Sec: -1, Nsec: 500000001}, {Sec: 0, Nsec: 0}, {Sec: 0, Nsec: 999999999}, {Sec: -86400 * 365, Nsec: 123456789}, {Sec: 1234567890, Nsec: 1},
		{Sec: 1<<31 - 1, Nsec: 999999999}, {Sec: 1 << 31, Nsec: 7}, {Sec: 4102444800, Nsec: 987654321}, {Sec: 8589934592, Nsec: 3},
	}
	for i, ts := range at {
		must(t, os.WriteFile(filepath.Join(dir, "times", fmt.Sprint(i)), nil, 0o644))
		must(t, os.Mkdir(filepath.Join(dir, "times", fmt.Sprint("dir", i)), 0o755))
		must(t, os.Symlink("x", filepath.Join(dir, "times", fmt.Sprint("link", i))))
		for _, name := range []string{fmt.Sprint(i), fmt.Sprint("dir", i), fmt.Sprint("link", i)} {
			must(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, "times", name), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
		}
	}
	for i, d := range []string{"acls/default", "xattrs/dir", "links/a", "links", "times", "empty", "."} {
		ts := unix.Timespec{Sec: 1500000000 + int64(i), Nsec: 111111111 * int64(i)}
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, d), []unix.Timespec{ts, ts}, 0))
	}
}

// without says which facts a format is known to lose.
type without struct {
	sockets bool // tar
	dump    bool // ACLs, and what of a time isn't whole seconds
}

// manifest describes the tree below dir, one fact a line, in order.
func manifest(t *testing.T, dir string, lost without) []string {
	t.Helper()
	facts := slices.Concat(manifestOfInodes(t, dir, lost), manifestOfXattrs(t, dir, lost), manifestOfContents(t, dir))
	slices.Sort(facts)
	return facts
}

// ask runs a tool in dir and returns all that it prints.
func ask(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	var said bytes.Buffer
	cmd.Dir, cmd.Stderr, cmd.Env = dir, &said, append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v in %s: %v\n%s", args, dir, err, said.String())
	}
	return string(out)
}

// manifestOfInodes has for each name its type, mode, owners, size, time, link's
// target, device number, and the first of the names that its inode has.
func manifestOfInodes(t *testing.T, dir string, lost without) (facts []string) {
	t.Helper()
	fields := strings.Split(ask(t, dir, "find", ".", "-printf", `%P\0%y\0%m %U:%G %T@\0%s\0%l\0%i %n\0`), "\x00")
	firstName := map[string]string{}
	records := slices.Collect(slices.Chunk(fields[:len(fields)-1], 6))
	slices.SortFunc(records, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
	for _, r := range records {
		path, kind, size, inode := r[0], r[1], r[3], r[5]
		if kind == "s" && lost.sockets {
			continue
		}
		if firstName[inode] == "" {
			firstName[inode] = path
		}
		if lost.dump {
			r[2] = r[2][:strings.LastIndexByte(r[2], '.')]
		}
		if lost.dump && path == "" { // restore leaves files there, which are removed
			r[2] = r[2][:strings.LastIndexByte(r[2], ' ')]
		}
		_, names, _ := strings.Cut(inode, " ")
		if kind == "d" { // which count their folders, or not, by filesystem
			size, names = "", ""
		}
		facts = append(facts, fmt.Sprintf("inode %q: %s %s size %s to %q, %s names, the first %q", path, kind, r[2], size, r[4], names, firstName[inode]))
	}
	devices := strings.Split(ask(t, dir, "find", ".", "(", "-type", "b", "-o", "-type", "c", ")", "-exec", "stat", "--printf", `%n %t:%T\0`, "{}", "+"), "\x00")
	return append(facts, devices...)
}

func manifestOfXattrs(t *testing.T, dir string, lost without) (facts []string) {
	t.Helper()
	for record := range strings.SplitSeq(ask(t, dir, "getfattr", "-R", "-P", "-h", "-d", "-m", "-", "-e", "hex", "."), "\n\n") {
		name, attrs, _ := strings.Cut(record, "\n")
		for attr := range strings.SplitSeq(attrs, "\n") {
			if acl := strings.HasPrefix(attr, "system.posix_acl_"); attr != "" && !(acl && lost.dump) {
				facts = append(facts, "xattr "+name+" "+attr)
			}
		}
	}
	if lost.dump {
		return facts
	}
	for record := range strings.SplitSeq(ask(t, dir, "getfacl", "-R", "-P", "-n", "-s", "."), "\n\n") {
		facts = append(facts, "acl "+record)
	}
	return facts
}

// manifestOfContents has each file's SHA-256 and, of what is below sparse, where
// xfs_io finds data and holes.
func manifestOfContents(t *testing.T, dir string) (facts []string) {
	t.Helper()
	sums := ask(t, dir, "find", ".", "-type", "f", "-size", "-1048576k", "-exec", "sha256sum", "-z", "--", "{}", "+")
	for sum := range strings.SplitSeq(strings.TrimRight(sums, "\x00"), "\x00") {
		facts = append(facts, fmt.Sprintf("content %q", sum))
	}
	files, err := filepath.Glob(dir + "/sparse/*")
	must(t, err)
	for _, file := range files {
		pieces := ask(t, dir, "xfs_io", "-r", "-c", "seek -a -r 0", file)
		name := filepath.Base(file)
		facts = append(facts, fmt.Sprintf("data and holes of %s: %q", name, withoutTail(pieces)))
		if name == "huge" {
			facts = append(facts, fmt.Sprintf("content of huge: %x", sumOfData(t, file, pieces)))
		}
	}
	return facts
}

// withoutTail rounds where the last hole begins: xfs gives a file that grows
// some blocks in advance.
func withoutTail(pieces string) string {
	end := strings.LastIndexByte(strings.TrimRight(pieces, "\n"), '\t') + 1
	var at int64
	fmt.Sscan(pieces[end:], &at)
	return fmt.Sprint(pieces[:end], (at+256<<10-1)>>18<<18)
}

// sumOfData is the SHA-256 of what xfs_io calls data.
func sumOfData(t *testing.T, file, pieces string) []byte {
	t.Helper()
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	st, err := f.Stat()
	must(t, err)
	sum := sha256.New()
	start := int64(-1)
	for line := range strings.Lines(pieces + fmt.Sprintf("HOLE %d\n", st.Size())) {
		var kind string
		var at int64
		if n, _ := fmt.Sscan(line, &kind, &at); n != 2 {
			continue
		}
		if start >= 0 {
			_, err := io.Copy(sum, io.NewSectionReader(f, start, at-start))
			must(t, err)
		}
		if start = -1; kind == "DATA" {
			start = at
		}
	}
	return sum.Sum(nil)
}

// sameManifest fails with what only one of the two has.
func sameManifest(t *testing.T, before, after []string) {
	t.Helper()
	only := func(in, notIn []string) (out []string) {
		for _, fact := range in {
			if _, found := slices.BinarySearch(notIn, fact); !found {
				out = append(out, fact)
			}
		}
		return out
	}
	lost, gained := only(before, after), only(after, before)
	const enough = 12
	if len(before) < 700 {
		t.Errorf("the tree has only %d facts", len(before))
	}
	if len(lost)+len(gained) > 0 {
		t.Errorf("%d facts before and not after:\n%s\n%d facts after and not before:\n%s",
			len(lost), strings.Join(lost[:min(enough, len(lost))], "\n"), len(gained), strings.Join(gained[:min(enough, len(gained))], "\n"))
	}
}

// TestManifestSeesEveryLoss proves the tool that the other tests trust.
func TestManifestSeesEveryLoss(t *testing.T) {
	l := newLab(t, 600)
	l.tool("mke2fs", "-q", "-F", "-t", "ext4", l.disk)
	dev, dir := l.root(), t.TempDir()
	l.tool("mount", dev, dir)
	t.Cleanup(func() { l.tool("umount", dir) })
	richTree(t, dir)
	whole := manifest(t, dir, without{})
	for _, change := range []string{
		"touch -h -d @1 symlinks/dangling", "touch -d '2100-01-01 00:00:00.987654320 UTC' times/7", "touch -d @5 .", "chmod 755 owners/suid", "chmod 0711 modes/dir-7777",
		"chown -h 0:1 symlinks/long", "setfattr -h -x trusted.ours xattrs/link", "setfattr -x user.empty xattrs/dir", "setfattr -n user.plain -v valuE xattrs/file",
		"setfacl -b acls/file", "setfacl -k acls/default", "setcap -r xattrs/ping", "ln -f links/c/file links/c/new", "cp -a --remove-destination links/a/file links/c/file",
		"keep many/200 dd if=/dev/zero of=many/200 bs=1 count=1 conv=notrunc", "rm empty/empty -r",
		"keep sparse/all dd if=/dev/zero of=sparse/all bs=64K count=1 seek=3 conv=notrunc", "keep sparse/dense fallocate -p -o 0 -l 65536 sparse/dense",
		"keep sparse/huge dd if=/dev/zero of=sparse/huge bs=1 count=1 conv=notrunc",
		"rm special/block-large && mknod special/block-large b 300 200001", "rm names/new*", "ln -sfn x symlinks/self",
	} {
		now := whole
		l.tool("sh", "-e", "-c", `keep() { file=$1; shift; time=$(stat -c %y $file); "$@"; touch -d "$time" $file; }; cd `+dir+"; "+change)
		if whole = manifest(t, dir, without{}); strings.Join(now, "\n") == strings.Join(whole, "\n") {
			t.Errorf("%s: no fact changed", change)
		}
	}
}
