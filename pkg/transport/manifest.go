package transport

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/pattern"
)

// FormatNumber is the newest format that this version reads, and FormatFor what
// it writes. Format 1 says nothing of zeros.
const FormatNumber = zerosFormat

const zerosFormat = 2

// FormatFor returns the oldest format that can hold a backup, which the most
// nodes read.
func FormatFor(zeros bool) int {
	if zeros {
		return zerosFormat
	}
	return 1
}

// Limits of a manifest.
const (
	maxManifest = 64 << 10
	maxBytes    = 1 << 60
	maxLabel    = 255
	maxParts    = 128
	maxSiblings = 256
)

// Manifest says what a backup is of. It is the stream's first member.
type Manifest struct {
	Format     int         `json:"format"`                // see FormatFor
	Tool       string      `json:"tool"`                  // the version that wrote it
	Content    string      `json:"content"`               // "files", "blocks" or "swap"
	Role       string      `json:"role"`                  // "root", "data" or "swap"
	Holes      string      `json:"holes,omitempty"`       // what blocks don't cover: "zero" or "unused"
	BootLoader string      `json:"boot_loader,omitempty"` // "grub-bios", "grub-efi", "grub-bios+efi", "efi", "unknown"; "" is none
	Disk       Disk        `json:"disk"`
	Filesystem *Filesystem `json:"filesystem,omitempty"` // of files and swap; of blocks when it is known
	Siblings   []Sibling   `json:"siblings,omitempty"`   // what the instance's disks hold, this one too
}

// Disk is the disk that was exported.
type Disk struct {
	Index      int         `json:"index"` // Ganeti's
	SizeBytes  int64       `json:"size_bytes"`
	Style      string      `json:"style"`        // "none", "msdos", "gpt" or "unknown"
	ID         string      `json:"id,omitempty"` // PTUUID: 8 hex digits (msdos) or a UUID (gpt)
	Partitions []Partition `json:"partitions,omitempty"`
}

// Partition is an entry of its table, in sectors of 512 bytes.
type Partition = partition.Partition

// Filesystem is the disk's filesystem or swap area.
type Filesystem struct {
	Type      string `json:"type"` // ext2, ext3, ext4, xfs, btrfs or swap
	UUID      string `json:"uuid"`
	Label     string `json:"label,omitempty"`
	Partition int    `json:"partition"`            // its number, 0 is the whole disk
	SizeBytes int64  `json:"size_bytes"`           // of the device it is on
	UsedBytes int64  `json:"used_bytes,omitempty"` // statfs(2): blocks that aren't free
	Inodes    int64  `json:"inodes,omitempty"`     // the same of inodes; 0 where they aren't counted
	Suite     string `json:"suite,omitempty"`      // the guest's, from os-release(5)
}

// Sibling is what one of the instance's disks holds.
type Sibling struct {
	Index int    `json:"index"`
	Type  string `json:"type"`
	UUID  string `json:"uuid"`
	Label string `json:"label,omitempty"`
	Moves bool   `json:"moves,omitempty"` // an import makes it anew, and may give it a new UUID
}

var (
	uuidForm  = pattern.New(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
	mbrIDForm = pattern.New(`^[0-9a-f]{8}$`)
	mbrPart   = pattern.New(`^[0-9a-f]{8}-[0-9a-f]{2}$`)
	mbrType   = pattern.New(`^[0-9a-f]{1,2}$`)
	suiteForm = pattern.New(`^[a-z0-9-]*$`)
	// A sibling can be of a type that is only named.
	siblingUUID = pattern.New(`^[0-9A-Fa-f-]+$`)
)

// fsTypes are the filesystems that a manifest can name.
var fsTypes = []string{"ext2", "ext3", "ext4", "xfs", "btrfs", "swap"}

// Encode writes the manifest as indented JSON.
func (m Manifest) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return nil, err
	}
	b = append(b, '\n')
	if len(b) > maxManifest {
		return nil, fmt.Errorf("the backup's manifest would have %d bytes, more than %d", len(b), maxManifest)
	}
	return b, m.check()
}

// ParseManifest reads a manifest, which may come from anywhere: every value is
// checked, and all faults are in the one error. Fields that are not known are
// those of a later tool, and don't count.
func ParseManifest(b []byte) (Manifest, error) {
	var m Manifest
	if len(b) > maxManifest {
		return m, fmt.Errorf("the backup's manifest has %d bytes, more than %d: export it anew", len(b), maxManifest)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return Manifest{}, fmt.Errorf("the backup's manifest is damaged: %w: copy it anew", err)
	}
	if m.Format < 1 || m.Format > FormatNumber {
		return Manifest{}, fmt.Errorf("the backup's manifest: format %d is unknown to this version, which reads 1 to %d: import it with a newer one", m.Format, FormatNumber)
	}
	if err := m.check(); err != nil {
		return Manifest{}, fmt.Errorf("the backup's manifest makes no sense: %w: export it anew", err)
	}
	return m, nil
}

type faults []error

func (f *faults) unless(ok bool, format string, args ...any) {
	if !ok {
		*f = append(*f, fmt.Errorf(format, args...))
	}
}

func (m Manifest) check() error {
	var f faults
	f.unless(isWord(m.Tool), "tool %.200q", m.Tool)
	f.unless(slices.Contains([]string{"files", "blocks", "swap"}, m.Content), "content %.40q: files, blocks and swap are known", m.Content)
	f.unless(slices.Contains([]string{"root", "data", "swap"}, m.Role), "role %.40q: root, data and swap are known", m.Role)
	f.unless((m.Content == "blocks") == (m.Holes != "") && slices.Contains([]string{"", "zero", "unused"}, m.Holes), "holes %.40q", m.Holes)
	f.unless(isWord(m.BootLoader), "boot_loader %.200q", m.BootLoader)
	m.Disk.check(&f)
	if fs := m.Filesystem; fs != nil {
		fs.check(&f)
		f.unless((fs.Type == "swap") == (m.Content == "swap"), "content %.40q of a filesystem %.40q", m.Content, fs.Type)
		f.unless(fs.Partition == 0 && len(m.Disk.Partitions) == 0 || m.Disk.has(fs.Partition), "filesystem partition %d is not one of the disk's", fs.Partition)
	} else {
		f.unless(m.Content == "blocks", "content %.40q without a filesystem", m.Content)
	}
	f.unless(len(m.Siblings) <= maxSiblings, "%d siblings", len(m.Siblings))
	for _, s := range m.Siblings[:min(len(m.Siblings), maxSiblings)] {
		f.unless(len(s.UUID) <= 64 && siblingUUID().MatchString(s.UUID) && isWord(s.Type) && plain(s.Label), "sibling %d", s.Index)
	}
	if len(f) == 0 {
		return nil
	}
	texts := make([]string, len(f))
	for i, err := range f {
		texts[i] = err.Error()
	}
	return errors.New(strings.Join(texts, "; "))
}

func (d Disk) has(number int) bool {
	return slices.ContainsFunc(d.Partitions, func(p Partition) bool { return p.Number == number })
}

func (d Disk) check(f *faults) {
	f.unless(d.Index >= 0 && d.Index < maxSiblings, "disk index %d", d.Index)
	f.unless(d.SizeBytes >= 0 && d.SizeBytes <= maxBytes, "disk size %d bytes", d.SizeBytes)
	f.unless(len(d.Partitions) <= maxParts, "%d partitions", len(d.Partitions))
	switch d.Style {
	case "none", "unknown":
		f.unless(d.ID == "" && len(d.Partitions) == 0, "style %s with partitions", d.Style)
	case "msdos":
		f.unless(mbrIDForm().MatchString(d.ID), "disk id %.40q: 8 hex digits", d.ID)
	case "gpt":
		f.unless(uuidForm().MatchString(d.ID), "disk id %.40q: a UUID", d.ID)
	default:
		f.unless(false, "style %.40q: none, msdos, gpt and unknown are known", d.Style)
	}
	for _, p := range d.Partitions[:min(len(d.Partitions), maxParts)] {
		f.unless(p.Number > 0 && p.Number <= maxParts, "partition number %d", p.Number)
		f.unless(p.StartSector > 0 && p.Sectors > 0 && p.Sectors <= d.SizeBytes/512-p.StartSector, "partition %d (start %d, %d sectors) isn't on the disk", p.Number, p.StartSector, p.Sectors)
		f.unless(len(p.Name) <= 256 && plain(p.Name), "partition %d: name", p.Number)
		if d.Style == "gpt" {
			f.unless(uuidForm().MatchString(p.Type) && uuidForm().MatchString(p.UUID), "partition %d: type %.40q, UUID %.40q", p.Number, p.Type, p.UUID)
		} else {
			f.unless(mbrType().MatchString(p.Type) && mbrPart().MatchString(p.UUID), "partition %d: type %.40q, UUID %.40q", p.Number, p.Type, p.UUID)
		}
	}
}

func (fs Filesystem) check(f *faults) {
	f.unless(slices.Contains(fsTypes, fs.Type), "filesystem %.40q: %s are known", fs.Type, strings.Join(fsTypes, ", "))
	f.unless(uuidForm().MatchString(fs.UUID), "filesystem UUID %.80q", fs.UUID)
	f.unless(len(fs.Label) <= maxLabel && plain(fs.Label), "filesystem label")
	f.unless(len(fs.Suite) <= 64 && suiteForm().MatchString(fs.Suite), "suite %.80q", fs.Suite)
	for _, n := range []int64{fs.SizeBytes, fs.UsedBytes, fs.Inodes} {
		f.unless(n >= 0 && n <= maxBytes, "filesystem size %d", n)
	}
}

// isWord reports whether a text is at most 128 printable characters of ASCII.
func isWord(s string) bool {
	return len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// plain reports whether a text can go into a message and to a tool: it has no
// control characters and doesn't begin like an option.
func plain(s string) bool {
	return len(s) <= 256 && !strings.HasPrefix(s, "-") && !strings.ContainsFunc(s, unicode.IsControl)
}
