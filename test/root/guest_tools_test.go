//go:build root && slow

package root

import (
	"os/exec"
	"strings"
	"testing"
)

// TestTheGuestsToolsWorkInAHookAndWithoutANetwork creates from a warm cache on a
// node without a network; the hooks are those that people have.
func TestTheGuestsToolsWorkInAHookAndWithoutANetwork(t *testing.T) {
	l := realGuest(t)
	l.create() // the tree is in the cache then
	for name, hook := range map[string]string{
		"with /dev, /proc and /sys": `set -e
for dir in dev proc sys; do mount --bind /$dir "$TARGET/$dir"; done
trap 'umount "$TARGET/dev" "$TARGET/proc" "$TARGET/sys"' EXIT
# os-prober would be asked by update-grub
printf '#!/bin/sh\necho /dev/sda1:the node:Node:linux; echo asked >/asked\n' >"$TARGET/usr/bin/os-prober"; chmod 755 "$TARGET/usr/bin/os-prober"
chroot "$TARGET" update-grub
[ ! -e "$TARGET/asked" ]; rm "$TARGET/usr/bin/os-prober"
ls -A "$TARGET/sys/firmware/efi/efivars" 2>/dev/null | grep . && exit 1
chroot "$TARGET" dpkg-reconfigure "$(chroot "$TARGET" dpkg-query -W -f '${Package}\n' 'linux-image-[0-9]*' | head -n1)"
chroot "$TARGET" dpkg-reconfigure grub-pc`,
		"without them": `chroot "$TARGET" update-grub; echo "update-grub says $?"`,
	} {
		for _, style := range []string{"msdos", "gpt"} {
			t.Run(name+"/"+style, func(t *testing.T) {
				defer l.within(t)()
				l.alone = true
				l.env["OSP_BOOTLOADER"], l.env["OSP_PARTITION_STYLE"] = "auto", style
				l.hook("50-grub", hook)
				has(t, l.create(), "the guest boots Linux")
				uuid := l.tool("blkid", "-p", "-s", "UUID", "-o", "value", l.root())
				l.mounted(func(tree string) {
					if out, _ := exec.Command("grep", "-rIE", "/dev/loop[0-9]|loop[0-9]+p", tree+"/boot").Output(); len(out) > 0 {
						t.Errorf("the node's device is named: %s", out)
					}
					cfg := l.tool("cat", tree+"/boot/grub/grub.cfg")
					if !strings.Contains(cfg, "root=UUID="+uuid) || strings.Contains(cfg, "the node") {
						t.Error(cfg)
					}
				})
			})
		}
	}
}
