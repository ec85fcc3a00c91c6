package settings

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"instance-debootstrap/pkg/pattern"
)

// LayoutLine is what one line of a file of LAYOUT asks for: a partition, or a subvolume
// of the partition that an earlier line has made.
type LayoutLine struct {
	Line       int   // in the file
	Disk       int   // of the instance, by its index
	Bytes      int64 // 0 is the rest of the disk
	Filesystem string
	Folder     string // where it is mounted; "" of swap
	Subvolume  string // of a btrfs, that the folder is in; "" is none
	// Of is the line of the partition that a line without a size is a subvolume of; 0 is that
	// it has a partition of its own.
	Of int
}

var layoutName = pattern.New(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// CheckLayoutName takes what an OS parameter may say: a path is for the node's own files.
func CheckLayoutName(v string) error {
	if !layoutName().MatchString(v) {
		return errors.New("must be the name of a file in the settings' folder layouts, or none")
	}
	return nil
}

func checkLayout(v string) error {
	if strings.HasPrefix(v, "/") {
		return checkPath(v)
	}
	return CheckLayoutName(v)
}

// rootTypes are the filesystems that are made.
var rootTypes = []string{"ext2", "ext3", "ext4", "xfs", "btrfs"}

// layoutForm is how a line is written, for messages.
const layoutForm = "DISK SIZE FILESYSTEM FOLDER, such as \"0 4G ext4 /var\", or DISK SIZE swap, or DISK SIZE btrfs FOLDER SUBVOLUME"

// ParseLayout reads a file of LAYOUT. All faults are in the one error, each with its file
// and line.
func ParseLayout(file, text string) (lines []LayoutLine, err error) {
	var faults []error
	number := 0
	for line := range strings.Lines(text) {
		number++
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		l, err := parseLayoutLine(fields)
		if err == nil && fields[1] == shares {
			l.Of, err = l.partitionAbove(lines)
		}
		if err == nil {
			err = l.checkAfter(lines)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s:%d: %w", file, number, err))
			continue
		}
		l.Line = number
		lines = append(lines, l)
	}
	if len(faults) == 0 && !slices.ContainsFunc(lines, func(l LayoutLine) bool { return l.Folder == "/" }) {
		faults = append(faults, fmt.Errorf("%s: no line is for the root: add one, such as \"0 rest ext4 /\"", file))
	}
	return lines, errors.Join(faults...)
}

// maxDisks is how many disks Ganeti gives an instance (constants.MAX_DISKS).
const maxDisks = 16

// shares is the size of a line that is a subvolume of the partition above.
const shares = "-"

func parseLayoutLine(fields []string) (l LayoutLine, err error) {
	isSwap := len(fields) == 3 && fields[2] == "swap"
	if len(fields) != 4 && len(fields) != 5 && !isSwap {
		return l, fmt.Errorf("%q: a line is %s", strings.Join(fields, " "), layoutForm)
	}
	if l.Disk, err = strconv.Atoi(fields[0]); err != nil || l.Disk < 0 || l.Disk >= maxDisks {
		return l, fmt.Errorf("%q is not a disk's number, from 0 on: a line is %s", fields[0], layoutForm)
	}
	switch size := fields[1]; {
	case size == shares && len(fields) < 5:
		return l, errors.New("- in place of a size is for a subvolume of the btrfs above, whose name comes last: have it be like \"0 - btrfs /home @home\", or give a size")
	case size == shares && fields[3] == "/":
		return l, errors.New("the root must be in the line of its partition, with the size: exchange the two")
	case size != shares && size != "rest":
		if l.Bytes = sizeBytes(size); l.Bytes == 0 {
			return l, fmt.Errorf("%q is not a size: a whole number with M, G or T, such as 512M, or rest, or - for a subvolume of the btrfs above", size)
		}
	}
	l.Filesystem = fields[2]
	if isSwap {
		return l, nil
	}
	if l.Filesystem == "swap" {
		return l, fmt.Errorf("%q: swap has no folder: leave the word out", fields[3])
	}
	if !slices.Contains(rootTypes, l.Filesystem) {
		return l, fmt.Errorf("filesystem %q: must be one of %s, or swap, which has no folder", l.Filesystem, strings.Join(rootTypes, ", "))
	}
	l.Folder = fields[3]
	if err = checkLayoutFolder(l.Folder, fields[1] == shares); err == nil && len(fields) == 5 {
		l.Subvolume = fields[4]
		err = l.checkSubvolume()
	}
	return l, err
}

var subvolumeName = pattern.New(`^[A-Za-z0-9@_][A-Za-z0-9@._-]*$`)

func (l LayoutLine) checkSubvolume() error {
	switch {
	case l.Filesystem != "btrfs":
		return fmt.Errorf("%q: %s has no subvolumes: leave the word out, or have it be btrfs", l.Subvolume, l.Filesystem)
	case !subvolumeName().MatchString(l.Subvolume) || len(l.Subvolume) > 255:
		return fmt.Errorf("%q is not a subvolume's name: letters, digits and @ . _ -, such as @home", l.Subvolume)
	}
	return nil
}

// onRoot matches what a guest boots with, which must be on its root; what the kernel
// provides; and where the EFI system partition is mounted, which every layout has by itself.
var onRoot = pattern.New(`^/(((bin|etc|lib|lib32|lib64|libx32|sbin|dev|proc|run|sys)|boot/efi|efi)(/|$)|usr$|usr/(bin|lib|lib32|lib64|libx32|sbin|share|libexec)(/|$)|boot/)`)

// maxPartitionName is how many characters a gpt has for a partition's name, which is its folder.
const maxPartitionName = 36

func checkLayoutFolder(folder string, isSubvolume bool) error {
	switch {
	case strings.HasPrefix(folder, "/") && path.Clean(folder) != folder:
		return fmt.Errorf("folder %q: must be written as %s", folder, path.Clean(folder))
	case !strings.HasPrefix(folder, "/") || strings.ContainsAny(folder, "\\\"'\x00"):
		return fmt.Errorf("folder %q: must be an absolute path, such as /var", folder)
	case onRoot().MatchString(folder):
		return fmt.Errorf("folder %s: a guest boots with what is there, so it must be on its root: leave the line out", folder)
	case strings.ContainsFunc(folder, func(r rune) bool { return r < ' ' || r > '~' }):
		return fmt.Errorf("folder %s: must be of characters of ASCII, as a partition's name is", folder)
	case len(folder) > maxPartitionName && !isSubvolume:
		return fmt.Errorf("folder %s: is the partition's name too, for which there is room for %d characters", folder, maxPartitionName)
	}
	return nil
}

// maxLayoutBytes is more than any disk has.
const maxLayoutBytes = 1 << 60

// maxPartitions are those of a disk beside what its firmware starts from.
const maxPartitions = 13

// partitionAbove is the line of the partition that a line without a size is a subvolume of.
func (l LayoutLine) partitionAbove(lines []LayoutLine) (line int, err error) {
	var above LayoutLine
	for _, before := range lines {
		if before.Disk == l.Disk && before.Of == 0 {
			above = before
		}
	}
	switch {
	case above.Line == 0:
		return 0, fmt.Errorf("there is no partition of disk %d above that it could be a subvolume of: give it a size, or move it below that", l.Disk)
	case above.Filesystem != "btrfs":
		return 0, fmt.Errorf("line %d, the partition above, is %s, which has no subvolumes: give this one a size, or move it below a btrfs", above.Line, above.Filesystem)
	case above.Subvolume == "":
		return 0, fmt.Errorf("line %d, whose btrfs it is in, names no subvolume for %s: add one there, such as @rootfs", above.Line, above.Folder)
	}
	for _, before := range lines {
		if (before.Of == above.Line || before.Line == above.Line) && before.Subvolume == l.Subvolume {
			return 0, fmt.Errorf("subvolume %s is in line %d already: give it another name", l.Subvolume, before.Line)
		}
	}
	return above.Line, nil
}

// checkAfter refuses what the lines before exclude.
func (l LayoutLine) checkAfter(lines []LayoutLine) error {
	onDisk, left := 1, int64(maxLayoutBytes)
	for _, before := range lines {
		if before.Disk == l.Disk && before.Of == 0 {
			onDisk++
			left -= before.Bytes
		}
		switch {
		case onDisk > maxPartitions && l.Of == 0:
			return fmt.Errorf("more than %d partitions for disk %d: leave some out", maxPartitions, l.Disk)
		case l.Folder != "" && before.Folder == l.Folder:
			return fmt.Errorf("folder %s is in line %d already: leave one out", l.Folder, before.Line)
		case l.Folder != "" && strings.HasPrefix(before.Folder, strings.TrimSuffix(l.Folder, "/")+"/") && l.Folder != "/":
			return fmt.Errorf("folder %s is mounted before %s, which line %d has: move this line above that", l.Folder, before.Folder, before.Line)
		case before.Disk == l.Disk && before.Bytes == 0 && before.Of == 0 && l.Of == 0:
			return fmt.Errorf("line %d has taken the rest of disk %d: rest is for the last partition of a disk", before.Line, l.Disk)
		}
	}
	if l.Bytes > left {
		return fmt.Errorf("the partitions of disk %d come to more than 1 EiB, which no disk has: give them less", l.Disk)
	}
	return nil
}
