package filesystem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The header of a swap area with pages of 4 KiB (union swap_header of
// linux/swap.h): little endian, 32 bits each.
const (
	swapPageBytes      = 4096
	swapVersionOffset  = 1024
	swapLastPageOffset = 1028
	swapBadPagesOffset = 1032
	swapMagic          = "SWAPSPACE2" // at the end of the first page
)

// SwapSize returns the size in bytes of a swap area, by its own header.
func SwapSize(r io.ReaderAt) (int64, error) {
	var page [swapPageBytes]byte
	if _, err := r.ReadAt(page[:], 0); err != nil {
		return 0, fmt.Errorf("read the swap area's header: %w", err)
	}
	word := func(offset int) uint32 { return binary.LittleEndian.Uint32(page[offset:]) }
	switch {
	case string(page[swapPageBytes-len(swapMagic):]) != swapMagic || word(swapVersionOffset) != 1:
		return 0, errors.New("the swap area is not one of version 1, little endian, with pages of 4 KiB")
	case word(swapBadPagesOffset) != 0:
		return 0, errors.New("the swap area has bad pages")
	}
	return (int64(word(swapLastPageOffset)) + 1) * swapPageBytes, nil
}

// GrowSwap makes a swap area, one that SwapSize can read, as large as its disk of
// sizeBytes. All else in it stays: the change is one number, which is written whole
// or not at all.
func GrowSwap(w io.WriterAt, sizeBytes int64) error {
	last := min(sizeBytes/swapPageBytes-1, 1<<32-1)
	if _, err := w.WriteAt(binary.LittleEndian.AppendUint32(nil, uint32(last)), swapLastPageOffset); err != nil {
		return fmt.Errorf("write the swap area's header: %w", err)
	}
	return nil
}
