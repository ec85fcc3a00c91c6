//go:build root

package root

import (
	"os"
	"testing"
)

func TestPlanVerifyDoctorAndCreateRefuseTheSame(t *testing.T) {
	for name, c := range map[string]struct {
		lines      []string
		filesystem string // an OS parameter, which doctor doesn't have
		want       string
	}{
		"a swap file on btrfs":                     {[]string{"SWAP_FILE_SIZE=64"}, "btrfs", "SWAP_FILE_SIZE: a swap file on btrfs"},
		"a protected node in its own namespaces":   {[]string{"PROTECT_NODE=yes", "NAMESPACE=host"}, "ext4", "PROTECT_NODE=yes and NAMESPACE=host exclude each other"},
		"a folder to be writable that isn't there": {[]string{"PROTECT_NODE=yes", "NODE_WRITABLE=/no/such/folder"}, "ext4", "NODE_WRITABLE: /no/such/folder is not a folder"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 600)
			l.tinyTree()
			must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
			l.write("default", "BOOTLOADER=none\n", 0o644)
			l.setting(c.lines...)
			l.env["OSP_FILESYSTEM"] = c.filesystem
			for _, args := range [][]string{{"instance-debootstrap", "plan", "create"}, {"verify"}, {"instance-debootstrap", "doctor"}} {
				if args[len(args)-1] == "doctor" && c.filesystem != "ext4" {
					continue
				}
				out, _ := l.run(args[0], args[1:]...)
				l.matches(out, c.want)
			}
			l.fails(c.want)
			if !l.isUntouched() {
				t.Error("the disk was written to")
			}
		})
	}
}
