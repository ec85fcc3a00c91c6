package cache

import (
	"context"
	"os"

	"instance-debootstrap/pkg/transport"
)

// Pack writes the tree below dir as a tar to out; other filesystems mounted in it
// and a lost+found at its top are left out.
func Pack(ctx context.Context, dir string, out *os.File) error {
	return transport.Pack(ctx, dir, out, transport.PackOptions{Exclude: []string{"./lost+found"}})
}

// Unpack extracts the tar that in is at into dir.
func Unpack(ctx context.Context, in *os.File, dir string) error {
	return transport.Unpack(ctx, in, dir)
}
