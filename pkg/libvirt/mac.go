package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"instance-debootstrap/pkg/pattern"
)

// macPrefix is the vendor's half of new addresses: QEMU's, which has the bit of
// locally administered addresses set (IEEE 802, 8.4).
const macPrefix = "52:54:00"

// MACs lists the addresses that the node's domains have, in lower case.
func (v Virsh) MACs(ctx context.Context) (map[string]bool, error) {
	list, err := v.Domains(ctx)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, d := range list {
		text, err := v.run(ctx, "dumpxml", "--inactive", d.UUID)
		if err != nil && v.IsGone(ctx, d.UUID) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("domain %s: %w", d.Name, err)
		}
		for _, mac := range macs().FindAllString(text, -1) { // user-mode NICs too
			used[strings.ToLower(mac)] = true
		}
	}
	return used, nil
}

var macs = pattern.New(`\b([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\b`)

// NewMAC returns a random address that is not in use.
func NewMAC(random io.Reader, used map[string]bool) (string, error) {
	var b [3]byte
	for range 1000 {
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return "", fmt.Errorf("random MAC address: %w", err)
		}
		if mac := fmt.Sprintf("%s:%02x:%02x:%02x", macPrefix, b[0], b[1], b[2]); !used[mac] {
			return mac, nil
		}
	}
	return "", errors.New("random MAC address: all that were drawn are in use")
}
