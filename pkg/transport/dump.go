package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// What protocols/dumprestore.h says of a stream of dump(8): it is made of records of
// 1024 bytes. A header has these fields, in the writer's byte order; its words add up
// to dumpSum. Behind it come c_count records of data, but for those that are zero in
// c_addr, which are holes; the maps of inodes have all of theirs. dump 0.4b49 has runs in c_addr
// instead, of records with data or of holes, in c_count bytes: see dataRecords.
const (
	dumpRecord = 1024
	dumpMagic  = 60012 // NFS_MAGIC
	dumpSum    = 84446 // CHECKSUM
	dumpAddrs  = 512   // TP_NINDIR

	atDumpInode = 20
	atDumpMagic = 24
	atDumpMode  = 32 // of the dinode
	atDumpSize  = 40
	atDumpCount = 160
	atDumpAddr  = 164
	atDumpFlags = 888

	dumpTape, dumpInode, dumpBits, dumpAddr, dumpEnd, dumpClri = 1, 2, 3, 4, 5, 6 // TS_*

	dumpNewInodes  = 0x0002 // DR_NEWINODEFMT
	dumpCompressed = 0x0080 // DR_COMPRESSED
	dumpAttributes = 0x8000 // DR_EXTATTRIBUTES

	dirBlock      = 512 // a folder's entries don't cross these
	dirEntryBytes = 8   // inode, length, type, length of the name
)

// DumpNames looks at a stream of dump(8) while it goes by to restore(8), which believes
// what it reads: at the headers, and at the names in folders. An error is given before
// what it is about is written on, as long as the two are written the same pieces.
type DumpNames struct {
	Runs    bool // restore takes what is in c_addr for runs
	order   binary.ByteOrder
	part    []byte // of a record
	records int64
	data    int64 // records of data still to come
	folder  *dumpFolder
	plain   uint32 // the inode of the last folder itself, whose attributes may follow
	ended   bool
}

// dumpFolder is a folder whose entries are read.
type dumpFolder struct {
	inode uint32
	left  int64 // bytes
	count int64 // entries
}

// Complete reports whether the stream has ended as a dump does.
func (d *DumpNames) Complete() bool { return d.ended && len(d.part) == 0 }

// Write is an error as soon as the stream isn't one that restore may read.
func (d *DumpNames) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(dumpRecord-len(d.part), len(rest))
		d.part, rest = append(d.part, rest[:n]...), rest[n:]
		if len(d.part) < dumpRecord {
			break
		}
		if err := d.record(d.part); err != nil {
			return 0, fmt.Errorf("the backup's record %d: %w", d.records, err)
		}
		d.records++
		d.part = d.part[:0]
	}
	return len(p), nil
}

func (d *DumpNames) record(r []byte) error {
	if d.data > 0 {
		d.data--
		return d.entries(r)
	}
	return d.header(r)
}

var errDumpHeader = errors.New("a dump header is missing where there should be one: the backup is damaged")

func (d *DumpNames) header(r []byte) error {
	if d.order == nil {
		if d.order = binary.LittleEndian; d.order.Uint32(r[atDumpMagic:]) != dumpMagic {
			d.order = binary.BigEndian
		}
	}
	var sum uint32
	for at := 0; at < dumpRecord; at += 4 {
		sum += d.order.Uint32(r[at:])
	}
	if sum != dumpSum || d.order.Uint32(r[atDumpMagic:]) != dumpMagic {
		return errDumpHeader
	}
	kind, flags := d.order.Uint32(r), d.order.Uint32(r[atDumpFlags:])
	switch {
	case (kind == dumpTape) != (d.records == 0):
		return fmt.Errorf("a header of type %d: the backup is damaged, or one volume of several", kind)
	case kind == dumpTape && flags&dumpCompressed != 0:
		return errors.New("dump compressed it itself, so the names in it can't be checked: run dump without -j, -y and -z, and compress the whole stream with gzip, zstd, xz, bzip2 or lz4")
	case kind == dumpTape && flags&dumpNewInodes == 0:
		return errors.New("it was made by a dump older than 4.4BSD, which isn't supported")
	case d.ended && kind != dumpEnd:
		return errors.New("there is data after its end")
	}
	count := d.order.Uint32(r[atDumpCount:])
	switch kind {
	case dumpTape:
	case dumpEnd:
		d.ended = true
	case dumpBits, dumpClri:
		d.folder, d.plain, d.data = nil, 0, int64(count)
	case dumpInode, dumpAddr:
		if count > dumpAddrs {
			return errDumpHeader
		}
		var err error
		if d.data, err = d.dataRecords(r[atDumpAddr : atDumpAddr+count]); err != nil {
			return err
		}
		if kind == dumpInode {
			return d.inode(r, flags)
		}
	default:
		return fmt.Errorf("a header of the unknown type %d", kind)
	}
	return nil
}

// dataRecords is how many records of data follow a header. Of a run's byte, bit 0 says whether it
// is of data, and bits 1 to 6 have how many there are beside the first; with bit 7, the next byte
// and one have how many more times 64. (By what dump 0.4b49 writes.) Single records are the same
// in both ways.
func (d *DumpNames) dataRecords(addr []byte) (n int64, err error) {
	for len(addr) > 0 {
		run := addr[0]
		addr = addr[1:]
		if run > 1 && !d.Runs {
			return 0, errors.New("a newer dump has made it (0.4b49, of Debian 13) than this node's restore can read: import it on a node that has that")
		}
		records := int64(run>>1&63) + 1
		if run&0x80 != 0 {
			if len(addr) == 0 {
				return 0, errDumpHeader
			}
			records += 64 * (int64(addr[0]) + 1)
			addr = addr[1:]
		}
		if run&1 != 0 {
			n += records
		}
	}
	return n, nil
}

// inode begins a file or a folder. A folder's attributes, which have its mode too, are
// known by coming right behind it; whatever else has a folder's mode is read as one.
func (d *DumpNames) inode(r []byte, flags uint32) error {
	d.folder = nil
	number, isFolder := d.order.Uint32(r[atDumpInode:]), d.order.Uint16(r[atDumpMode:])&0o170000 == 0o040000
	if flags&dumpAttributes != 0 && number == d.plain {
		return nil
	}
	d.plain = 0
	if !isFolder {
		return nil
	}
	d.plain = number
	size := int64(d.order.Uint64(r[atDumpSize:]))
	if size < 0 || size%dirBlock != 0 {
		return fmt.Errorf("folder %d has %d bytes: the backup is damaged", number, size)
	}
	d.folder = &dumpFolder{inode: number, left: size}
	return nil
}

// entries looks at a record of data, of which only folders' matter.
func (d *DumpNames) entries(r []byte) error {
	f := d.folder
	if f == nil {
		return nil
	}
	for ; len(r) > 0 && f.left > 0; f.left -= dirBlock {
		if err := d.block(f, r[:dirBlock]); err != nil {
			return fmt.Errorf("folder %d: %w", f.inode, err)
		}
		r = r[dirBlock:]
	}
	return nil
}

func (d *DumpNames) block(f *dumpFolder, b []byte) error {
	for len(b) > 0 {
		if len(b) < dirEntryBytes {
			return errDumpEntry
		}
		length, nameLen := int(d.order.Uint16(b[4:])), int(b[7])
		// A name ends with a zero, and is filled up to four bytes with more.
		if length%4 != 0 || length < dirEntryBytes+(nameLen+4)&^3 || length > len(b) {
			return errDumpEntry
		}
		name := b[dirEntryBytes : dirEntryBytes+nameLen]
		if nameLen == 0 && d.order.Uint32(b) == 0 { // unused
			b = b[length:]
			continue
		}
		if hasNUL(name) || b[dirEntryBytes+nameLen] != 0 {
			return errDumpEntry
		}
		if err := f.name(name); err != nil {
			return err
		}
		b = b[length:]
	}
	return nil
}

var errDumpEntry = errors.New("an entry that can't be read: the backup is damaged")

// name refuses what leads out of a folder. The first two entries are the folder and
// the one above it, which restore passes over by their place.
func (f *dumpFolder) name(name []byte) error {
	f.count++
	switch {
	case f.count == 1 && string(name) == "." || f.count == 2 && string(name) == "..":
		return nil
	case f.count <= 2:
		return fmt.Errorf("entry %d is named %.100q: the backup is damaged", f.count, name)
	case len(name) == 0 || string(name) == "." || string(name) == ".." || bytes.IndexByte(name, '/') >= 0:
		return fmt.Errorf("the name %.300q leads out of it", name)
	}
	return nil
}
