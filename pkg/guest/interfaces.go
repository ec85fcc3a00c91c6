package guest

import (
	"slices"

	"instance-debootstrap/pkg/network"
	"instance-debootstrap/pkg/pattern"
)

// menus are what the guest starts from; menuSettings are what its next menu is made
// of. masks are files that switch off udev's own names where they are empty or lead to
// /dev/null (systemd.link(5), udev(7)).
var (
	menus = []string{
		"/boot/grub/grub.cfg", "/boot/grub/menu.lst",
		"/boot/extlinux/extlinux.conf", "/boot/extlinux.conf", "/boot/syslinux/syslinux.cfg", "/extlinux.conf",
	}
	menuSettings = []string{"/etc/default/grub", "/etc/kernel/cmdline"}
	masks        = []string{
		"/etc/systemd/network/99-default.link", "/etc/udev/rules.d/80-net-setup-link.rules", "/etc/udev/rules.d/80-net-name-slot.rules",
	}
)

var (
	kernelLine  = pattern.New(`(?mi)^\s*(linux|linux16|linuxefi|kernel|append)\s`)
	oldNames    = pattern.New(`(?m)^[^#\n]*\bnet\.ifnames=0\b`)
	namesByRule = pattern.New(`(?m)^([^#\n]*[\s,])?NAME:?="`)
	comment     = pattern.New(`(?m)^\s*[#;].*$`)
	// theirNames are the kernel's, ours, and those that udev gives on some machine
	// (systemd.net-naming-scheme(7)).
	theirNames = pattern.New(`\b((eth|nic)[0-9]{1,3}|en(o[0-9]{1,5}|s[0-9]{1,5}(f[0-9]{1,3})?|p[0-9]{1,5}s[0-9]{1,3}(f[0-9]{1,3})?|x[0-9a-f]{12}))\b`)
)

// KeepsKernelNames returns the file by which the guest's interfaces keep the names
// that its kernel gives, eth0 and so on; "" is none.
//
// Where there is a menu with a kernel the guest starts by that, whatever the settings
// for its next one say: it has no network until then.
func KeepsKernelNames(r *Root) string {
	saysSo, hasMenu := "", false
	for _, file := range menus {
		if text, err := r.ReadFile(file, maxGrubConfig); err == nil && kernelLine().Match(text) {
			hasMenu = true
			if oldNames().Match(text) {
				saysSo = file
			}
		}
	}
	if saysSo == "" && !hasMenu {
		saysSo = settingsOfOldNames(r)
	}
	if saysSo != "" {
		return saysSo
	}
	for _, file := range masks {
		to, err := r.Readlink(file)
		st, statErr := r.Lstat(file)
		if err == nil && to == "/dev/null" || statErr == nil && st.Mode().IsRegular() && st.Size() == 0 {
			return file
		}
	}
	return ""
}

// settingsOfOldNames returns the settings for a menu that keep the kernel's names.
func settingsOfOldNames(r *Root) string {
	files := slices.Clone(menuSettings)
	more, _ := r.Glob("/etc/default/grub.d", "*.cfg")
	for _, name := range more {
		files = append(files, "/etc/default/grub.d/"+name)
	}
	for _, file := range files {
		if text, err := r.ReadFile(file, maxConfig); err == nil && oldNames().Match(text) {
			return file
		}
	}
	return ""
}

// namesInterfaces returns a file of the guest's own, not ours, by which its udev
// names interfaces; "" is none.
func namesInterfaces(r *Root) string {
	links, _ := r.Glob("/etc/systemd/network", "*.link")
	for _, name := range links {
		return "/etc/systemd/network/" + name
	}
	rules, _ := r.Glob("/etc/udev/rules.d", "*.rules")
	for _, name := range rules {
		file := "/etc/udev/rules.d/" + name
		if text, err := r.ReadFile(file, maxConfig); err == nil && file != network.RulesFile && namesByRule().Match(text) {
			return file
		}
	}
	return ""
}

// NamesInterfaces returns the file by which the guest names its interfaces itself;
// "" where udev gives them names of its own, as ens3, unless a rule of ours does.
func NamesInterfaces(r *Root) string {
	if !HasUdev(r) {
		return "its kernel"
	}
	if file := KeepsKernelNames(r); file != "" {
		return file
	}
	return namesInterfaces(r)
}

// InterfaceNames lists the names, of the form of the kernel's (eth0), of ours (nic0) or
// of udev's (ens18), that files of the guest have outside of comments: sorted, each once.
func InterfaceNames(r *Root, files []string) (names []string, err error) {
	for _, file := range files {
		if st, err := r.Stat(file); err != nil || !st.Mode().IsRegular() {
			continue // removed, or a mask
		}
		text, err := r.ReadFile(file, maxConfig)
		if err != nil {
			return nil, err
		}
		names = append(names, theirNames().FindAllString(comment().ReplaceAllString(string(text), ""), -1)...)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// WritePins has the guest's udev give interfaces these names.
func WritePins(r *Root, pins []network.Pin) error {
	return r.writeFiles([]network.File{network.Rules(pins)})
}
