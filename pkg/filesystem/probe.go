package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/pattern"
)

// Info is what blkid finds on a device; every field is "" where it finds nothing.
type Info struct {
	Type, UUID, Label string
	PTType            string // kind of partition table: dos, gpt, …
	Usage             string // filesystem, raid, crypto, other
}

// String names what was found, for a message: "ext4 (label root)", "a gpt
// partition table", or "nothing known".
func (i Info) String() string {
	var parts []string
	if i.Type != "" {
		name := i.Type
		if i.Label != "" {
			name += fmt.Sprintf(" (label %s)", pattern.Plain(i.Label))
		} else if i.UUID != "" {
			name += fmt.Sprintf(" (UUID %s)", pattern.Plain(i.UUID))
		}
		parts = append(parts, name)
	}
	if i.PTType != "" {
		parts = append(parts, "a "+i.PTType+" partition table")
	}
	if len(parts) == 0 {
		return "nothing known"
	}
	return strings.Join(parts, " and ")
}

// blkid's exit statuses, blkid(8).
const (
	blkidNothing    = 2
	blkidAmbivalent = 8
)

// Probe reads from the device itself, never from blkid's cache, what is on it.
// A blank device is a zero Info and no error. A device on which several things
// are found that exclude each other is an error that names them.
func Probe(ctx context.Context, device string) (Info, error) { return probe(ctx, device, 0, 0) }

// ProbeAt reads what is on a part of a device, in bytes.
func ProbeAt(ctx context.Context, device string, offset, sizeBytes int64) (Info, error) {
	return probe(ctx, device, offset, sizeBytes, fmt.Sprintf("--offset=%d", offset), fmt.Sprintf("--size=%d", sizeBytes))
}

// endBytes are what blkid looks for signatures in, at each end of what it is given.
const endBytes = 1 << 20

// readEnds reads both ends of a part of a device, or, without a size, of all of it.
func readEnds(f *os.File, offset, sizeBytes int64) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if sizeBytes == 0 {
		sizeBytes = end - offset
	}
	n := max(0, min(endBytes, sizeBytes))
	for _, at := range []int64{offset, offset + sizeBytes - n} {
		if _, err := io.Copy(io.Discard, io.NewSectionReader(f, at, n)); err != nil {
			return err
		}
	}
	return nil
}

func probe(ctx context.Context, device string, offset, sizeBytes int64, part ...string) (Info, error) {
	f, err := os.Open(device)
	if err != nil {
		return Info{}, fmt.Errorf("probe: %w", err)
	}
	defer f.Close()
	args := append([]string{"blkid", "-p", "-o", "export"}, part...)
	out, err := look(ctx, device, args...)
	switch command.ExitStatus(err) {
	case blkidNothing: // which it says of what it can't read, too
		if err := readEnds(f, offset, sizeBytes); err != nil {
			return Info{}, fmt.Errorf("probe: %w", err)
		}
		return Info{}, nil
	case blkidAmbivalent:
		return Info{}, fmt.Errorf("probe %s: %w: %s: wipe what is left over (wipefs)", device, errAmbiguous, signatures(ctx, device))
	}
	if err != nil {
		return Info{}, fmt.Errorf("probe %s: %w", device, err)
	}
	i, err := parseExport(out)
	if err != nil {
		return Info{}, fmt.Errorf("probe %s: %w", device, err)
	}
	return i, nil
}

// exportName is how blkid -o export calls a value.
var exportName = pattern.New(`^[A-Z][A-Z0-9_]*$`)

var errAmbiguous = errors.New("ambiguous, there is more than one thing on it")

func parseExport(out string) (i Info, err error) {
	fields := map[string]*string{"TYPE": &i.Type, "UUID": &i.UUID, "LABEL": &i.Label, "PTTYPE": &i.PTType, "USAGE": &i.Usage}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
		if name != "" && !exportName().MatchString(name) {
			return Info{}, fmt.Errorf("blkid printed %s, which is no NAME=VALUE: install the package util-linux again", pattern.Quote(line))
		}
		if field := fields[name]; field != nil {
			*field = unescape(value)
		}
	}
	return i, nil
}

// unescape undoes the backslashes of -o export before what a shell would
// interpret. Bytes given as \xHH stay as they are.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && s[i+1] != 'x' {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// signatures lists what wipefs finds, as "ext4 at 0x438, gpt at 0x200".
func signatures(ctx context.Context, device string) string {
	out, err := look(ctx, device, "wipefs", "--noheadings", "--output", "TYPE,OFFSET")
	if err != nil {
		return err.Error()
	}
	var found []string
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 2 {
			found = append(found, f[0]+" at "+f[1])
		}
	}
	return strings.Join(found, ", ")
}
