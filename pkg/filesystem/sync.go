package filesystem

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// SyncTree writes out the filesystem that an open folder is on, and closes the folder;
// nil is none. Opened before the first write, it tells of every write-back that failed
// since (syncfs(2)), which umount(2) does in silence.
func SyncTree(top *os.File) error {
	if top == nil {
		return nil
	}
	err := unix.Syncfs(int(top.Fd()))
	if err != nil {
		err = fmt.Errorf("write the guest's data to the disk: %w", err)
	}
	return errors.Join(err, top.Close())
}

// SyncDevice writes out what the kernel holds of a block device.
func SyncDevice(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
