package filesystem

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/pattern"
)

// Repair does to a filesystem what the guest's own boot would do before it is
// mounted: e2fsck -p for ext*, which replays the journal, checks in full what
// is marked unclean and mends what is safe to mend; damage that needs a decision
// is an error. xfs and btrfs have nothing of the kind: their kernel code replays
// their logs.
func Repair(ctx context.Context, device string, t Type) error { return repair(ctx, device, t, "-p") }

// RepairForeign is Repair for a filesystem that came from elsewhere: it is checked
// in full, whatever it says of itself. xfs and btrfs are checked only: damage is
// an error. Of an xfs whose log has to be replayed first nothing can be said: only
// a mount does that.
func RepairForeign(ctx context.Context, device string, t Type) error {
	switch t {
	case XFS:
		err := check(ctx, device, "xfs_repair", "-n")
		if errors.Is(err, errLog) {
			return nil
		}
		return err
	case Btrfs:
		return check(ctx, device, "btrfs", "check", "--readonly")
	}
	return repair(ctx, device, t, "-fp")
}

// CheckInFull looks at all of an unmounted filesystem before a kernel mounts it,
// whatever it says of itself. Of ext* it mends what is safe to mend, unless readOnly;
// what is left, any damage to an xfs or btrfs, and an xfs whose log has to be replayed
// first are errors.
func CheckInFull(ctx context.Context, device string, t Type, readOnly bool) error {
	switch {
	case t == XFS:
		return check(ctx, device, "xfs_repair", "-n")
	case t == Btrfs || !readOnly:
		return RepairForeign(ctx, device, t)
	}
	fault, err := firstFaultOfExt(ctx, device)
	if err == nil && fault != "" {
		err = fmt.Errorf("check the filesystem: e2fsck found faults in it; the first: %s: %s", pattern.Quote(fault), Remedy)
	}
	return err
}

// Remedy is what to do about a guest's filesystem that is damaged.
const Remedy = `have its guest check it, or see "A damaged filesystem" in the admin guide`

// errLog says that nothing can be said of an xfs before its log is replayed.
var errLog = errors.New("check the filesystem: its log has to be replayed first, which only a mount does: start the guest and shut it down properly")

// check runs a tool that changes nothing. xfs_repair -n ignores a log that isn't
// empty, and what it then finds means nothing: that is errLog.
func check(ctx context.Context, device string, args ...string) error {
	replay, last := false, ""
	lines := &command.LineWriter{Emit: func(line string) {
		replay = replay || strings.Contains(line, "valuable metadata changes in a log")
		if line = strings.TrimSpace(line); line != "" {
			last = line
		}
	}}
	err := command.Run(ctx, command.Cmd{Args: append(args, device), In: reading(device), Stdout: lines, Merge: true, Quiet: true})
	lines.Flush()
	switch {
	case context.Cause(ctx) != nil:
		return context.Cause(ctx)
	case replay:
		return errLog
	case err == nil:
		return nil
	case command.ExitStatus(err) == 1, args[0] == "btrfs" && command.ExitStatus(err) > 0: // a finding, as their man pages say
		return &damaged{tool: args[0]}
	case last != "": // it couldn't look, and says nothing of the filesystem
		return fmt.Errorf("check the filesystem: %w: %s", err, pattern.Quote(last))
	}
	return fmt.Errorf("check the filesystem: %w", err)
}

// damaged is what a tool finds of a filesystem.
type damaged struct{ tool string }

func (d *damaged) Error() string {
	return fmt.Sprintf("check the filesystem: %s finds it damaged: %s", d.tool, Remedy)
}

// FirstFault looks at all of a filesystem, and returns the first thing that e2fsck(8)
// would mend, or that xfs_repair(8) or btrfs-check(8) finds it damaged; "" is a
// filesystem whose own account can be relied on. Nothing is changed. The device may be
// mounted, if nobody writes to it.
func FirstFault(ctx context.Context, device string, t Type) (string, error) {
	var err error
	switch t {
	case XFS:
		err = check(ctx, device, "xfs_repair", "-n")
	case Btrfs:
		err = check(ctx, device, "btrfs", "check", "--readonly", "--force") // though it is mounted
	default:
		return firstFaultOfExt(ctx, device)
	}
	var found *damaged
	switch {
	case errors.As(err, &found):
		return fmt.Sprintf("%s finds it damaged", found.tool), nil
	case errors.Is(err, errLog):
		return "its log has to be replayed", nil
	}
	return "", err
}

func firstFaultOfExt(ctx context.Context, device string) (string, error) {
	fault := ""
	lines := &command.LineWriter{Emit: func(line string) {
		line = strings.TrimSpace(line)
		heading := line == "" || strings.HasPrefix(line, "Pass ") || strings.HasPrefix(line, "Warning") || strings.HasPrefix(line, "e2fsck ")
		if fault == "" && !heading {
			fault = line
		}
	}}
	err := command.Run(ctx, command.Cmd{Args: []string{"e2fsck", "-fn", device}, In: reading(device), Stdout: lines, Quiet: true})
	lines.Flush()
	switch {
	case context.Cause(ctx) != nil:
		return "", context.Cause(ctx)
	case err == nil:
		return "", nil
	case command.ExitStatus(err) < 0:
		return "", fmt.Errorf("check the filesystem: %w", err)
	case fault == "":
		return err.Error(), nil
	}
	return fault, nil
}

func repair(ctx context.Context, device string, t Type, how string) error {
	if t == XFS || t == Btrfs {
		return nil
	}
	err := command.Run(ctx, command.Cmd{Args: []string{"e2fsck", how, device}, In: writing(device), Quiet: true})
	// e2fsck(8): 1 is errors corrected, 2 corrected and a reboot is due, which
	// is for mounted filesystems; from 4 on something is left.
	if status := command.ExitStatus(err); status == 1 || status == 2 {
		return nil
	}
	var failed *command.Error
	if errors.As(err, &failed) && failed.Err != nil && context.Cause(ctx) == nil && command.ExitStatus(err) >= 4 {
		return fmt.Errorf("check the filesystem: e2fsck can't repair it without asking (%s): %s", whatStopped(failed.Tail), Remedy)
	}
	if err != nil {
		return fmt.Errorf("check the filesystem: %w", err)
	}
	return nil
}

// whatStopped is, of e2fsck's last lines, the one that it can't go on after: what it
// has mended stands before.
func whatStopped(lines []string) string {
	said := ""
	for _, line := range lines {
		if strings.Contains(line, "UNEXPECTED INCONSISTENCY") {
			break
		}
		if strings.TrimSpace(line) != "" {
			said = line
		}
	}
	return pattern.Quote(said)
}
