package userspace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// What a qcow2 begins with (QEMU's docs/interop/qcow2.txt), big-endian.
const (
	qcow2Magic        = 0x514649fb
	qcow2HeaderBytes  = 80
	qcow2Version      = 4  // uint32
	qcow2Backing      = 8  // uint64: where the backing file's name is; 0 is none
	qcow2Encryption   = 32 // uint32
	qcow2Incompatible = 72 // uint64, from version 3 on

	qcow2Dirty        = 1 << 0
	qcow2Corrupt      = 1 << 1
	qcow2ExternalData = 1 << 2
	qcow2Compression  = 1 << 3
	qcow2ExtendedL2   = 1 << 4
)

// checkQcow2 refuses what would have QEMU open further files, which the image names: it
// may come from elsewhere, and could name any file of the node. It reads the header alone,
// before QEMU sees the image.
func checkQcow2(f io.ReaderAt) error {
	head := make([]byte, qcow2HeaderBytes)
	if _, err := f.ReadAt(head, 0); err != nil {
		return fmt.Errorf("not a qcow2: its header can't be read: %w", err)
	}
	if binary.BigEndian.Uint32(head) != qcow2Magic {
		return errors.New("not a qcow2: leave out the format if it is a raw image")
	}
	if v := binary.BigEndian.Uint32(head[qcow2Version:]); v != 2 && v != 3 {
		return fmt.Errorf("qcow2 of version %d, and only 2 and 3 are known: convert it (qemu-img convert -O qcow2)", v)
	}
	if binary.BigEndian.Uint64(head[qcow2Backing:]) != 0 {
		return errors.New("it has a backing file, which the image itself names: make a standalone image of it (qemu-img convert -O qcow2, or qemu-img rebase -b '')")
	}
	if binary.BigEndian.Uint32(head[qcow2Encryption:]) != 0 {
		return errors.New("it is encrypted: decrypt it first (qemu-img convert)")
	}
	if binary.BigEndian.Uint32(head[qcow2Version:]) == 2 {
		return nil
	}
	features := binary.BigEndian.Uint64(head[qcow2Incompatible:])
	switch {
	case features&qcow2ExternalData != 0:
		return errors.New("it has its data in another file, which the image itself names: make a standalone image of it (qemu-img convert -O qcow2)")
	case features&qcow2Corrupt != 0:
		return errors.New("it is marked as corrupt: qemu-img check -r all")
	case features&^(qcow2Dirty|qcow2Compression|qcow2ExtendedL2) != 0:
		return fmt.Errorf("it has features that are not known (%#x): convert it (qemu-img convert -O qcow2)", features)
	}
	return nil
}
