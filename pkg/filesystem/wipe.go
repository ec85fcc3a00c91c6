package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"instance-debootstrap/pkg/command"
)

// wipeEndBytes is what Wipe zeroes at each end: at the front the MBR, GPT of any
// sector size, LVM2's label and metadata, mdraid 1.1 and 1.2, swap, the
// superblocks of all filesystems; at the back the other GPT, mdraid 0.90 and 1.0
// (within 128 KiB of the end), firmware RAIDs, ZFS's and LVM2's second copies.
const wipeEndBytes = 1 << 20

// wipeCopies are the places, in bytes from the start, of copies that lie
// elsewhere and that a tool may fall back on or a scan may find.
var wipeCopies = []int64{
	64 << 20, 256 << 30, // btrfs superblock mirrors (btrfs(5))
	1 << 20, 2 << 20, 4 << 20, // LUKS2 secondary headers (cryptsetup's LUKS2 on-disk format)
}

// wipeRounds is how often wipefs and blkid are asked; one round is enough for
// all that is known, and the others begin with what wipefs itself erases.
const wipeRounds = 3

// Wipe erases every signature of a partition table, filesystem, RAID, volume
// manager or swap from a block device or file, and the copies of them that
// wipefs(8) leaves. After it blkid -p and wipefs find nothing. It is for the
// whole disk before its table is written, and again for each new partition: what
// lay at the end of the partition wasn't at the end of the disk. All else stays
// on the disk.
//
// The device may be claimed (O_EXCL) or locked (flock) by the caller. What was
// written is on the disk on return.
func Wipe(ctx context.Context, device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("wipe: %w", err)
	}
	defer f.Close()
	sizeBytes, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("wipe %s: %w", device, err)
	}
	for round := range wipeRounds {
		clean, err := wipeOnce(ctx, f, sizeBytes, round > 0)
		if err != nil {
			return fmt.Errorf("wipe %s: %w", device, err)
		}
		if clean {
			return nil
		}
	}
	return fmt.Errorf("wipe %s: signatures come back or can't be erased: %s: is something else writing to it?", device, signatures(ctx, device))
}

// WipeRange is Wipe for a part of a disk, in bytes, that no node leads to yet.
// Only its ends and the places of copies are zeroed, which is where all
// signatures lie that wipefs and blkid know. It doesn't sync.
func WipeRange(disk *os.File, offset, sizeBytes int64) error {
	if err := zeroPlaces(disk, offset, sizeBytes); err != nil {
		return fmt.Errorf("wipe %d bytes at %d: %w", sizeBytes, offset, err)
	}
	return nil
}

// IsWiped tells whether a part of a disk begins as WipeRange leaves it. A filesystem whose
// superblock alone is damaged doesn't.
func IsWiped(disk io.ReaderAt, offset int64) (bool, error) {
	at, err := nonZero(disk, offset, wipeEndBytes)
	return err == nil && at < 0, err
}

// wipeOnce tells whether the device is clean after it. byWipefs is slower, and knows what is
// nowhere else.
func wipeOnce(ctx context.Context, f *os.File, sizeBytes int64, byWipefs bool) (clean bool, err error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if byWipefs {
		// --force: without it wipefs opens the device O_EXCL, and leaves a nested
		// partition table alone.
		if err := command.Run(ctx, command.Cmd{Args: []string{"wipefs", "--all", "--force", f.Name()}, In: writing(f.Name()), Quiet: true}); err != nil {
			return false, err
		}
	}
	if err := zeroPlaces(f, 0, sizeBytes); err != nil {
		return false, err
	}
	if err := f.Sync(); err != nil {
		return false, err
	}
	return isClean(ctx, f.Name())
}

// zeroPlaces zeroes, of a part of a device, both ends and the places of copies.
func zeroPlaces(f *os.File, start, sizeBytes int64) error {
	places := []struct{ offset, n int64 }{{0, wipeEndBytes}, {max(0, sizeBytes-wipeEndBytes), wipeEndBytes}}
	for _, offset := range wipeCopies {
		places = append(places, struct{ offset, n int64 }{offset, 4096})
	}
	for _, p := range places {
		if n := min(p.n, sizeBytes-p.offset); n > 0 {
			if _, err := f.WriteAt(make([]byte, n), start+p.offset); err != nil {
				return err
			}
		}
	}
	return nil
}

// isClean asks both wipefs and blkid, which don't look at the same places, at the same time.
func isClean(ctx context.Context, device string) (bool, error) {
	var out string
	var err error
	var listing sync.WaitGroup
	listing.Go(func() { out, err = look(ctx, device, "wipefs", "--noheadings", "--output", "TYPE,OFFSET") })
	info, probeErr := Probe(ctx, device)
	listing.Wait()
	if err != nil || strings.TrimSpace(out) != "" || errors.Is(probeErr, errAmbiguous) {
		return false, err
	}
	return info == Info{}, probeErr
}
