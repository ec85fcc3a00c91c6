package backup

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"instance-debootstrap/pkg/cell"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/transport"
)

// restoreDump has restore(8) read a stream of dump(8), which it does into its
// working folder. Its table of what it restored, and its temporary files, are
// not the guest's.
func (r *restore) restoreDump(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	temp := ".restore-" + rand.Text()
	if err := root.Mkdir(temp, 0o700); err != nil {
		return err
	}
	if err := r.runRestore(ctx, dir, filepath.Join(dir, temp)); err != nil {
		return r.blameSize(dir, err)
	}
	top, err := root.Stat(".") // whose time restore has set
	if err != nil {
		return err
	}
	return cmp.Or(root.Remove("restoresymtable"), root.RemoveAll(temp), root.Chtimes(".", top.ModTime(), top.ModTime()))
}

// maxComplaints is how many complaints of restore are listened to. One is a
// failure already, and after a stream that is cut off at some places restore
// complains for ever.
const maxComplaints = 1000

// runRestore feeds restore, and takes its word for nothing: it ends with 0 after
// a stream that was cut off or damaged, and only says so. dump has no digest, so
// damage within a file's data can't be seen.
func (r *restore) runRestore(ctx context.Context, dir, temp string) error {
	pipe, feed, err := os.Pipe()
	if err != nil {
		return err
	}
	looked := &transport.DumpNames{Runs: restoreKnowsRuns(ctx)}
	fed := make(chan error, 1)
	go func() { // what isn't fit for restore ends before it gets there
		_, err := io.Copy(io.MultiWriter(looked, &untilClosed{w: feed}), r.stream.Bytes())
		fed <- cmp.Or(err, feed.Close())
	}()
	lost := transport.Listen("restore", func(string) bool { return false })
	limited, enough := context.WithCancel(ctx)
	defer enough()
	var complaints []string
	count := 0
	out := &command.LineWriter{Emit: func(line string) {
		if harmless(line) {
			return
		}
		if strings.Contains(line, ": EA set ") { // an attribute; the rest of the stream is read on
			lost.Line(line)
			return
		}
		if len(complaints) < 3 {
			complaints = append(complaints, line)
		}
		if count++; count == maxComplaints {
			enough()
		}
	}}
	// -y: nobody is there to be asked.
	err = command.Run(limited, command.Cmd{
		Args: []string{"restore", "-r", "-y", "-T", temp, "-f", "-"}, In: &cell.Place{Folder: dir},
		Dir: dir, Stdin: pipe, Stdout: out, Merge: true, Quiet: true,
	})
	out.Flush()
	pipe.Close()
	if count >= maxComplaints && ctx.Err() == nil {
		err = nil // it is what it said, and not that it was ended
	}
	ferr := <-fed
	err = cmp.Or(err, r.stream.Close())
	switch {
	case ctx.Err() != nil: // of which restore complains, too
		return fmt.Errorf("restore: %w", cmp.Or(err, context.Cause(ctx)))
	case ferr != nil: // restore complains of what it wasn't given
		return ferr
	case len(complaints) > 0:
		return errors.Join(err, fmt.Errorf("restore: the backup is damaged or incomplete, copy it anew: %s", strings.Join(complaints, "; ")))
	case err != nil:
		return fmt.Errorf("restore: %w", err)
	case !looked.Complete():
		return errors.New("the backup is cut off: it does not end as a stream of dump does: copy it anew, whole")
	}
	return transport.OrLoss(ctx, r.set.MetadataLoss, "the new disk", lost.Fault())
}

var oldRestore = pattern.New(`^restore 0\.4b(?:[0-9]|[1-3][0-9]|4[0-8]) `)

// versionTime is more than a tool needs to say its version.
const versionTime = 10 * time.Second

// restoreKnowsRuns tells which way of c_addr (DumpNames) this node's restore reads, by the
// version that it says first when it has no arguments.
func restoreKnowsRuns(ctx context.Context) bool {
	ctx, enough := context.WithTimeout(ctx, versionTime)
	defer enough()
	old := false
	_ = command.Run(ctx, command.Cmd{Args: []string{"restore"}, In: &cell.Place{}, Quiet: true, Line: func(line string) {
		old = old || oldRestore().MatchString(line)
		enough()
	}})
	return !old
}

// harmless reports whether a line of restore is no sign of damage.
func harmless(line string) bool {
	for _, text := range []string{"cannot open /dev/tty", "lost+found: File exists", "skipped socket"} {
		if strings.Contains(line, text) {
			return true
		}
	}
	return strings.TrimSpace(line) == ""
}

// untilClosed writes to a pipe until its reader is gone, and drops the rest.
type untilClosed struct {
	w    io.Writer
	gone bool
}

func (u *untilClosed) Write(p []byte) (int, error) {
	if !u.gone {
		if _, err := u.w.Write(p); err != nil {
			u.gone = true
		}
	}
	return len(p), nil
}
