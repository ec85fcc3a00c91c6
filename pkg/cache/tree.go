package cache

import (
	"context"
	"fmt"
	"os"

	"instance-debootstrap/pkg/transport"
)

// Pack writes the tree below dir as a tar to out; other filesystems mounted in it
// and a lost+found at its top are left out.
func Pack(ctx context.Context, dir string, out *os.File) error {
	return transport.Pack(ctx, dir, out, transport.PackOptions{Exclude: []string{"./lost+found"}})
}

// Unpack extracts the entry's tar into dir and sets Seen. What tar is given is
// digested on the way: samples alone, which are compared at every use, don't see a
// single bit. A tar that isn't the one that was published is an error. Losses are
// those of transport.Unpack.
func (e *Entry) Unpack(ctx context.Context, dir string) error {
	e.Seen = ""
	if _, err := e.File.Seek(0, 0); err != nil {
		return err
	}
	seen, err := transport.UnpackDigested(ctx, e.File, dir)
	if seen == "" {
		return err
	}
	if e.SHA256 != "" && seen != e.SHA256 {
		return fmt.Errorf("cache entry %s is damaged: its sha256 is %s, and %s was published: remove it, so that it is built anew, and see to the disk that it is on", e.Path, seen, e.SHA256)
	}
	e.Seen = seen
	return err
}
