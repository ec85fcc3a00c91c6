package partition

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"instance-debootstrap/pkg/tell"
)

// typeSwap is gpt's type of swap.
const typeSwap = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"

// rootTypes are the gpt types of a root by the guest's architecture, and folderTypes those of
// other folders (the Discoverable Partitions Specification). What has none of its own is of
// type "Linux filesystem".
var (
	rootTypes = map[string]string{
		"amd64": "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "i386": "44479540-F297-41B2-9AF7-D131D5F0458A", "arm64": "B921B045-1DF0-41C3-AF44-4C6F280D3FAE",
		"armhf": "69DAD710-2CE4-4E3C-B16C-21A1D49ABED3", "armel": "69DAD710-2CE4-4E3C-B16C-21A1D49ABED3",
	}
	folderTypes = map[string]string{
		"/boot": "BC13C2FF-59E6-4262-A352-B275FD6F7172", "/home": "933AC7E1-2EB4-4F13-B844-0E14E2AEF915", "/srv": "3B8F8425-20E0-4F3B-907F-1A25A76F98E8",
		"/var": "4D21B016-B534-45C2-A9FB-5C16E091FD2D", "/var/tmp": "7EC6F557-3BC5-4ACA-B293-16EF5DF639D1",
	}
)

// linuxTypes are the gpt types that a filesystem of a guest can have.
var linuxTypes = func() []string {
	types := []string{typeLinuxFilesystem}
	for _, list := range []map[string]string{rootTypes, folderTypes} {
		for _, kind := range list {
			types = append(types, kind)
		}
	}
	return types
}()

// The root's partition is number 1, which hooks rely on, and has this name. Those of other
// folders have the folder as their name.
const (
	rootNumber = 1
	rootName   = "root"
	swapName   = "swap"
)

// Part is a partition that is asked for. 0 bytes are the rest of the disk.
type Part struct {
	Number     int
	Bytes      int64
	Type, Name string
}

// FolderParts are the partitions of a disk for a guest of an architecture, each for a folder
// and of so many bytes; "" is swap. They lie on the disk in this order; a root is number 1.
func FolderParts(arch string, folders []string, sizes []int64) (parts []Part) {
	number := 0
	if slices.Contains(folders, "/") {
		number = rootNumber
	}
	for i, folder := range folders {
		p := Part{Bytes: sizes[i]}
		switch folder {
		case "/":
			p.Number, p.Name, p.Type = rootNumber, rootName, cmp.Or(rootTypes[arch], typeLinuxFilesystem)
		case "":
			p.Name, p.Type = swapName, typeSwap
		default:
			p.Name, p.Type = folder, cmp.Or(folderTypes[folder], typeLinuxFilesystem)
		}
		if p.Number == 0 {
			number++
			p.Number = number
		}
		parts = append(parts, p)
	}
	return parts
}

// PlanParts is PlanBoot for a gpt with several partitions behind those that firmware starts
// from.
func PlanParts(sizeBytes, alignmentSectors int64, boot Boot, parts []Part, random io.Reader) (Layout, error) {
	l := Layout{Style: StyleGPT, SizeBytes: sizeBytes}
	if err := check(l.Style, sizeBytes, alignmentSectors); err != nil {
		return Layout{}, fmt.Errorf("plan the disk: %w", err)
	}
	return l.planGPT(alignmentSectors, boot, parts, random)
}

func (l Layout) planGPT(alignmentSectors int64, boot Boot, parts []Part, random io.Reader) (_ Layout, err error) {
	start := roundUp(1+gptSectors, alignmentSectors)
	if l.Partitions, err = boot.partitions(start, alignmentSectors, random); err != nil {
		return Layout{}, err
	}
	if l.DiskID, err = NewUUID(random); err != nil {
		return Layout{}, err
	}
	end := l.SizeBytes/SectorSize - gptSectors
	for _, part := range parts {
		if n := len(l.Partitions); n > 0 {
			start = roundUp(l.Partitions[n-1].StartSector+l.Partitions[n-1].Sectors, alignmentSectors)
		}
		p := Partition{Number: part.Number, StartSector: start, Sectors: part.Bytes / SectorSize, Type: part.Type, Name: part.Name}
		if part.Bytes == 0 {
			p.Sectors = rest(end, start, alignmentSectors)
		}
		if p.UUID, err = NewUUID(random); err != nil {
			return Layout{}, err
		}
		l.Partitions = append(l.Partitions, p)
	}
	last := l.Partitions[len(l.Partitions)-1]
	if len(parts) == 1 && parts[0].Bytes == 0 {
		return l, l.checkRest(last, alignmentSectors)
	}
	if over := last.StartSector + max(last.Sectors, minRootBytes/SectorSize) - end; over > 0 {
		return Layout{}, fmt.Errorf("plan the disk: the partitions take %s more than the disk's %s, with what firmware starts from: give the instance a larger disk, or one of them less", tell.MiB(roundUp(over, mibSectors)*SectorSize), tell.MiB(l.SizeBytes))
	}
	return l, nil
}

// Folder is where a guest mounts a partition of a layout of ours, by its name: "/" is its
// root, "" is that it isn't one for a folder.
func (p Partition) Folder() string {
	switch name := p.Name; {
	case !slices.Contains(linuxTypes, strings.ToUpper(p.Type)):
	case name == rootName:
		return "/"
	case strings.ContainsFunc(name, func(r rune) bool { return r < '!' || r > '~' }): // messages repeat it
	case strings.HasPrefix(name, "/") && name != "/" && path.Clean(name) == name:
		return name
	}
	return ""
}

// hasFolders tells whether a layout is one of ours with several filesystems: a gpt whose
// partitions are for folders, swap, or what firmware starts from. fault is what is wrong with them
// all the same: of two that are mounted at once, one over the other, each would change the other
// behind its kernel's back.
func (l Layout) hasFolders() (has bool, fault error) {
	if l.Style != StyleGPT || l.HybridMBR {
		return false, nil
	}
	seen := map[string]int{}
	for i, p := range l.Partitions {
		folder, kind := p.Folder(), strings.ToUpper(p.Type)
		if folder == "" && kind != typeSwap && kind != typeBIOSBoot && kind != typeESP {
			return false, nil
		}
		if other := seen[folder]; folder != "" && other > 0 && fault == nil {
			fault = fmt.Errorf("partitions %d and %d are both called %s: which one is meant can't be told", other, p.Number, p.Name)
		}
		if j := slices.IndexFunc(l.Partitions[:i], p.overlaps); j >= 0 && fault == nil {
			fault = fmt.Errorf("partitions %d and %d overlap", l.Partitions[j].Number, p.Number)
		}
		seen[folder] = p.Number
	}
	return true, fault
}

func (p Partition) overlaps(other Partition) bool {
	return p.StartSector < other.StartSector+other.Sectors && other.StartSector < p.StartSector+p.Sectors
}

// GuestRoot returns the partition with a guest's root filesystem: that of a layout which can
// be taken apart, or, beside partitions for other folders, the one that is called root.
func (l Layout) GuestRoot() (root Partition, err error) {
	if root, err = l.RootPartition(); err == nil {
		return root, nil
	}
	if has, fault := l.hasFolders(); !has || fault != nil {
		return root, cmp.Or(fault, err)
	}
	if i := slices.IndexFunc(l.Partitions, func(p Partition) bool { return p.Folder() == "/" }); i >= 0 {
		return l.Partitions[i], nil
	}
	return Partition{}, errors.New("none of its partitions is the guest's root")
}

// Beside returns the partitions that a guest has for folders beside its root, those above
// before those below.
func (l Layout) Beside() (parts []Partition) {
	if has, fault := l.hasFolders(); !has || fault != nil {
		return nil
	}
	for _, p := range l.Partitions {
		if folder := p.Folder(); folder != "" && folder != "/" {
			parts = append(parts, p)
		}
	}
	slices.SortFunc(parts, func(a, b Partition) int { return cmp.Compare(a.Folder(), b.Folder()) })
	return parts
}

// Growing returns the partition that grows with its disk: the last.
func (l Layout) Growing() (last Partition, err error) {
	if last, err = l.RootPartition(); err == nil {
		return last, nil
	}
	if has, fault := l.hasFolders(); !has || fault != nil {
		return last, cmp.Or(fault, err)
	}
	last = slices.MaxFunc(l.Partitions, func(a, b Partition) int { return cmp.Compare(a.StartSector, b.StartSector) })
	if last.Folder() == "" {
		return last, fmt.Errorf("its last partition, %d, is no filesystem (%s)", last.Number, last.TypeName())
	}
	return last, nil
}
