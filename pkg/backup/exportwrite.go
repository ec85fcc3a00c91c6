package backup

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/cell"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/tell"
	"instance-debootstrap/pkg/transport"
)

// What blocks are read in, and what of them is looked at for being zero.
const (
	pieceBytes = 1 << 20
	holeBytes  = 32 << 10
)

// write writes the backup to stdout. A reader that is there but doesn't read holds
// write(2) for ever: when the run is to end, it is not waited for.
func (e *export) write(ctx context.Context) error {
	written := make(chan error, 1)
	go func() { written <- e.writeStream(ctx) }()
	select {
	case err := <-written:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-written:
		return cmp.Or(err, context.Cause(ctx))
	case <-time.After(patience):
		return context.Cause(ctx)
	}
}

// patience is how long the stream's writer has for its own end; tools get 3 s.
const patience = 4 * time.Second

func (e *export) writeStream(ctx context.Context) error {
	if e.fs != "" && e.format == dumpFormat {
		return e.writeDump(ctx)
	}
	if err := e.tellSize(ctx); err != nil {
		return err
	}
	out := bufio.NewWriterSize(e.out, transport.WriteBytes)
	transport.Widen(e.out)
	w, err := transport.NewWriter(out, e.manifest)
	if err != nil {
		return e.blameReader(err)
	}
	switch {
	case e.manifest.Content == "files":
		if err = e.bootAreas(ctx, w.Block); err == nil {
			err = e.writeTree(ctx, w)
		}
	case e.manifest.Content == "blocks" && e.manifest.Holes == "unused":
		if err = e.bootAreas(ctx, w.Block); err == nil {
			err = e.writeParts(ctx, w)
		}
	case e.manifest.Content == "blocks":
		err = readBlocks(ctx, e.disk.File(), 0, e.disk.SizeBytes, true, w.Block)
	}
	if err == nil {
		err = cmp.Or(w.Close(), out.Flush())
	}
	if err != nil {
		return e.blameReader(err)
	}
	tell.Info(ctx, "wrote a backup of %d bytes: %s", w.Written(), describe(e.manifest))
	return nil
}

// writeTree writes the mounted filesystem's files.
func (e *export) writeTree(ctx context.Context, w *transport.Writer) error {
	r, pipe, err := transport.Pipe()
	if err != nil {
		return err
	}
	packed := make(chan error, 1)
	go func() {
		err := transport.OrLoss(ctx, e.onLoss, "the backup", transport.Pack(ctx, e.tree.Dir, pipe, transport.PackOptions{}))
		packed <- cmp.Or(err, pipe.Close())
	}()
	err = w.Tree(r)
	r.Close() // so that tar ends too, if we did not get to its end
	if perr := <-packed; err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		err = cmp.Or(perr, err)
	}
	return err
}

// bootAreas reads what lies before a partition with the filesystem: the boot
// record, the gap, and the partitions that firmware starts from.
func (e *export) bootAreas(ctx context.Context, each func(offset int64, data []byte) error) error {
	return readBlocks(ctx, e.disk.File(), 0, e.root.Offset(), true, each)
}

// readBlocks hands n bytes of a disk at offset to each, in pieces of at most 1
// MiB: all of them, or only what the file has and isn't zero. n is a multiple of
// 512; a file's last, incomplete sector is left out.
func readBlocks(ctx context.Context, f *os.File, offset, n int64, sparse bool, each func(offset int64, data []byte) error) error {
	buf := make([]byte, pieceBytes)
	read := func(at, n int64) error {
		for end := at + n; at < end; {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			piece := buf[:min(end-at, pieceBytes)]
			if got, err := f.ReadAt(piece, at); got < len(piece) {
				return fmt.Errorf("read %d bytes at %d of the disk: only %d came: %w", len(piece), at, got, err)
			}
			if err := eachRun(at, piece, sparse, each); err != nil {
				return err
			}
			at += int64(len(piece))
		}
		return nil
	}
	if !sparse {
		return read(offset, n)
	}
	end := offset + n&^(partition.SectorSize-1)
	return blockdev.DataExtents(f, end, func(at, n int64) error {
		from, to := max(at, offset)&^(partition.SectorSize-1), min((at+n+partition.SectorSize-1)&^(partition.SectorSize-1), end)
		if from >= to {
			return nil
		}
		return read(from, to-from)
	})
}

var zeros = make([]byte, holeBytes)

// eachRun hands over the piece, or the runs of it that aren't zero.
func eachRun(at int64, piece []byte, sparse bool, each func(offset int64, data []byte) error) error {
	if !sparse {
		return each(at, piece)
	}
	for start := 0; start < len(piece); {
		end := start
		for end < len(piece) {
			next := min(end+holeBytes, len(piece))
			if bytes.Equal(piece[end:next], zeros[:next-end]) {
				break
			}
			end = next
		}
		if end > start {
			if err := each(at+int64(start), piece[start:end]); err != nil {
				return err
			}
		}
		start = min(end+holeBytes, len(piece))
	}
	return nil
}

// writeDump has dump(8) write what the shell provider's import reads.
func (e *export) writeDump(ctx context.Context) error {
	if _, err := command.Look("dump"); err != nil {
		return fmt.Errorf("EXPORT_FORMAT=dump: %w: install the package dump, or set EXPORT_FORMAT=tar", err)
	}
	// dump gives a file with the longest name another one, and says nothing.
	long, err := command.OutputIn(ctx, cell.Place{Folder: e.tree.Dir, ReadOnly: true}, "find", e.tree.Dir, "-regextype", "posix-extended", "-regex", ".*/[^/]{255}", "-print", "-quit")
	if err != nil {
		return err
	}
	if long != "" {
		return fmt.Errorf("EXPORT_FORMAT=dump: dump can't hold names of 255 bytes, such as %.60q: set EXPORT_FORMAT=tar", strings.TrimPrefix(long, e.tree.Dir))
	}
	if estimate, err := command.OutputIn(ctx, *e.forDump(), "dump", "-0", "-S", e.part.Device); err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(estimate), 10, 64); err == nil {
			e.putSize(ctx, n)
		}
	}
	if e.acls > 0 {
		tell.Warn(ctx, "EXPORT_FORMAT=dump: %d files and folders have ACLs, the first %.100q, and dump has no room for those of folders: set EXPORT_FORMAT=tar to keep them all", e.acls, e.firstACL)
	}
	lost := transport.Listen("dump", dumpSays)
	// -q: whatever dump would ask the operator ends it. Its children wouldn't end
	// with it while they wait for the reader.
	err = command.Run(ctx, command.Cmd{Args: []string{"dump", "-0", "-q", "-f", "-", e.part.Device}, In: e.forDump(), Stdout: e.out, Quiet: true, Group: true, Line: lost.Line})
	if err == nil {
		err = transport.OrLoss(ctx, e.onLoss, "the backup", lost.Fault())
	}
	return e.blameReader(err)
}

// dumpSays reports whether a line of dump is one that it says of every dump.
func dumpSays(line string) bool {
	said, ok := strings.CutPrefix(line, "  DUMP: ")
	return ok && dumpForms().MatchString(said)
}

var dumpForms = pattern.New(`^(Date (of (this|last) level|this dump completed)|Dumping /|Label: |Writing \d+ Kilobyte records|` +
	`(mapping|dumping) \(Pass |estimated \d+ blocks|Volume \d+ (started|completed|took|transfer rate|begins|\d+ blocks)|Closing |\d+ blocks \(|` +
	`finished in |Average transfer rate|\d+\.\d+% done|Added inode \d+ to exclude list \((journal|resize) inode\)|DUMP IS DONE)`)

// forDump has the two files that dump(8) would warn of if they weren't there.
func (e *export) forDump() *cell.Place {
	return &cell.Place{Disk: e.part.Device, ReadOnly: true, Files: map[string]string{"/etc/fstab": "", "/var/lib/dumpdates": ""}}
}

// tellSize predicts the stream's length: exactly for files and for used blocks;
// of other disks at most as much.
func (e *export) tellSize(ctx context.Context) error {
	if e.size == nil {
		return nil
	}
	n, err := transport.ManifestBytes(e.manifest)
	if err != nil {
		return err
	}
	n += transport.EndBytes
	add := func(_ int64, data []byte) error {
		n += transport.MemberBytes(int64(len(data)))
		return nil
	}
	switch {
	case e.manifest.Content == "files":
		tree, err := transport.PackedBytes(ctx, e.tree.Dir, transport.PackOptions{})
		if err != nil {
			return err
		}
		n += tree
		err = e.bootAreas(ctx, add)
		if err != nil {
			return err
		}
	case e.manifest.Content == "blocks" && e.manifest.Holes == "unused":
		if err := e.bootAreas(ctx, add); err != nil {
			return err
		}
		n += e.imageBytes()
	case e.manifest.Content == "blocks":
		err := blockdev.DataExtents(e.disk.File(), e.disk.SizeBytes, func(_, size int64) error {
			n += size + (size/pieceBytes+1)*transport.MemberBytes(0)
			return nil
		})
		if err != nil {
			return err
		}
	}
	e.putSize(ctx, n)
	return nil
}

// putSize writes the predicted length to EXP_SIZE_FD. It is for Ganeti's
// progress only: that nobody reads it is no reason to fail.
func (e *export) putSize(ctx context.Context, n int64) {
	if e.size == nil {
		return
	}
	if _, err := fmt.Fprintf(e.size, "%d\n", n); err != nil {
		tell.Warn(ctx, "tell the backup's size to EXP_SIZE_FD: %v", err)
	}
	e.size.Close()
	e.size = nil
}

// blameReader says in plain words that the other end of the pipe is gone.
func (e *export) blameReader(err error) error {
	if errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("what reads the backup went away before its end: %w", err)
	}
	return err
}
