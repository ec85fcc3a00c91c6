package guest

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// SwapFile is where the guest has its swap file.
const SwapFile = "/swapfile"

// zeroChunkBytes is what is written at a time.
const zeroChunkBytes = 1 << 20

// MakeZeros makes a new file of sizeBytes, root's alone, each block of which is
// written: a swap file may have neither holes nor blocks that are only reserved, which
// some kernels take for holes (swapon(8)).
func (r *Root) MakeZeros(ctx context.Context, name string, sizeBytes int64) error {
	if err := r.makeZeros(ctx, name, sizeBytes); err != nil {
		return fail("make", name, err)
	}
	return nil
}

func (r *Root) makeZeros(ctx context.Context, name string, sizeBytes int64) (err error) {
	dir, base, err := r.parent(name)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	fd, err := unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Chown(0, 0); err != nil {
		return err
	}
	chunk := make([]byte, zeroChunkBytes)
	for left := sizeBytes; left > 0; left -= int64(len(chunk)) {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		chunk = chunk[:min(int64(len(chunk)), left)]
		if _, err := f.Write(chunk); err != nil {
			return err
		}
	}
	return nil
}
