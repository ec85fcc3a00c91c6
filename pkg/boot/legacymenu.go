package boot

import (
	"fmt"
	"strings"

	"instance-debootstrap/pkg/guest"
)

// menuHooks run after the guest has installed or removed a kernel (of Debian's linux
// packages, and Ubuntu's), once its initramfs is there.
var menuHooks = []string{"/etc/kernel/postinst.d/zz-pv-grub-menu-lst", "/etc/kernel/postrm.d/zz-pv-grub-menu-lst"}

// menuHook writes the same menu in the guest. The package pv-grub-menu does so too,
// but its script asks for a disk that GRUB can probe, and so fails where a tree is
// made, and for tempfile(1), which Debian 12 has no longer.
const menuHook = `#!/bin/sh
# Written at installation by instance-debootstrap: PV-GRUB reads menu.lst, which this
# writes anew after a kernel was installed or removed.
set -e
top=${DPKG_ROOT:-}
menu=$top/boot/grub/menu.lst
root=$(awk '$1 !~ /^#/ && $2 == "/" { print $1; exit }' "$top/etc/fstab")
PRETTY_NAME=Linux
. "$top/etc/os-release"
{
	printf '# Written by %s.\ndefault 0\ntimeout 1\n' "$0"
	for image in $(cd "$top" && ls -d boot/vmlinu[xz]-* 2>/dev/null | sort -rV); do
		version=${image#boot/vmlinu?-}
		[ -e "$top/boot/initrd.img-$version" ] || continue
		printf '\ntitle %s, with Linux %s\nroot DEVICE\nkernel /%s root=%s ro ARGS\ninitrd /boot/initrd.img-%s\n' \
			"$PRETTY_NAME" "$version" "$image" "$root" "$version"
	done
} >"$menu.new"
if [ -n "$root" ] && grep -q '^title ' "$menu.new"; then
	mv "$menu.new" "$menu"
else
	rm "$menu.new"
fi
`

// inPrintf has text stand for itself in a format in single quotes.
var inPrintf = strings.NewReplacer("%", "%%", `\`, `\\`, "'", `'\''`)

// writeLegacyMenu writes the first menu, and what keeps it up, unless the guest has a
// package for that.
func writeLegacyMenu(t Target, kernels []Kernel, m Menu) error {
	if err := t.Root.WriteFile(LegacyMenu, legacyMenu(title(t.Root), t, kernels, m), 0o644, guest.Reset); err != nil || t.Root.Exists("/usr/sbin/update-menu-lst") {
		return err
	}
	where := "(hd0)"
	if t.RootNumber > 0 {
		where = fmt.Sprintf("(hd0,%d)", t.RootNumber-1)
	}
	text := strings.NewReplacer("DEVICE", where, "ARGS", inPrintf.Replace(m.Args)).Replace(menuHook)
	for _, name := range menuHooks {
		if err := t.Root.Put(name, text, 0o755); err != nil {
			return err
		}
	}
	return nil
}
