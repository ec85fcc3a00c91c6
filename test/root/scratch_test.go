//go:build root

package root

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// builtOn has a fake debootstrap tell what filesystem it works on.
func (l *lab) builtOn(before string) string {
	l.Helper()
	seen := filepath.Join(l.TempDir(), "seen")
	l.fakeDebootstrap("0")
	script, err := os.ReadFile(filepath.Join(l.fakes, "debootstrap"))
	must(l, err)
	text := strings.Replace(string(script), `echo "I: Retrieving"`, fmt.Sprintf("type=$(stat -f -c %%T \"$target\"); echo $type >> %s\n%s", seen, before), 1)
	must(l, os.WriteFile(filepath.Join(l.fakes, "debootstrap"), []byte(text), 0o755))
	l.create()
	b, err := os.ReadFile(seen)
	must(l, err)
	l.checkFilesystem("ext4")
	return strings.Join(strings.Fields(string(b)), " ")
}

// plenty tells whether this machine has the memory for a scratch.
func plenty(t *testing.T) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/meminfo")
	must(t, err)
	var kib int64
	_, after, _ := strings.Cut(string(b), "MemAvailable:")
	fmt.Sscan(after, &kib)
	return kib >= 6<<20
}

func TestATreeIsBuiltInMemoryWhereThereIsPlenty(t *testing.T) {
	want := "ext2/ext3"
	if plenty(t) {
		want = "tmpfs"
	}
	if got := newLab(t, 600).builtOn(""); got != want {
		t.Errorf("built on %s, not %s", got, want)
	}
}

func TestOnlyOneTreeAtATimeIsBuiltInMemory(t *testing.T) {
	l := newLab(t, 600)
	lock, err := os.Create(filepath.Join(base, "lock/scratch-in-memory.lock"))
	must(t, err)
	defer lock.Close()
	must(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	if got := l.builtOn(""); got != "ext2/ext3" {
		t.Errorf("built on %s", got)
	}
}

func TestATreeTooLargeForMemoryIsBuiltOnTheDisk(t *testing.T) {
	want := "ext2/ext3"
	if plenty(t) {
		want = "tmpfs ext2/ext3"
	}
	got := newLab(t, 600).builtOn(`if [ "$type" = tmpfs ]; then size=$(stat -f -c '%a' "$target"); fallocate -l $((size * 4096 - 1000000)) "$target/much"; exit 1; fi`)
	if got != want {
		t.Errorf("built on %s, not %s", got, want)
	}
}
