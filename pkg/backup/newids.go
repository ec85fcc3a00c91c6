package backup

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/transport"
)

// newIDs makes the ids of IMPORT_UUID=new. Every disk of the instance is imported by a
// process of its own, and fstab on one names the others: so each new UUID is made of the
// instance and the old one, and all processes come to the same. nil keeps the old ones.
type newIDs struct {
	instance string
	made     map[string]string // what each old id became
}

// newIDsFor makes the new UUIDs of what a backup's manifest speaks of, if there are to be any.
func newIDsFor(req *osapi.Request, importUUID string, m transport.Manifest) *newIDs {
	if importUUID != "new" {
		return nil
	}
	n := &newIDs{cmp.Or(req.InstanceUUID, req.InstanceName), map[string]string{}}
	for _, s := range m.Siblings {
		if s.Moves {
			n.of(s.UUID)
		}
	}
	if fs := m.Filesystem; fs != nil {
		n.of(fs.UUID)
	}
	return n
}

// of returns what an old UUID becomes: one of version 8 (RFC 9562), from SHA-256.
func (n *newIDs) of(old string) string {
	if n == nil || old == "" {
		return old
	}
	b := n.digest("uuid", old)
	b[6] = b[6]&0x0f | 0x80
	b[8] = b[8]&0x3f | 0x80
	id := fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
	n.made[old] = id
	return id
}

// ofSerial does the same to a FAT filesystem's serial number, which is written as old.
func (n *newIDs) ofSerial(old string) uint32 {
	serial := binary.LittleEndian.Uint32(n.digest("serial", old)) | 1
	n.made[strings.ToLower(old)] = boot.FATUUID(serial)
	return serial
}

func (n *newIDs) digest(what, old string) []byte {
	sum := sha256.Sum256([]byte(what + "\x00" + n.instance + "\x00" + strings.ToLower(old)))
	return sum[:]
}

// ofLayout gives the disk and its partitions new ids.
func (n *newIDs) ofLayout(old partition.Layout) (partition.Layout, error) {
	if n == nil {
		return old, nil
	}
	var seed []byte
	for i := range 256 {
		seed = append(seed, n.digest(fmt.Sprintf("disk %d", i), old.DiskID)...)
	}
	l, err := old.Renew(bytes.NewReader(seed))
	if err != nil {
		return l, err
	}
	n.made[old.DiskID] = l.DiskID
	for i, p := range old.Partitions {
		n.made[p.UUID] = l.Partitions[i].UUID
	}
	delete(n.made, "")
	return l, nil
}

// Places in the first sector of a FAT32 filesystem, in bytes (Microsoft's FAT
// specification, 3.3).
const (
	fatBackup = 50 // uint16, the sector with a copy of the first
	fatSerial = 67 // uint32
	fatName   = 82 // "FAT32   "
)

// ofFAT gives a FAT32 filesystem, by its beginning, the serial number that is made of the
// old one.
func (n *newIDs) ofFAT(fat []byte) {
	const sector = partition.SectorSize
	if len(fat) < sector || !bytes.HasPrefix(fat[fatName:], []byte("FAT32   ")) {
		return
	}
	serial := n.ofSerial(boot.FATUUID(binary.LittleEndian.Uint32(fat[fatSerial:])))
	backup := int(binary.LittleEndian.Uint16(fat[fatBackup:])) * sector
	for _, at := range []int{0, backup} {
		if at+sector <= len(fat) && bytes.HasPrefix(fat[at+fatName:], []byte("FAT32   ")) {
			binary.LittleEndian.PutUint32(fat[at+fatSerial:], serial)
		}
	}
}

// inESP names the root in an EFI system partition's files by its new UUID. Nothing takes
// the filesystem apart, which may be a trap: UUIDs are replaced by others of the same
// length.
func (n *newIDs) inESP(data []byte) []byte {
	for old, id := range n.made {
		if len(old) == len(id) && len(id) == uuidLen {
			data = bytes.ReplaceAll(data, []byte(old), []byte(id))
		}
	}
	return data
}

// uuidLen is how long a UUID is as text (RFC 9562, 4).
const uuidLen = 36
