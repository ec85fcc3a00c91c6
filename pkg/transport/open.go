// Package transport reads and writes the streams that an instance's disks
// travel in between nodes.
//
// Ours is a POSIX tar (pax(1), ustar with extended headers) that standard tools
// open. Its members, in this order:
//
//	.instance-debootstrap/manifest.json   a Manifest, at most 64 KiB
//	.instance-debootstrap/disk/OFFSET     bytes of the disk; OFFSET is 16 hex digits, in bytes
//	.instance-debootstrap/zero/OFFSET     how many bytes of it are zero, 16 hex digits and a newline (format 2)
//	./...                                 content "files": what GNU tar made of the filesystem
//	.instance-debootstrap/sha256          SHA-256 of all bytes before this member's header, in hex
//
// Blocks are whole sectors of 512 bytes, at most MaxBlock, in order, without
// overlap, and so are zeros, of any length. With content "files" blocks are what
// lies before the filesystem's partition, and there are no zeros; with "blocks" both
// are the disk, and what none covers is zero or doesn't matter; "swap" has neither.
// After two records of zeros only zeros follow.
//
// Others' streams are told by their first bytes. Nothing in a stream is trusted:
// what it makes us hold in memory is bounded, whatever it says.
package transport

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"instance-debootstrap/pkg/cell"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/tell"
)

// Kind is what a stream is.
type Kind string

// The kinds.
const (
	Ours Kind = "a backup of ours"
	Tar  Kind = "a tar"
	Dump Kind = "a stream of dump"
	Raw  Kind = "a raw disk image"
)

// headBytes is how much of a stream is looked at: up to btrfs's superblock.
const headBytes = 128 << 10

// Stream is a backup that is being read.
type Stream struct {
	Kind        Kind
	Compression string   // the tool that undoes it; "" is none
	Manifest    Manifest // of Ours

	r      *bufio.Reader
	input  io.Reader // the process's own, under a decompressor
	ended  chan error
	cancel context.CancelFunc
	pipe   *os.File
}

// oneThread is for xz, whose newer versions decompress the blocks of a stream by as many
// threads as the node has processors, each with a dictionary: what one stream takes in
// its cell must not depend on the node.
const oneThread = "-T1"

// decompressors are the tools for what a compressed stream begins with, and their
// packages.
var decompressors = []struct{ magic, tool, pkg string }{
	{"\x1f\x8b", "gzip", "gzip"},
	{"\x28\xb5\x2f\xfd", "zstd", "zstd"},
	{"\xfd7zXZ\x00", "xz", "xz-utils"},
	{"BZh", "bzip2", "bzip2"},
	{"\x04\x22\x4d\x18", "lz4", "lz4"},
	{"\x02\x21\x4c\x18", "lz4", "lz4"}, // the format of the kernel's images
}

// Open looks at the first bytes of a stream and says what it is, from no more than
// which it is judged: until it returns nothing is known of the rest. One layer of
// compression is undone by the tool's own program. An empty stream, and one that is nothing
// we know, are errors.
func Open(ctx context.Context, in io.Reader) (*Stream, error) {
	amount := &tell.Amount{What: "read", TotalBytes: fileBytes(in)}
	s := &Stream{input: in, r: bufio.NewReaderSize(amount.Reader(ctx, in), headBytes)}
	head, err := s.peek()
	if err != nil {
		return nil, err
	}
	for _, d := range decompressors {
		if !bytes.HasPrefix(head, []byte(d.magic)) {
			continue
		}
		if err := s.decompress(ctx, d.tool, d.pkg); err != nil {
			return nil, err
		}
		if head, err = s.peek(); err != nil {
			return nil, cmp.Or(s.Close(), err) // empty, because it couldn't be decompressed?
		}
		break // of several layers only the first is undone
	}
	if s.Kind = detect(head); s.Kind == "" {
		s.Close()
		if what, remedy := foreign(head); what != "" {
			return nil, fmt.Errorf("the backup is %s, which import doesn't read: %s", what, remedy)
		}
		return nil, fmt.Errorf("the backup is not in a format that import knows (it begins with %x): it must be a tar, a stream of dump or a disk image, plain or compressed once with gzip, zstd, xz, bzip2 or lz4", head[:min(16, len(head))])
	}
	if s.Kind == Ours {
		if s.Manifest, err = readManifest(s.r); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// fileBytes is what a file has to be read; 0 isn't known.
func fileBytes(in io.Reader) int64 {
	if f, ok := in.(*os.File); ok {
		if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
			return st.Size()
		}
	}
	return 0
}

func (s *Stream) peek() ([]byte, error) {
	head, err := s.r.Peek(headBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the backup: %w", err)
	}
	if len(head) == 0 {
		return nil, errors.New("the backup is empty: most likely its export failed")
	}
	return head, nil
}

// decompress puts a tool between us and the rest of the stream.
func (s *Stream) decompress(ctx context.Context, tool, pkg string) error {
	if _, err := command.Look(tool); err != nil {
		return fmt.Errorf("the backup is compressed with %s: %w: install the package %s", tool, err, pkg)
	}
	out, pipe, err := os.Pipe()
	if err != nil {
		return err
	}
	ctx, s.cancel = context.WithCancel(ctx)
	from, args := s.r, []string{tool, "-dc"}
	if tool == "xz" {
		args = append(args, oneThread)
	}
	s.Compression, s.r, s.pipe, s.ended = tool, bufio.NewReaderSize(out, headBytes), out, make(chan error, 1)
	go func() {
		err := command.Run(ctx, command.Cmd{Args: args, In: &cell.Place{}, Stdin: from, Stdout: pipe, Quiet: true})
		pipe.Close()
		s.ended <- err
	}()
	return nil
}

// Close ends the decompressor. After the stream was read to its end the error is
// the decompressor's own: it found the stream cut off or damaged.
func (s *Stream) Close() error {
	if s.ended == nil {
		return nil
	}
	_, end := s.r.Peek(1)
	if !errors.Is(end, io.EOF) {
		s.cancel()
	}
	s.pipe.Close()
	err := <-s.ended
	s.cancel()
	s.ended = nil
	if errors.Is(end, io.EOF) && err != nil {
		return fmt.Errorf("decompress the backup: %w", err)
	}
	return nil
}

// Bytes gives all bytes of a raw image or dump.
func (s *Stream) Bytes() io.Reader { return s.r }

// magics tell a raw disk image, by what stands at an offset.
var magics = []struct {
	offset int
	text   string
}{
	{510, "\x55\xaa"},          // a boot record
	{512, "EFI PART"},          // a GPT without one
	{0x438, "\x53\xef"},        // ext2, ext3, ext4
	{0, "XFSB"},                // xfs
	{0x10040, "_BHRfS_M"},      // btrfs
	{4086, "SWAPSPACE2"},       // swap, pages of 4 KiB
	{512, "LABELONE"},          // LVM2, in the second sector
	{0, "LUKS\xba\xbe"},        // LUKS
	{4096, "\xfc\x4e\x2b\xa9"}, // mdraid 1.2
}

// has tells whether a text stands at an offset.
func has(head []byte, offset int, text string) bool {
	return len(head) >= offset+len(text) && string(head[offset:offset+len(text)]) == text
}

// detect says what a stream begins like; "" is nothing known.
func detect(head []byte) Kind {
	if len(head) >= recordBytes {
		if _, _, err := parseHeader(head[:recordBytes]); err == nil && head[0] != 0 {
			if text(head[:100]) == manifestName {
				return Ours
			}
			return Tar
		}
	}
	if len(head) >= dumpRecord {
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			if magic := order.Uint32(head[24:]); magic == 60012 || magic == 60011 {
				return Dump // protocols/dumprestore.h: NFS_MAGIC, OFS_MAGIC
			}
		}
	}
	if what, _ := foreign(head); what != "" {
		return ""
	}
	for _, m := range magics {
		if has(head, m.offset, m.text) {
			return Raw
		}
	}
	return ""
}

// foreigners are formats that are clearly none of a backup, and what makes one of them.
var foreigners = []struct {
	offset              int
	magic, what, remedy string
}{
	{0, "QFI\xfb", "a qcow2 image", toRaw},
	{0, "KDMV", "a VMDK image of VMware", toRaw},
	{0, "COWD", "a VMDK image of VMware", toRaw},
	{0, "# Disk DescriptorFile", "a VMDK's descriptor, whose data are in other files", toRaw},
	{0x40, "\x7f\x10\xda\xbe", "a VDI image of VirtualBox", toRaw},
	{0, "conectix", "a VHD image", toRaw},
	{0, "vhdxfile", "a VHDX image", toRaw},
	{0, "PK\x03\x04", "a zip archive", "take out what is in it (unzip -p FILE), and import that"},
	{0, "7z\xbc\xaf\x27\x1c", "a 7z archive", "take out what is in it (7z x -so FILE), and import that"},
	{0, "hsqs", "a squashfs", "make a tar of it (sqfs2tar FILE), and import that"},
	{0, "!<arch>\n", "an ar archive, such as a .deb", "it is no system to import"},
	{32769, "CD001", "an ISO image of a CD", "it is no disk; have the guest boot from it (gnt-instance start -H cdrom_image_path=FILE,boot_order=cdrom NAME)"},
}

const toRaw = "make a raw image of it (qemu-img convert -O raw FILE disk.raw), and import that"

// foreign names what a stream is that begins like none of ours, and what is to be done
// about it; "" is nothing known.
func foreign(head []byte) (what, remedy string) {
	for _, f := range foreigners {
		if has(head, f.offset, f.magic) {
			return f.what, f.remedy
		}
	}
	return "", ""
}

// readManifest looks at the first member without taking it from the stream.
func readManifest(r *bufio.Reader) (Manifest, error) {
	head, _ := r.Peek(recordBytes)
	kind, size, err := parseHeader(head)
	if err != nil || kind != '0' || size > maxManifest {
		return Manifest{}, fmt.Errorf("the backup's manifest: type %q, %d bytes: want a file of at most %d: copy it anew", kind, size, maxManifest)
	}
	head, err = r.Peek(recordBytes + int(size))
	if err != nil {
		return Manifest{}, &cutOff{int64(len(head)), io.ErrUnexpectedEOF}
	}
	return ParseManifest(head[recordBytes:])
}
