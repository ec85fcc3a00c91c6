// Package receipt is the note of what was installed that create leaves in the guest, and
// that inspect shows.
package receipt

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/partition"
)

// File is where the guest has its receipt.
const File = "/var/lib/instance-debootstrap/receipt.json"

// maxBytes bounds what is read of a guest's receipt.
const maxBytes = 256 << 10

// Receipt says what was installed, at the time of the installation: nothing
// reads it later but inspect, to show it. It holds no secret. The admin guide
// tells what each field is.
type Receipt struct {
	Format    int       `json:"format"` // 1
	Tool      string    `json:"tool"`
	Installed time.Time `json:"installed"`

	Instance  string         `json:"instance"`
	Nodes     *Nodes         `json:"nodes,omitempty"` // under Ganeti
	Suite     string         `json:"suite"`
	Snapshot  string         `json:"snapshot,omitempty"` // of the archive that the tree was asked for from
	Arch      string         `json:"arch"`
	Variant   string         `json:"variant,omitempty"`
	Mirror    string         `json:"mirror,omitempty"`
	Sources   []string       `json:"sources,omitempty"` // of the guest's apt: URI, suite, components
	Tree      Tree           `json:"tree"`
	Packages  guest.Packages `json:"packages"`
	Disk      Disk           `json:"disk"`
	Boot      Boot           `json:"boot"`
	Network   string         `json:"network"`
	SSHServer bool           `json:"ssh_server"`

	SSHHostKeys []guest.HostKey `json:"ssh_host_keys,omitempty"`
	Kept        *FromBefore     `json:"kept,omitempty"`
}

// FromBefore is what came from the guest that the disk had before.
type FromBefore struct {
	ID    string   `json:"id"`
	Paths []string `json:"paths"`
}

// Nodes are the cluster's nodes that had the instance's disks, as Ganeti
// calls them: by UUID since its version 2.9.
type Nodes struct {
	Primary   string   `json:"primary"`
	Secondary []string `json:"secondary,omitempty"`
}

// Tree is where the guest's tree came from.
type Tree struct {
	Source string `json:"source"`           // hit, built, edited, admin or fallback (of the cache); direct
	Key    string `json:"key,omitempty"`    // in the cache
	SHA256 string `json:"sha256,omitempty"` // of the cached tar, where all of it was seen
	By     string `json:"by,omitempty"`     // the bootstrap tool
	// DerivedFrom is the key of the tree that packages were added to.
	DerivedFrom string `json:"derived_from,omitempty"`
}

// Disk is how the disk was laid out.
type Disk struct {
	SizeBytes  int64        `json:"size_bytes"`
	Style      string       `json:"style"`
	Layout     string       `json:"layout,omitempty"` // the setting
	ID         string       `json:"id,omitempty"`
	Partitions []Partition  `json:"partitions,omitempty"`
	Root       Filesystem   `json:"root"`
	Folders    []Filesystem `json:"folders,omitempty"` // beside the root, of a layout
	ESPUUID    string       `json:"esp_uuid,omitempty"`
	SwapUUIDs  []string     `json:"swap_uuids,omitempty"`
	SwapFile   int64        `json:"swap_file_bytes,omitempty"`
	Data       []Filesystem `json:"data,omitempty"`
}

// Partition is one entry of a partition table, in sectors of 512 bytes.
type Partition struct {
	Number      int    `json:"number"`
	StartSector int64  `json:"start_sector"`
	Sectors     int64  `json:"sectors"`
	Type        string `json:"type"`
	Name        string `json:"name,omitempty"`
	UUID        string `json:"uuid"`
}

// Filesystem is a filesystem that was made, or is mounted.
type Filesystem struct {
	Folder string `json:"folder"`
	Type   string `json:"type"`
	UUID   string `json:"uuid"`
	// Subvolume is that of a btrfs that the folder is in.
	Subvolume string `json:"subvolume,omitempty"`
}

// Boot is how the guest boots.
type Boot struct {
	Loader   string   `json:"loader"` // grub, menu (for a hypervisor that reads it), hook or none
	Firmware []string `json:"firmware,omitempty"`
	Kernel   string   `json:"kernel,omitempty"`
}

// Partitions are the entries of a table.
func Partitions(l partition.Layout) (out []Partition) {
	for _, p := range l.Partitions {
		out = append(out, Partition{p.Number, p.StartSector, p.Sectors, p.Type, p.Name, p.UUID})
	}
	return out
}

// Read returns the receipt in a guest, whatever the guest has made of it. The error says
// why there is none.
func Read(root *guest.Root) (*Receipt, error) {
	text, err := root.ReadFile(File, maxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("the guest has no " + File)
	}
	r := &Receipt{}
	if err == nil {
		if err = json.Unmarshal(text, r); err != nil {
			err = fmt.Errorf("the guest's %s was changed: %w", File, err)
		}
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Write puts the receipt into the guest, signed where there is a signer. The signature is first:
// a guest that has the receipt lacks nothing.
func (r Receipt) Write(root *guest.Root, signer *Signer) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	signature, err := signer.signature(text)
	if err == nil && signature != "" {
		err = root.Put(SignatureFile, signature, 0o644, guest.Durable)
	}
	return errors.Join(err, root.Put(File, string(text), 0o644, guest.Durable))
}
