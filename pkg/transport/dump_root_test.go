//go:build root

package transport

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dumped is a stream that dump(8) made of a filesystem with a large folder, deep ones,
// attributes, ACLs, holes and links.
func dumped(t *testing.T, options string) []byte {
	t.Helper()
	dir := t.TempDir()
	shell(t, dir, `truncate -s 64M f; dev=$(losetup --show -f f); trap "cd /; umount $PWD/m 2>/dev/null || :; losetup -d $dev" EXIT
mke2fs -q -F -t ext4 $dev; mkdir m; mount $dev m; cd m; mkdir -p a/b/c many victim
for i in {1..900}; do : > many/a-name-of-some-length-$i; done
for i in {1..300}; do rm many/a-name-of-some-length-$((i * 3)); done
head -c 3M /dev/zero > a/zeros; truncate -s 40M a/hole; echo end >> a/hole; ln a/hole a/b/hard; ln -s hole a/soft; mkfifo a/pipe
setfattr -n user.note -v "$(printf '%0500d' 0)" a a/b/c many a/zeros; setfacl -m u:1:r a/zeros; setfacl -d -m u:1:rx a/b; touch "$(printf '%0254d' 0)"
cd ..; umount m; dump -0 -q `+options+` -f stream $dev >/dev/null 2>&1; chmod 644 stream`)
	b, err := os.ReadFile(filepath.Join(dir, "stream"))
	must(t, err)
	return b
}

// patched has other bytes in the first place that has the old ones.
func patched(t *testing.T, b []byte, old, now string) []byte {
	t.Helper()
	at := bytes.Index(b, []byte(old))
	if at < 0 || len(now) > len(old) {
		t.Fatalf("%q is not there", old)
	}
	b = bytes.Clone(b)
	copy(b[at:], now)
	return b
}

func TestNamesInADumpThatLeadOutAreRefused(t *testing.T) {
	b := dumped(t, "")
	for _, piece := range []int{len(b), 1000, 1024, 32 << 10} {
		d, err := look(b, piece)
		must(t, err)
		if !d.Complete() {
			t.Error("not complete")
		}
	}
	// An entry: inode, length, type, length of the name, the name.
	const many, victim = "\x04\x04many\x00\x00", "\x04\x06victim\x00\x00"
	for name, c := range map[string]struct{ old, now, want string }{
		"..":             {many, "\x04\x02..\x00\x00\x00\x00", `".."`},
		".":              {many, "\x04\x01.\x00\x00\x00\x00\x00", `"."`},
		"a way":          {victim, "\x04\x06../etc\x00\x00", `"../etc"`},
		"absolute":       {many, "\x04\x04/etc\x00\x00", `"/etc"`},
		"nothing":        {many, "\x04\x00\x00any\x00\x00", "leads out"},
		"a zero in it":   {many, "\x04\x04..\x00y\x00\x00", "can't be read"},
		"without end":    {victim, "\x04\x06victimxx", "can't be read"},
		"longer":         {many, "\x04\xff", "can't be read"},
		"not .. first":   {"\x0c\x00\x04\x02..\x00\x00", "\x0c\x00\x04\x02.x\x00\x00", "entry 2"},
		"in a later one": {"a-name-of-some-length-898", "../../../../../../etc/cro", "leads out"},
	} {
		_, err := look(patched(t, b, c.old, c.now), 1<<15)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, at := range []int{0, 3 << 10, len(b) / 2, len(b) - 3<<10} {
		cut, err := look(b[:at], 1<<15)
		if err == nil && cut.Complete() {
			t.Errorf("cut off after %d bytes, and complete", at)
		}
	}
}

// TestAFolderThatCallsItselfAttributesIsLookedAt: its flag is one that restore doesn't
// ask for where a folder begins.
func TestAFolderThatCallsItselfAttributesIsLookedAt(t *testing.T) {
	b := patched(t, dumped(t, ""), "\x04\x04many\x00\x00", "\x04\x02..\x00\x00\x00\x00")
	for at := 0; at < len(b); at += dumpRecord {
		h := b[at : at+dumpRecord]
		if binary.LittleEndian.Uint32(h[atDumpMagic:]) == dumpMagic && binary.LittleEndian.Uint32(h) == dumpInode {
			flags := binary.LittleEndian.Uint32(h[atDumpFlags:])
			binary.LittleEndian.PutUint32(h[atDumpFlags:], flags|dumpAttributes)
			sum := binary.LittleEndian.Uint32(h[28:]) // c_checksum
			binary.LittleEndian.PutUint32(h[28:], sum-(flags|dumpAttributes)+flags)
			break
		}
	}
	if _, err := look(b, 1<<15); err == nil || !strings.Contains(err.Error(), "leads out") {
		t.Errorf("error %v", err)
	}
}

func TestADumpThatDumpCompressedIsRefused(t *testing.T) {
	if _, err := look(dumped(t, "-z"), 1<<15); err == nil || !strings.Contains(err.Error(), "can't be checked") {
		t.Errorf("error %v", err)
	}
}
