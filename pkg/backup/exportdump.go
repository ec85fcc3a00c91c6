package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/cell"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/tell"
	"instance-debootstrap/pkg/transport"
)

// lookForDump says why there can be no dump on this node.
func lookForDump() error {
	if _, err := command.Look("dump"); err != nil {
		return fmt.Errorf("EXPORT_FORMAT=dump: %w: install the package dump, or set EXPORT_FORMAT=tar", err)
	}
	return nil
}

// writeDump has dump(8) write what the shell provider's import reads.
func (e *export) writeDump(ctx context.Context, tree *guestdisk.Tree) error {
	// dump gives a file with the longest name another one, and says nothing.
	long, err := command.OutputIn(ctx, cell.Place{Folder: tree.Dir, ReadOnly: true}, "find", tree.Dir, "-regextype", "posix-extended", "-regex", ".*/[^/]{255}", "-print", "-quit")
	if err != nil {
		return err
	}
	if long != "" {
		return fmt.Errorf("EXPORT_FORMAT=dump: dump can't hold names of 255 bytes, such as %.60q: set EXPORT_FORMAT=tar", strings.TrimPrefix(long, tree.Dir))
	}
	if estimate, err := command.OutputIn(ctx, *forDump(tree.Device), "dump", "-0", "-S", tree.Device); err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(estimate), 10, 64); err == nil {
			e.putSize(ctx, n)
		}
	}
	found, err := transport.Survey(ctx, tree.Dir)
	if err != nil {
		return err
	}
	if found.ACLs > 0 {
		tell.Warn(ctx, "EXPORT_FORMAT=dump: %d files and folders have ACLs, the first %.100q, and dump can't store those of folders: set EXPORT_FORMAT=tar to keep them all", found.ACLs, found.FirstACL)
	}
	lost := transport.Listen("dump", dumpSays)
	// -q: whatever dump would ask the operator ends it. Its children wouldn't end
	// with it while they wait for the reader.
	err = command.Run(ctx, command.Cmd{Args: []string{"dump", "-0", "-q", "-f", "-", tree.Device}, In: forDump(tree.Device), Stdout: e.out, Quiet: true, Group: true, Line: lost.Line})
	if err == nil {
		err = transport.OrLoss(ctx, e.set.MetadataLoss, "the backup", lost.Fault())
	}
	return blameReader(whatDumpMeant(err))
}

// whatDumpMeant is dump's failure without what it says of every dump, which is most of its
// last lines. That its reader has gone it tells in words, of several processes at a time.
func whatDumpMeant(err error) error {
	var failed *command.Error
	if !errors.As(err, &failed) {
		return err
	}
	if slices.ContainsFunc(failed.Tail, func(line string) bool { return strings.HasSuffix(line, "Broken pipe") }) {
		return fmt.Errorf("dump: %w", unix.EPIPE)
	}
	failed.Tail = slices.DeleteFunc(failed.Tail, dumpSays)
	return err
}

// dumpSays reports whether a line of dump is one that it says of every dump.
func dumpSays(line string) bool {
	said, ok := strings.CutPrefix(line, "  DUMP: ")
	return ok && dumpForms().MatchString(said)
}

var dumpForms = pattern.New(`^(Date (of (this|last) level|this dump completed)|Dumping /|Label: |Writing \d+ Kilobyte records|` +
	`(mapping|dumping) \(Pass |estimated \d+ blocks|Volume \d+ (started|completed|took|transfer rate|begins|\d+ blocks)|Closing |\d+ blocks \(|` +
	`finished in |Average transfer rate|\d+\.\d+% done|Added inode \d+ to exclude list \((journal|resize) inode\)|DUMP IS DONE)`)

// forDump has the two files that dump(8) would warn of if they weren't there.
func forDump(device string) *cell.Place {
	return &cell.Place{Disk: device, ReadOnly: true, Files: map[string]string{"/etc/fstab": "", "/var/lib/dumpdates": ""}}
}
