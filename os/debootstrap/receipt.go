package debootstrap

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/bootstrap"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/pattern"
)

// receiptFile is where the guest has its receipt.
const (
	receiptFolder = "/var/lib/instance-debootstrap"
	receiptFile   = receiptFolder + "/receipt.json"
)

// Receipt says what was installed, at the time of the installation: nothing
// reads it later but inspect, to show it. It holds no secret. The admin guide
// tells what each field is.
type Receipt struct {
	Format    int       `json:"format"` // 1
	Tool      string    `json:"tool"`
	Installed time.Time `json:"installed"`

	Instance  string         `json:"instance"`
	Nodes     *ReceiptNodes  `json:"nodes,omitempty"` // under Ganeti
	Suite     string         `json:"suite"`
	Arch      string         `json:"arch"`
	Variant   string         `json:"variant,omitempty"`
	Mirror    string         `json:"mirror,omitempty"`
	Sources   []string       `json:"sources,omitempty"` // of the guest's apt: URI, suite, components
	Tree      ReceiptTree    `json:"tree"`
	Packages  guest.Packages `json:"packages"`
	Disk      ReceiptDisk    `json:"disk"`
	Boot      ReceiptBoot    `json:"boot"`
	Network   string         `json:"network"`
	SSHServer bool           `json:"ssh_server"`

	SSHHostKeys []guest.HostKey `json:"ssh_host_keys,omitempty"`
}

// ReceiptNodes are the cluster's nodes that had the instance's disks, as Ganeti
// calls them: by UUID since its version 2.9.
type ReceiptNodes struct {
	Primary   string   `json:"primary"`
	Secondary []string `json:"secondary,omitempty"`
}

// ReceiptTree is where the guest's tree came from.
type ReceiptTree struct {
	Source string `json:"source"`           // hit, built, edited, admin or fallback (of the cache); direct
	Key    string `json:"key,omitempty"`    // in the cache
	SHA256 string `json:"sha256,omitempty"` // of the cached tar, where all of it was seen
	By     string `json:"by,omitempty"`     // the bootstrap tool
}

// ReceiptDisk is how the disk was laid out.
type ReceiptDisk struct {
	SizeBytes  int64               `json:"size_bytes"`
	Style      string              `json:"style"`
	ID         string              `json:"id,omitempty"`
	Partitions []PartitionEntry    `json:"partitions,omitempty"`
	Root       ReceiptFilesystem   `json:"root"`
	ESPUUID    string              `json:"esp_uuid,omitempty"`
	SwapUUIDs  []string            `json:"swap_uuids,omitempty"`
	SwapFile   int64               `json:"swap_file_bytes,omitempty"`
	Data       []ReceiptFilesystem `json:"data,omitempty"`
}

// PartitionEntry is one entry of a partition table, in sectors of 512 bytes.
type PartitionEntry struct {
	Number      int    `json:"number"`
	StartSector int64  `json:"start_sector"`
	Sectors     int64  `json:"sectors"`
	Type        string `json:"type"`
	Name        string `json:"name,omitempty"`
	UUID        string `json:"uuid"`
}

// ReceiptFilesystem is a filesystem that was made, or is mounted.
type ReceiptFilesystem struct {
	Folder string `json:"folder"`
	Type   string `json:"type"`
	UUID   string `json:"uuid"`
}

// ReceiptBoot is how the guest boots.
type ReceiptBoot struct {
	Loader   string   `json:"loader"` // grub, menu (for a hypervisor that reads it), hook or none
	Firmware []string `json:"firmware,omitempty"`
	Kernel   string   `json:"kernel,omitempty"`
}

func partitionEntries(l partition.Layout) (out []PartitionEntry) {
	for _, p := range l.Partitions {
		out = append(out, PartitionEntry{p.Number, p.StartSector, p.Sectors, p.Type, p.Name, p.UUID})
	}
	return out
}

// fillReceipt says what this run has installed; root is the finished guest.
func (j *Job) fillReceipt(root *guest.Root) (r Receipt, err error) {
	s := j.Settings
	r = Receipt{
		Format: 1, Tool: "instance-debootstrap " + paths.Version, Installed: time.Now().UTC().Truncate(time.Second),
		Instance: j.Request.InstanceName, Suite: s.Suite, Arch: j.arch, Variant: j.Request.Variant, Mirror: bootstrap.PublicURL(s.Mirror),
		Tree:        ReceiptTree{Source: "direct", By: j.tool.Name + " " + j.tool.Version},
		Boot:        j.bootReceipt(),
		Network:     string(guest.ChooseRenderer(root)),
		SSHServer:   root.Exists(sshdPath),
		SSHHostKeys: j.hostKeys,
	}
	if q := j.Request; q.PrimaryNode != "" {
		r.Nodes = &ReceiptNodes{Primary: q.PrimaryNode, Secondary: strings.Fields(q.SecondaryNodes)}
	}
	if j.tree != nil {
		r.Tree = ReceiptTree{Source: j.tree.Source, Key: j.tree.Key, SHA256: j.tree.Seen}
		if r.Tree.Key != "" {
			r.Tree.By = j.tool.Name + " " + j.tool.Version
		}
	}
	r.Disk = ReceiptDisk{
		SizeBytes: j.disk.SizeBytes, Style: string(j.table.Style), ID: j.table.DiskID, Partitions: partitionEntries(j.table),
		Root: ReceiptFilesystem{"/", s.Filesystem, j.rootUUID}, ESPUUID: j.espUUID(), SwapUUIDs: j.swapUUID, SwapFile: j.swapFileBytes(),
	}
	for _, d := range j.data {
		r.Disk.Data = append(r.Disk.Data, ReceiptFilesystem{d.want.Folder, d.want.Filesystem, d.uuid})
	}
	if r.Sources, err = guest.ReadSources(root); err != nil {
		return r, err
	}
	for i, s := range r.Sources { // a hook's may have a password
		r.Sources[i] = pattern.MaskUserinfo(s)
	}
	r.Packages, err = guest.ReadPackages(root)
	return r, err
}

func (j *Job) bootReceipt() ReceiptBoot {
	b := ReceiptBoot{Loader: j.boot.made, Kernel: j.boot.kernel.Version}
	switch b.Loader {
	case "":
		b.Loader = "none"
	case "grub":
		if j.boot.BIOS {
			b.Firmware = append(b.Firmware, "bios")
		}
		if j.boot.UEFI {
			b.Firmware = append(b.Firmware, "uefi")
		}
	}
	return b
}

// writeReceipt puts the receipt into the guest, after the hooks. A guest whose
// hooks left no room or place for it is whole without.
func (j *Job) writeReceipt(ctx context.Context) error {
	return j.inGuest(ctx, func(root *guest.Root) error {
		r, err := j.fillReceipt(root)
		if err != nil {
			warn(ctx, "the receipt has no packages: %v", err)
		}
		if j.receipt, err = json.Marshal(r); err != nil {
			return err
		}
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err = root.MkdirAll(receiptFolder, 0o755); err == nil {
			err = root.WriteFile(receiptFile, append(text, '\n'), 0o644, guest.Reset)
		}
		if err != nil {
			warn(ctx, "the guest has no receipt, which is in this log only: %v", err)
		}
		return nil
	})
}

// tellReceipt writes the receipt's one line into the log, when all is done.
func (j *Job) tellReceipt(ctx context.Context) {
	zerolog.Ctx(ctx).Info().RawJSON("receipt", j.receipt).Msg("installed " + j.Request.InstanceName)
}
