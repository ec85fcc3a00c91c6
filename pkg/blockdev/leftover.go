package blockdev

import (
	"os"
	"path/filepath"
	"strings"

	"instance-debootstrap/pkg/pattern"
)

// Leftover is a device that some program has made and left, and that keeps
// another disk from coming free.
type Leftover struct {
	Device string // such as /dev/loop0
	Over   string // what it keeps
	Remedy string // the command that takes it away
}

// Leftovers lists devices of the node that look left over: loop devices over other
// block devices and over files that were removed, and kpartx's maps of partitions.
// Loop devices that go with their last user are left out (loop(4),
// LO_FLAGS_AUTOCLEAR), as ours are. Whether something uses one can't be told.
func Leftovers() []Leftover { return leftovers("/sys/block") }

func leftovers(sysBlock string) (found []Leftover) {
	for _, dir := range glob(sysBlock + "/dm-*") { // first: what they are over may be one of the others
		if kpartxMap().MatchString(value(dir, "dm/uuid")) {
			for _, slave := range glob(dir + "/slaves/*") {
				disk := mapped(sysBlock, "/dev/"+filepath.Base(slave))
				found = append(found, Leftover{mapped(sysBlock, "/dev/"+filepath.Base(dir)), disk, "kpartx -d " + disk})
			}
		}
	}
	for _, dir := range glob(sysBlock + "/loop*/loop") {
		over, device := value(dir, "backing_file"), "/dev/"+filepath.Base(filepath.Dir(dir))
		isDisk := strings.HasPrefix(over, "/dev/") && !strings.HasPrefix(over, "/dev/shm/")
		if value(dir, "autoclear") == "0" && (isDisk || strings.HasSuffix(over, " (deleted)")) {
			found = append(found, Leftover{device, mapped(sysBlock, over), "losetup -d " + device})
		}
	}
	return found
}

// mapped is a device by the name that an admin knows: device-mapper's own.
func mapped(sysBlock, device string) string {
	if name := value(filepath.Join(sysBlock, filepath.Base(device)), "dm/name"); name != "" {
		return "/dev/mapper/" + name
	}
	return device
}

// kpartxMap matches the UUIDs that kpartx(8) gives its maps of logical volumes and
// of disks that aren't device-mapper's (its dmparts.c), but not of multipath disks,
// which multipathd looks after.
var kpartxMap = pattern.New(`^part[0-9]+-(LVM-|devnode_)`)

func glob(pattern string) []string {
	found, _ := filepath.Glob(pattern)
	return found
}

// value reads a one-line file of sysfs; "" is also none.
func value(dir, name string) string {
	text, _ := os.ReadFile(filepath.Join(dir, name))
	return strings.TrimSuffix(string(text), "\n")
}

// LoopOver is the file or device that a loop device is over, and "" of any other.
func LoopOver(dev string) string {
	return value("/sys/block/"+filepath.Base(dev)+"/loop", "backing_file")
}
