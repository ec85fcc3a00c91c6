// Package paths holds the installation's folders and files, stamped into the
// binary at build time (make; see the Makefile's -X flags). The values here are
// those of ./configure --prefix=/usr --sysconfdir=/etc --localstatedir=/var.
package paths

// Stamped with -ldflags "-X instance-debootstrap/pkg/paths.Name=value".
var (
	// Version is the tool's version, as `git describe` gave it to the build.
	Version = "devel"
	// OSDir is the OS definition's folder, where Ganeti finds create and friends.
	OSDir = "/usr/share/ganeti/os/debootstrap"
	// DefaultsFile is the admin's settings file, in bash syntax.
	DefaultsFile = "/etc/default/ganeti-instance-debootstrap"
	// ConfDir holds variants.list, variants/ and hooks/.
	ConfDir = "/etc/ganeti/instance-debootstrap"
	// CacheDir holds the cached root trees (cache-SUITE-ARCH*.tar).
	CacheDir = "/var/cache/ganeti-instance-debootstrap"
	// StateDir holds the names of virtual machines in the making, so that what a
	// killed run left is known even after a crash of the node.
	StateDir = "/var/lib/instance-debootstrap"
	// RunDir is a permanent, empty folder; each run mounts a tmpfs of its own
	// over it, in a mount namespace of its own. Everybody may pass through it, since
	// a hook may reach TARGET as another user.
	RunDir = "/run/instance-debootstrap/work"
	// LockDir holds the lock files of disks, libvirt's guests and cache entries. Nobody else
	// may open one: to read a file is enough to lock it. It is not in /run/lock, where
	// everybody may make a folder before root does.
	LockDir = "/run/instance-debootstrap/lock"
	// MountDir is where vm mount has guests' filesystems; links in /mnt lead there.
	// Nobody but root may pass it: users of the node and of the guest may have the
	// same numbers.
	MountDir = "/run/instance-debootstrap/guest"
)

// RunPrefix is how the folder of a run in RunDir begins, and ServedPrefix, in that, the folder
// of a disk that the run serves.
const (
	RunPrefix    = "run-"
	ServedPrefix = "disk-"
)

// VariantsDir is where VARIANT.conf files are, unless a setting says otherwise.
func VariantsDir() string { return ConfDir + "/variants" }

// LayoutsDir is where the files are that the setting LAYOUT names.
func LayoutsDir() string { return ConfDir + "/layouts" }

// VariantsList is the list of published variants, one a line.
func VariantsList() string { return ConfDir + "/variants.list" }

// ParametersList is the site's own list of OS parameters, added to the program's.
func ParametersList() string { return ConfDir + "/parameters.list" }

// HooksDir is the default of the setting CUSTOMIZE_DIR.
func HooksDir() string { return ConfDir + "/hooks" }
