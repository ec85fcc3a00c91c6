//go:build root

package cache

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func shell(t *testing.T, dir, script string) string {
	t.Helper()
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// makeTree fills a folder with everything that a root tree may hold.
func makeTree(t *testing.T, dir string) {
	shell(t, dir, `
umask 022
mkdir -p bin etc/private dev var/empty lost+found mnt sub/lost+found
echo text > etc/plain
ln etc/plain etc/hard1; ln etc/plain bin/hard2
ln -s ../etc/plain bin/link
ln -s "$(printf 'x%.0s' {1..120})" etc/longlink
cp /bin/true bin/ping
setcap cap_net_raw+ep bin/ping
cp /bin/true bin/su; chmod 4755 bin/su; chown 0:8 bin/su
setfacl -m u:1234:r,g:4321:rw etc/plain
setfacl -d -m u:1234:rx etc/private; setfacl -m u:99:x etc/private
setfattr -n user.note -v hello etc/plain
setfattr -n trusted.note -v there var/empty
setfattr -n security.selinux -v label etc/plain
mknod dev/null c 1 3; chmod 666 dev/null; mknod dev/sda b 8 0; mkfifo dev/pipe
truncate -s 100M var/sparse; printf end >> var/sparse
chown -h 1000:1001 bin/link var/sparse
printf 'odd' > $'etc/n\xe4me with \n newline'
mkdir var/deep; chmod 1777 var/deep; chmod 0500 var/empty
mount -t tmpfs none mnt; touch mnt/other-filesystem; echo x > sub/lost+found/kept
find . -xdev -print0 | xargs -0 touch -h -d '2021-03-04 05:06:07.123456789'
touch -h -d '1969-12-31 22:00:00.5' etc/longlink
touch -d '2199-01-01 00:00:00.000000001' etc/private`)
	t.Cleanup(func() { unix.Unmount(filepath.Join(dir, "mnt"), unix.MNT_DETACH) })
}

// describeTree is what tools of others say of a tree.
func describeTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	return map[string]string{
		"find":     shell(t, dir, `find . -xdev -path ./lost+found -prune -o -path ./mnt -prune -o \( -type d -printf '%P %y %m %U:%G %T@\n' -o -printf '%P %y %m %U:%G %s %n %T@ %l\n' \) | LC_ALL=C sort`),
		"devices":  shell(t, dir, `stat -c '%n %F %t:%T' dev/*`),
		"getfattr": shell(t, dir, `find . -xdev -path ./mnt -prune -o -path ./lost+found -prune -o -print0 | LC_ALL=C sort -z | xargs -0 getfattr -h -d -m '^(user|trusted|security.capability|system)'`),
		"getcap":   shell(t, dir, `getcap -r bin`),
		"getfacl":  shell(t, dir, `getfacl -n etc/plain etc/private`),
		"content":  shell(t, dir, `find . -xdev -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum`),
		"links":    shell(t, dir, `test etc/plain -ef etc/hard1 && test etc/plain -ef bin/hard2 && echo one inode`),
	}
}

func TestATreeSurvivesPackingAndUnpacking(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("needs root")
	}
	src, dst := t.TempDir(), t.TempDir()
	makeTree(t, src)
	out, err := os.Create(filepath.Join(t.TempDir(), "tree.tar"))
	must(t, err)
	defer out.Close()
	must(t, Pack(t.Context(), src, out, time.Time{}))
	found, err := scanFile(t.Context(), out)
	must(t, err)
	measured, err := measure(t.Context(), out)
	must(t, err)
	_, err = out.Seek(0, 0)
	must(t, err)
	must(t, (&Entry{File: out}).Unpack(t.Context(), dst))

	want, got := describeTree(t, src), describeTree(t, dst)
	for what, text := range want {
		if got[what] != text {
			t.Errorf("%s differs:\nbefore:\n%s\nafter:\n%s", what, text, got[what])
		}
	}
	if kib := shell(t, dst, `du -k var/sparse | cut -f1`); len(strings.TrimSpace(kib)) > 3 {
		t.Errorf("the sparse file takes %s KiB", kib)
	}
	if label, err := exec.Command("getfattr", "-n", "security.selinux", filepath.Join(dst, "etc/plain")).Output(); err == nil {
		t.Errorf("the node's SELinux label went along: %s", label)
	}
	for _, gone := range []string{"lost+found", "mnt/other-filesystem"} {
		if exists(filepath.Join(dst, gone)) {
			t.Errorf("%s went along", gone)
		}
	}
	countTree(t, dst, found.contentBytes, found.inodes, measured)
}

func number(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	must(t, err)
	return n
}

// countTree compares our estimate with what the tree really takes.
func countTree(t *testing.T, dir string, content, inodes int64, measured sidecar) {
	t.Helper()
	if content != measured.ContentBytes || inodes != measured.Inodes {
		t.Errorf("seeking: %d bytes, %d inodes; reading: %d bytes, %d inodes", content, inodes, measured.ContentBytes, measured.Inodes)
	}
	if really := number(t, shell(t, dir, `find . -printf '%i\n' | sort -u | wc -l`)); really != inodes {
		t.Errorf("%d inodes, really %d", inodes, really)
	}
	if really := number(t, shell(t, dir, `du -sB1 . | cut -f1`)); content < really-8*blockBytes || content > really+8*blockBytes {
		t.Errorf("content %d bytes, du says %d", content, really)
	}
}

func TestABitThatNoSampleSeesEndsTheUnpacking(t *testing.T) {
	s, path := published(t, big(t))
	st, err := os.Stat(path)
	must(t, err)
	m, err := readSidecar(filepath.Join(s.Dir, base+".json"))
	must(t, err)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	at := m.Chunks[3].Offset + chunkBytes + 7 // in a file's data
	bit := make([]byte, 1)
	_, err = f.ReadAt(bit, at)
	must(t, err)
	_, err = f.WriteAt([]byte{bit[0] ^ 4}, at)
	must(t, err)
	must(t, f.Close())
	setTime(t, path, st.ModTime())

	e := get(t, s, noBuild(t), SourceHit) // the samples are right
	err = e.Unpack(t.Context(), t.TempDir())
	if err == nil || !strings.Contains(err.Error(), path+" is damaged") || !strings.Contains(err.Error(), "remove it") || e.Seen != "" {
		t.Errorf("error %v, seen %q", err, e.Seen)
	}
	f, err = os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(bit, at)
	must(t, err)
	must(t, f.Close())
	must(t, e.Unpack(t.Context(), t.TempDir()))
	if e.Seen != e.SHA256 {
		t.Errorf("seen %q, published %q", e.Seen, e.SHA256)
	}
}

func TestOfAnAdminsTarTheDigestIsWhatWasSeen(t *testing.T) {
	s := newStore(t)
	must(t, os.MkdirAll(s.Dir, 0o755))
	admin := filepath.Join(s.Dir, "cache-trixie-amd64.tar")
	must(t, os.WriteFile(admin, append(big(t), make([]byte, 3<<20)...), 0o644)) // tar stops before its end
	e := get(t, s, noBuild(t), SourceAdmin)
	must(t, e.Unpack(t.Context(), t.TempDir()))
	if sum, _, _ := strings.Cut(shell(t, "/", "sha256sum "+admin), " "); e.Seen != sum {
		t.Errorf("seen %q, and sha256sum says %q", e.Seen, sum)
	}
}
