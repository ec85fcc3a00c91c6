package doctor

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"instance-debootstrap/pkg/command"
)

// drbdModule is there when the kernel has DRBD; with a DRBD device, LVM's filter matters.
const drbdModule = "/sys/module/drbd"

// lvm looks whether LVM reads DRBD devices: while it has one open, which is for moments,
// whenever anybody lists volumes, Ganeti can't demote it.
func (d *diagnosis) lvm(ctx context.Context) {
	const subject = "LVM"
	if _, err := os.Stat(drbdModule); err != nil {
		return
	}
	if _, err := command.Look("lvmconfig"); err != nil {
		return
	}
	how, err := lvmKeepsOff(func(options ...string) (string, error) {
		return command.Output(ctx, append([]string{"lvmconfig", "--typeconfig", "full"}, options...)...)
	}, "/etc/lvm/devices")
	switch {
	case d.fails(subject, Warning, err):
	case how != "":
		d.add(subject, OK, "%s", how)
	default:
		d.add(subject, Warning, `it reads each DRBD device whenever volumes are listed, and while it does Ganeti can't demote one ("held open by someone"): put global_filter = ["r|^/dev/drbd[0-9]+$|"] into the section devices of /etc/lvm/lvm.conf`)
	}
}

// lvmKeepsOff says by what LVM keeps off DRBD devices; "" is that it reads them. ask is
// lvmconfig(8), and devices the folder of lvmdevices(8).
func lvmKeepsOff(ask func(options ...string) (string, error), devices string) (string, error) {
	for _, list := range []string{"devices/global_filter", "devices/filter"} {
		out, err := ask(list)
		if err != nil {
			return "", err
		}
		if lvmRejects(out, "/dev/drbd0") {
			return list + " keeps it from reading DRBD devices", nil
		}
	}
	out, err := ask("devices/use_devicesfile", "devices/devicesfile")
	if err != nil { // before LVM 2.03.12 (Debian 11, Ubuntu 22.04) there are no such options
		return "", nil
	}
	if file, ok := lvmDevicesFile(out, devices); ok {
		return "it reads only the devices that are listed in " + file, nil
	}
	return "", nil
}

// lvmPattern is an element of a filter: a or r, and an expression between two delimiters,
// which may be brackets.
var lvmPattern = regexp.MustCompile(`"([ar])((?:[^"\\]|\\.)*)"`)

// lvmRejects reports whether a filter, as lvmconfig(8) prints it, keeps LVM from a device
// by its path. The first expression that is found in the path decides; one that no
// expression is found in is read (lvm.conf, devices/filter). An expression that Go doesn't
// know is passed over.
func lvmRejects(filter, path string) bool {
	for _, m := range lvmPattern.FindAllStringSubmatch(filter, -1) {
		expression := strings.ReplaceAll(m[2], `\\`, `\`)
		if len(expression) < 2 {
			continue
		}
		if re, err := regexp.Compile(expression[1 : len(expression)-1]); err == nil && re.MatchString(path) {
			return m[1] == "r"
		}
	}
	return false
}

// lvmDevicesFile is the file of lvmdevices(8) that lists what LVM reads, of what lvmconfig
// prints, and whether it is used: without that file LVM reads all devices.
func lvmDevicesFile(config, devices string) (string, bool) {
	name := "system.devices"
	if _, after, ok := strings.Cut(config, `devicesfile="`); ok {
		name, _, _ = strings.Cut(after, `"`)
	}
	file := filepath.Join(devices, name)
	_, err := os.Stat(file)
	return file, strings.Contains(config, "use_devicesfile=1") && err == nil
}
