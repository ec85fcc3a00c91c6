//go:build root

package boot

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/partition"
)

// The guest's grub.cfg of these tests: GRUB itself says where it came from, finds
// the filesystem, reads a file of some MiB, and reboots. All of these commands
// are modules that it loads from /boot/grub.
const grubCfg = `serial --unit=0
terminal_output serial
search --no-floppy --fs-uuid --set=root %s
echo "prefix=$prefix root=$root"
sha256sum /payload
reboot
`

func TestEveryLayoutAndFilesystemBootsToTheGuestsGrubCfg(t *testing.T) {
	for _, c := range []struct {
		style      partition.Style
		fstype     filesystem.Type
		whereabout string
	}{
		{partition.StyleMSDOS, filesystem.Ext4, "hd0,msdos1"},
		{partition.StyleMSDOS, filesystem.XFS, "hd0,msdos1"},
		{partition.StyleMSDOS, filesystem.Btrfs, "hd0,msdos1"},
		{partition.StyleGPT, filesystem.Ext4, "hd0,gpt1"},
	} {
		t.Run(fmt.Sprintf("%s/%s", c.style, c.fstype), func(t *testing.T) {
			d := newDisk(t, c.style, c.fstype)
			payload := make([]byte, 5<<20)
			rand.Read(payload)
			before := d.identity(t)
			d.mounted(t, func(target Target) {
				nodesGRUB(t, target.Dir)
				write(t, target.Dir+"/boot/grub/grub.cfg", fmt.Sprintf(grubCfg, d.uuid))
				write(t, target.Dir+"/payload", string(payload))
				if err := RestoreBIOS(t.Context(), target); err != nil {
					t.Fatal(err)
				}
				if left := leftovers(t, target.WorkDir); left != "[]" {
					t.Errorf("left in the working folder: %s", left)
				}
				out, _ := exec.Command("grep", "-rEl", `/dev/|loop[0-9]|`+target.WorkDir, target.Dir+"/boot/grub/i386-pc/core.img", target.Dir+"/boot/grub/grub.cfg").Output()
				if len(out) > 0 {
					t.Errorf("the node's names are in the guest's %s", out)
				}
			})
			d.check(t)
			if after := d.identity(t); after != before {
				t.Errorf("the disk was\n%s\nand is\n%s", before, after)
			}
			serial := d.boots(t, time.Minute)
			for _, want := range []string{
				fmt.Sprintf("prefix=(%s)/boot/grub root=%s", c.whereabout, c.whereabout),
				fmt.Sprintf("%x", sha256.Sum256(payload)),
			} {
				if !strings.Contains(serial, want) {
					t.Errorf("GRUB did not say %q:\n%s", want, serial)
				}
			}
		})
	}
}
