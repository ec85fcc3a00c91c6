package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// What IsBlankOrSwap reads of a device on which blkid finds nothing.
const (
	blankHeadBytes   = 4 << 20
	blankTailBytes   = 1 << 20
	blankSamples     = 256
	blankSampleBytes = 64 << 10
)

// IsBlankOrSwap reports whether a device may become swap without loss: it is
// swap already, or blank. what names what is on it, for a message.
//
// Blank is a device on which blkid finds nothing and that reads as zero at
// every place looked at: its first 4 MiB, its last MiB, and 256 samples of 64
// KiB evenly over it (all of it up to about 16 MiB). So data without any
// signature, such as a database's own volume, a lost partition table or a disk
// that was never cleared, isn't blank; only small data far from the ends of an
// otherwise empty disk can be missed. A hibernated system (swsuspend) isn't swap.
func IsBlankOrSwap(ctx context.Context, device string) (ok bool, what string, err error) {
	info, err := Probe(ctx, device)
	if err != nil {
		return false, "", err
	}
	if info.Type == "swap" && info.PTType == "" {
		return true, "swap", nil
	}
	if info != (Info{}) {
		return false, info.String(), nil
	}
	offset, err := firstData(device)
	if err != nil {
		return false, "", fmt.Errorf("look for data on %s: %w", device, err)
	}
	if offset == 0 && beginsAsQcow2(device) {
		return false, "what " + asQcow2, nil
	}
	if offset >= 0 {
		return false, fmt.Sprintf("data of an unknown kind (at byte %d)", offset), nil
	}
	return true, "blank", nil
}

const asQcow2 = "begins as an image of QEMU's does (--format qcow2, if that is what it is)"

// WrongSize says of a disk that is refused for its size what may be the matter: a qcow2
// image that is taken for a raw one has the size of what was written to it.
func WrongSize(device string, reason error) error {
	if beginsAsQcow2(device) {
		return fmt.Errorf("%w; it "+asQcow2, reason)
	}
	return reason
}

// beginsAsQcow2 looks for the magic number of a qcow2 image. It is no more than a hint: any
// guest can write it to its disk.
func beginsAsQcow2(device string) bool {
	f, err := os.Open(device)
	if err != nil {
		return false
	}
	defer f.Close()
	magic := make([]byte, 4)
	_, err = f.ReadAt(magic, 0)
	return err == nil && string(magic) == "QFI\xfb"
}

// firstData returns the offset of a byte that isn't zero among the samples, or -1.
func firstData(device string) (int64, error) {
	f, err := os.Open(device)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	sizeBytes, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	for _, p := range blankPlaces(sizeBytes) {
		if offset, err := nonZero(f, p.offset, p.n); offset >= 0 || err != nil {
			return offset, err
		}
	}
	return -1, nil
}

type blankPlace struct{ offset, n int64 } // in bytes

// blankPlaces are what is read of a device to find it blank. The last may reach beyond it.
func blankPlaces(sizeBytes int64) []blankPlace {
	places := []blankPlace{{0, blankHeadBytes}, {max(0, sizeBytes-blankTailBytes), blankTailBytes}}
	step := max(sizeBytes/blankSamples/4096*4096, blankSampleBytes)
	for at := step; at < sizeBytes; at += step {
		places = append(places, blankPlace{at, blankSampleBytes})
	}
	return places
}

// BlankAgain makes a device one that IsBlankOrSwap finds blank, as it was before a
// filesystem was begun on it that isn't there.
func BlankAgain(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	sizeBytes, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	for _, p := range blankPlaces(sizeBytes) {
		if _, err := f.WriteAt(make([]byte, min(p.n, sizeBytes-p.offset)), p.offset); err != nil {
			return err
		}
	}
	return f.Sync()
}

// nonZero returns the offset of the first byte that isn't zero among n at
// offset, or -1. The device may end before.
func nonZero(f io.ReaderAt, offset, n int64) (int64, error) {
	buf := make([]byte, n)
	got, err := f.ReadAt(buf, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return -1, err
	}
	for i, b := range buf[:got] {
		if b != 0 {
			return offset + int64(i), nil
		}
	}
	return -1, nil
}
