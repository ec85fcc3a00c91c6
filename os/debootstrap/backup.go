package debootstrap

import (
	"context"
	"os"

	"instance-debootstrap/pkg/backup"
	"instance-debootstrap/pkg/install"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/transport"
	"instance-debootstrap/pkg/userspace"
)

// Export writes a backup of the instance's disk that Ganeti names to out; size, when it
// isn't nil, is told the stream's length in bytes before it begins.
func Export(ctx context.Context, s *session.Session, o *install.Order, out, size *os.File) error {
	return onDisks(ctx, s, o, false, func(o *install.Order) error {
		return s.Do(ctx, backup.ExportSteps(s, o.Request, o.Settings, beside(ctx, s, o.Request), out, size))
	})
}

// Import reads a backup of one disk from in, and makes the disk of it.
func Import(ctx context.Context, s *session.Session, o *install.Order, in *os.File) error {
	return onDisks(ctx, s, o, false, func(o *install.Order) error {
		// The guest that is there ends with the first write, whatever becomes of the backup's.
		begins := func() { install.ForgetReceipt(ctx, o.Request.InstanceName, o.Request.InstanceUUID) }
		return backup.Import(ctx, s, o.Request, o.Settings, beside(ctx, s, o.Request), in, begins)
	})
}

// beside looks at the instance's other disks. Those that have a URI only are opened for that
// moment, and left to whoever works on them.
func beside(ctx context.Context, s *session.Session, req *osapi.Request) []transport.Sibling {
	return backup.Beside(ctx, req, func(d osapi.Disk, look func(path string)) error {
		if d.Path != "" {
			return backup.ByPath(d, look)
		}
		source, err := userspace.Parse(d.URI, userspace.Raw)
		if err != nil {
			return err
		}
		return source.Glance(ctx, s, look)
	})
}
