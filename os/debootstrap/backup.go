package debootstrap

import (
	"context"
	"os"

	"instance-debootstrap/pkg/backup"
	"instance-debootstrap/pkg/install"
	"instance-debootstrap/pkg/session"
)

// Export writes a backup of the instance's disk that Ganeti names to out; size, when it
// isn't nil, is told the stream's length in bytes before it begins.
func Export(ctx context.Context, s *session.Session, o *install.Order, out, size *os.File) error {
	return onDisks(ctx, s, o, false, func(o *install.Order) error {
		return s.Do(ctx, backup.ExportSteps(s, o.Request, o.Settings, out, size))
	})
}

// Import reads a backup of one disk from in, and makes the disk of it.
func Import(ctx context.Context, s *session.Session, o *install.Order, in *os.File) error {
	return onDisks(ctx, s, o, false, func(o *install.Order) error {
		return backup.Import(ctx, s, o.Request, o.Settings, in)
	})
}
