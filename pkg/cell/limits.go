package cell

import (
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A tool's limits grow with what it works on: a nearly full ext4 of 16 TiB takes
// e2fsck some 10 GiB and hours.
const (
	baseMemory = 2 << 30 // bytes, of addresses
	baseTime   = 20 * time.Minute
	// servesMemory is for the stacks of up to a hundred threads too.
	servesMemory = 3 << 30
	// noCore, in bytes, also keeps the kernel from starting the node's own program for core
	// dumps (core(5), "Piping core dumps to a program").
	noCore    = 1
	bytesPerS = 4 << 20 // of what there is to work on, for each further second of CPU
)

// limit bounds a tool that has just been started; what it did in the first
// moment counts too. That it is gone already is no error.
func limit(pid int, n needs, p Place) {
	size := max(p.Bytes, diskBytes(p))
	memory := uint64(baseMemory)
	if n.serves {
		memory = servesMemory
	}
	if n.memoryShare > 0 {
		memory += uint64(size / n.memoryShare)
	}
	seconds := uint64(baseTime/time.Second) + uint64(size/bytesPerS)
	if n.passes {
		seconds = unix.RLIM_INFINITY
	}
	files := n.fileBytes
	if files == 0 {
		files = unix.RLIM_INFINITY
	}
	if n.unnamed {
		files = memory
	}
	var st unix.Stat_t
	if p.Disk != "" && !n.serves && unix.Stat(p.Disk, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
		files = uint64(st.Size) // an image file doesn't grow
	}
	for which, most := range map[int]uint64{unix.RLIMIT_AS: memory, unix.RLIMIT_CPU: seconds, unix.RLIMIT_FSIZE: files, unix.RLIMIT_CORE: noCore} {
		_ = unix.Prlimit(pid, which, &unix.Rlimit{Cur: most, Max: most}, nil)
	}
}

// diskBytes is the size of the disk, or else of the filesystem that the folder is on.
func diskBytes(p Place) int64 {
	if p.Disk != "" {
		f, err := os.Open(p.Disk)
		if err != nil {
			return 0
		}
		defer f.Close()
		size, _ := f.Seek(0, io.SeekEnd)
		return size
	}
	var st unix.Statfs_t
	if p.Folder == "" || unix.Statfs(p.Folder, &st) != nil {
		return 0
	}
	return int64(st.Blocks) * int64(st.Bsize)
}
