//go:build root

package libvirt

import (
	"encoding/binary"
	"os"
	"strings"
)

// qcow2 is the header of an image of version 2 (docs/interop/qcow2.txt in QEMU), as a
// guest may write it to the beginning of its raw disk.
func qcow2(sizeBytes uint64, backing string) []byte {
	h := make([]byte, 1024)
	copy(h, "QFI\xfb")
	binary.BigEndian.PutUint32(h[4:], 2)
	if backing != "" {
		binary.BigEndian.PutUint64(h[8:], 104)
		binary.BigEndian.PutUint32(h[16:], uint32(len(backing)))
		copy(h[104:], backing)
	}
	binary.BigEndian.PutUint32(h[20:], 16) // bits of a cluster
	binary.BigEndian.PutUint64(h[24:], sizeBytes)
	return h
}

// volumeIsWhatItsFileIs: libvirt looks at the first bytes of a volume for its format and
// size, and at what they name as data and backing files.
func (l lab) volumeIsWhatItsFileIs() {
	volume := pool + "/web1-data1"
	guestWrites := func(head []byte) {
		l.Helper()
		f, err := os.OpenFile(volume, os.O_WRONLY, 0)
		if err != nil {
			l.Fatal(err)
		}
		if _, err := f.WriteAt(head, 0); err != nil {
			l.Fatal(err)
		}
		f.Close()
		l.try("virsh", "-q", "pool-refresh", "default")
	}
	size := func(path string) int64 {
		l.Helper()
		st, err := os.Stat(path)
		if err != nil {
			l.Fatal(err)
		}
		return st.Size()
	}
	grows := func(to string, want int64) {
		l.Helper()
		said := l.tool("sh", "-c", program+" vm grow --disk data1 --size "+to+" web1 2>&1")
		if got := size(volume); got != want || !strings.Contains(said, "what is on it is the guest's to grow") {
			l.Errorf("it has %d bytes, not %d, and the command says\n%s", got, want, said)
		}
	}
	// The whole of a real image whose data are in another file, of somebody else.
	const victim = "/srv/victim"
	l.tool("truncate", "-s", "1M", victim)
	l.tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file="+victim+",data_file_raw=on", "/srv/crafted", "1M")
	crafted, err := os.ReadFile("/srv/crafted")
	if err != nil {
		l.Fatal(err)
	}
	guestWrites(crafted)
	grows("160M", 160<<20)
	if got := size(victim); got != 1<<20 {
		l.Errorf("the other file has %d bytes", got)
	}
	for name, head := range map[string][]byte{
		"a size of 2 MiB":                        qcow2(2<<20, ""),
		"a size of 15 TiB":                       qcow2(15<<40, ""),
		"the largest size":                       qcow2(1<<64-1, ""),
		"a backing file with control characters": qcow2(1<<20, "\x01\xff<\x1b[2J>"),
		"a backing file of the node's":           qcow2(1<<20, "/etc/shadow"),
		"a long name of a backing file":          qcow2(1<<20, strings.Repeat("b", 900)),
	} {
		guestWrites(head)
		if show := l.vm("show", "web1"); !strings.Contains(show, "data1: "+volume+" (160 MiB, pool default)") {
			l.Errorf("%s: show says\n%s", name, show)
		}
		l.fails("is only made larger", program, "vm", "grow", "--disk", "data1", "--size", "140M", "web1")
		grows("160M", 160<<20)
	}
	grows("+32M", 192<<20)
	os.Remove(victim)
	os.Remove("/srv/crafted")
}
