package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/cell"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/tell"
)

// treeFlags are GNU tar's options on both sides. POSIX ACLs and file
// capabilities travel as raw extended attributes: with --acls, those in an
// archive that was written without it would be lost. SELinux labels are the
// node's, not the guest's.
var treeFlags = []string{"--xattrs", "--xattrs-include=*", "--xattrs-exclude=security.selinux", "--numeric-owner"}

func packArgs(dir string, exclude []string) []string {
	args := append([]string{"tar"}, treeFlags...)
	args = append(args, "--create", "--format=posix", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime", "--sort=name", "--sparse", "--anchored", "--no-wildcards")
	for _, name := range exclude {
		args = append(args, "--exclude="+name)
	}
	return append(args, "--directory="+dir)
}

// WriteBytes is how much of small files and headers is best written at once.
const WriteBytes = 256 << 10

// recordsPerWrite has tar read and write 256 KiB at once, instead of 10.
const recordsPerWrite = "--blocking-factor=512"

// pipeBytes is what a pipe to or from tar holds: the most that a kernel gives
// without being told (fs.pipe-max-size).
const pipeBytes = 1 << 20

// Pipe returns a pipe that holds more than the 64 KiB that pipes have by
// themselves, where the kernel lets it.
func Pipe() (r, w *os.File, err error) {
	if r, w, err = os.Pipe(); err == nil {
		Widen(w)
	}
	return r, w, err
}

// Widen has a pipe hold more; anything else stays as it is.
func Widen(f *os.File) { _, _ = unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, pipeBytes) }

// Through has sink read, by a pipe, what source writes. Where that ends too early, the error
// is source's.
func Through(source, sink func(pipe *os.File) error) error {
	written, read := Piped(source, sink)
	if read == nil || errors.Is(read, io.ErrUnexpectedEOF) {
		return cmp.Or(written, read)
	}
	return read
}

// Piped is Through with both errors.
func Piped(source, sink func(pipe *os.File) error) (written, read error) {
	r, w, err := Pipe()
	if err != nil {
		return err, nil
	}
	ended := make(chan error, 1)
	go func() { ended <- cmp.Or(source(w), w.Close()) }()
	read = sink(r)
	r.Close() // so that source ends too, if sink did not get to its end
	return <-ended, read
}

// Pack writes the tree below dir as a tar to out: sorted by name, sparse files
// as such, without what is mounted in it. A *LossError is a tar that is whole but for what couldn't be read of the files'
// attributes.
func Pack(ctx context.Context, dir string, out io.Writer) error {
	return PackAsOf(ctx, dir, out, time.Time{})
}

// PackAsOf is Pack without the names, from its top (./lost+found), that are excluded, and with no
// file later than that time, unless it is zero.
func PackAsOf(ctx context.Context, dir string, out io.Writer, latest time.Time, exclude ...string) error {
	args := packArgs(dir, exclude)
	if !latest.IsZero() {
		args = append(args, fmt.Sprintf("--mtime=@%d", latest.Unix()), "--clamp-mtime")
	}
	return pack(ctx, dir, out, append(args, "."))
}

// PackNames is Pack of what these absolute paths of the tree lead to.
func PackNames(ctx context.Context, dir string, out io.Writer, paths, mounts []string) error {
	args := packArgs(dir, nil)
	for _, path := range paths {
		args = append(args, "."+path)
	}
	shown := map[string]string{}
	for _, mount := range mounts {
		shown[mount] = mount
	}
	return packIn(ctx, &cell.Place{Folder: dir, ReadOnly: true, Shown: shown}, out, args)
}

func pack(ctx context.Context, dir string, out io.Writer, args []string) error {
	return packIn(ctx, &cell.Place{Folder: dir, ReadOnly: true}, out, args)
}

func packIn(ctx context.Context, in *cell.Place, out io.Writer, args []string) error {
	args = slices.Insert(args, 1, "--file=-", recordsPerWrite)
	lost := Listen("tar", packHarmless...)
	if err := command.Run(ctx, command.Cmd{Args: args, In: in, Stdout: out, Quiet: true, Line: lost.Line}); err != nil {
		return fmt.Errorf("pack %s: %w", in.Folder, err)
	}
	return lost.Fault()
}

var totals = pattern.New(`Total bytes written: (\d+)`)

// PackedBytes returns what the members that Pack writes take, without the end
// of the archive. No file is read for it: GNU tar leaves that out when its
// archive is /dev/null.
func PackedBytes(ctx context.Context, dir string, exclude ...string) (int64, error) {
	args := append(packArgs(dir, exclude), "--file=/dev/null", "--totals", "--blocking-factor=1", ".")
	var said string
	lines := &command.LineWriter{Emit: func(line string) {
		if m := totals().FindStringSubmatch(line); m != nil {
			said = m[1]
		}
	}}
	if err := command.Run(ctx, command.Cmd{Args: args, In: &cell.Place{Folder: dir, ReadOnly: true}, Stdout: lines, Merge: true, Quiet: true}); err != nil {
		return 0, fmt.Errorf("measure %s: %w", dir, err)
	}
	lines.Flush()
	n, err := strconv.ParseInt(said, 10, 64)
	if err != nil || n < 2*recordBytes {
		return 0, errors.New("measure " + dir + ": tar printed no total")
	}
	return n - 2*recordBytes, nil
}

// Unpack extracts a tar into dir, with owners, modes, times and extended
// attributes as they were. After a *LossError all is there but some of these.
func Unpack(ctx context.Context, in io.Reader, dir string) error {
	args := append([]string{"tar"}, treeFlags...)
	args = append(args, "--extract", "--file=-", recordsPerWrite, "--read-full-records", "--same-owner", "--same-permissions", "--warning=no-timestamp", "--directory="+dir)
	lost := Listen("tar", unpackHarmless...)
	if err := command.Run(ctx, command.Cmd{Args: args, In: &cell.Place{Folder: dir}, Stdin: in, Quiet: true, Line: lost.Line}); err != nil {
		return fmt.Errorf("unpack into %s: %w", dir, err)
	}
	return lost.Fault()
}

// UnpackDigested is Unpack of a file to its end, and returns the SHA-256 of all that
// was in it, in hexadecimal digits; "" is a file that wasn't read to its end.
func UnpackDigested(ctx context.Context, in *os.File, dir string) (sha256 string, err error) {
	sum, amount := newDigest(), &tell.Amount{What: "unpacked", TotalBytes: fileBytes(in)}
	read, err := Piped(func(w *os.File) error { return sum.feed(ctx, amount.Reader(ctx, in), w) }, func(r *os.File) error { return Unpack(ctx, r, dir) })
	if read != nil {
		return "", fmt.Errorf("read %s: %w", in.Name(), read)
	}
	return sum.hex(), err
}
