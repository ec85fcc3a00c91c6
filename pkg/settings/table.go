// Package settings reads the admin's settings: the defaults file and the
// variant, in bash syntax, the environment, and Ganeti's OS parameters, in the
// order in which the shell scripts read them. One table (Table) says what each
// setting is; the annotated defaults file and parameters.list are made from it.
package settings

import "instance-debootstrap/pkg/paths"

// Setting is one line of the table.
type Setting struct {
	Name    string // as the files and the environment have it
	Param   string // Ganeti's OS parameter of the same meaning, "" is none
	Default string
	Range   string // the values that are taken, for people
	Text    string // what it is, for the defaults file and the manual
	Example string // a value to show commented out; "" is the default

	// ofParam checks an OS parameter more narrowly; nil is check.
	ofParam func(value string) error
	// Secret values are shown nowhere, but for the path of a file that holds one.
	Secret bool

	check func(value string) error
}

// Table returns all settings, in the order of the defaults file. The defaults
// that depend on the API version or the installation are as for API 20 and the
// compiled-in folders.
func Table() []Setting {
	out := append([]Setting(nil), table...)
	folders := map[string]string{"CUSTOMIZE_DIR": paths.HooksDir(), "VARIANTS_DIR": paths.VariantsDir(), "CACHE_DIR": paths.CacheDir}
	for i, s := range out {
		if dir, ok := folders[s.Name]; ok {
			out[i].Default = dir
		}
	}
	return out
}

// secrets are the names of the settings that are shown nowhere.
func secrets() (names []string) {
	for _, s := range table {
		if s.Secret {
			names = append(names, s.Name)
		}
	}
	return names
}

// filesystem is the setting that has no name of its own in the scripts' files.
const filesystem = "OSP_FILESYSTEM"

var table = []Setting{
	{Name: "PROXY", Range: "a URL or HOST:PORT", Example: "http://proxy.example:3128/", check: optional(checkProxy),
		Text: "Proxy for http and https, for the bootstrap and for hooks."},
	{Name: "MIRROR", Param: "mirror", Range: "a URL", Example: "http://mirror.example/debian", check: optional(checkURL),
		Text: "The archive to install from. When it is empty the bootstrap tool takes its own default, which differs between Debian and Ubuntu: set it here only if all variants are of one of them."},
	{Name: "SECURITY_MIRROR", Param: "security_mirror", Default: "auto", Range: "auto, none, or a URL", Example: "http://mirror.example/debian-security", check: checkSecurityMirror,
		Text: "Where the suite's security updates come from, for the tree and for the guest's apt. auto is where MIRROR has them, itself or in a folder debian-security beside it, else the distribution's own archive if it answers within seconds; else the guest goes without, and a warning says so. A URL must have them. none is the suite alone, without security and other updates, as the shell scripts made it."},
	{Name: "SNAPSHOT", Param: "snapshot", Range: "a day such as 2026-01-31, or a time such as 20260131T120000Z, in UTC", Example: "2026-01-31", check: optional(checkMoment),
		Text: "The day whose archive the tree is made of: the suite, its updates and its security updates as they were when it began, from SNAPSHOT_MIRROR, so that guests have the same versions until another day is set. The guest's own sources are those of today, MIRROR and SECURITY_MIRROR. Empty is the archive of today for both."},
	{Name: "SNAPSHOT_MIRROR", Param: "snapshot_mirror", Range: "a URL", Example: "http://snapshot.debian.org/archive/debian", check: optional(checkSnapshotMirror),
		Text: "Where snapshots are: the folder that has one for each time, named as 20260131T120000Z. Security updates are in the same folders, or beside it in debian-security. When it is empty it is the distribution's own, http://snapshot.debian.org/archive/debian or http://snapshot.ubuntu.com/ubuntu."},
	{Name: "KEYRING", Range: "the path of a file of keys", Example: "/etc/ganeti/instance-debootstrap/archive.gpg", check: optional(checkKeyring),
		Text: "The keys that the archive is checked with, where they aren't the distribution's own: of a mirror that signs by itself, or a derivative. The guest's apt gets them for these sources."},
	{Name: "EXTRA_SOURCES", Range: "the path of a file NAME.list or NAME.sources", Example: "/etc/ganeti/instance-debootstrap/site.sources", check: optional(checkSourcesPath),
		Text: "More sources of packages, in one of apt's own formats, for EXTRA_PKGS and for the guest: a site's own packages, backports. The keys that it names by Signed-By, files on this node, come into the guest, and so do the pins of a file NAME.pref beside it."},
	{Name: "EXPIRED_ARCHIVE", Default: "warn", Range: "warn, refuse", check: oneOf("warn", "refuse"),
		Text: "What is done about an archive whose Release file is out of date (Valid-Until), as that of a snapshot or of a mirror that stands still is. warn installs from it."},
	{Name: "ARCH", Param: "arch", Range: "a Debian architecture", Example: "i386", check: optional(checkArch),
		Text: "The guest's architecture; empty is the node's."},
	{Name: "SUITE", Param: "suite", Default: "trixie", Range: "a suite that debootstrap knows", check: form(suiteName, "not a suite's name, such as trixie"),
		Text: "The suite to install."},
	{Name: "EXTRA_PKGS", Param: "extra_pkgs", Range: "package names, separated by commas", Example: "openssh-server,linux-image-amd64", check: listOf(packageName, "a package's name"),
		Text: "Packages to install beside the suite's base system."},
	{Name: "COMPONENTS", Param: "components", Range: "component names, separated by commas", Example: "main,contrib,non-free-firmware", check: listOf(componentName, "a component's name"),
		Text: "Components of the archive; empty is the bootstrap tool's own default, main."},
	{Name: "BOOTSTRAP", Param: "bootstrap", Default: "auto", Range: "auto, debootstrap, mmdebstrap", check: oneOf("auto", "debootstrap", "mmdebstrap"),
		Text: "The tool that makes the tree. auto is mmdebstrap, which is faster, where it is installed and gives debootstrap's tree, else debootstrap."},
	{Name: filesystem, Param: "filesystem", Default: "ext4", Range: "ext2, ext3, ext4, xfs, btrfs", check: oneOf(rootTypes...),
		Text: "The root filesystem's type."},
	{Name: "PARTITION_STYLE", Param: "partition_style", Default: "msdos", Range: "none, msdos, gpt", check: oneOf("none", "msdos", "gpt"),
		Text: "The disk's partition table: none formats the whole disk, msdos has one partition, and gpt the root behind what BIOS and UEFI start from (FIRMWARE). Unless it is set, it is none for OS API 5, and gpt where Ganeti starts the guest by UEFI (boot_type=uefi)."},
	{Name: "PARTITION_ALIGNMENT", Default: "2048", Range: "1 to 2097152", check: number("sectors", 1, 1<<21),
		Text: "Where the partition starts is a multiple of this many sectors of 512 bytes."},
	{Name: "LAYOUT", Param: "layout", Range: "the name of a file in the settings' folder layouts, or none", Example: "server", check: optional(checkLayout), ofParam: CheckLayoutName,
		Text: "The partitions of a guest with more than one filesystem, as a file describes them: /boot, /var, /home and swap of their own, or subvolumes of btrfs, a line each. It takes the place of PARTITION_STYLE and of the root filesystem's type. A settings file may also give a file's path."},
	{Name: "swapdev", Range: "a path", Example: "$DISK_1_PATH", check: optional(checkPath),
		Text: "A disk to make swap of, when it is blank or swap already. A disk that Ganeti calls swap needs no setting."},
	{Name: "SWAP_FILE_SIZE", Param: "swap_file_size", Default: "0", Range: "MiB, from 0 to 1048576; 0 is none", Example: "1024", check: number("MiB", 0, 1<<20),
		Text: "The size of a swap file, /swapfile, for an instance without a disk for swap. The root filesystem must have room for it, and can't be btrfs."},
	{Name: "BOOTLOADER", Param: "bootloader", Default: "auto", Range: "auto, none, grub", check: oneOf("auto", "none", "grub"),
		Text: "Whether the guest gets a kernel and a boot loader. auto installs them where the hypervisor boots from the guest's own disk, no hook does it, and there is a kernel and room for it; none is for guests that boot with a kernel of the node; grub fails where it can't be done."},
	{Name: "KERNEL_PKG", Param: "kernel_pkg", Default: "auto", Range: "auto, cloud, or a package's name", check: checkKernel,
		Text: "The kernel: auto is the suite's own metapackage for the architecture, cloud its smaller one for virtual machines, where there is one. Ubuntu's is linux-image-virtual in both cases."},
	{Name: "FIRMWARE", Param: "firmware", Default: "auto", Range: "auto, bios, uefi, both", check: oneOf("auto", "bios", "uefi", "both"),
		Text: "What GRUB is installed for. UEFI needs PARTITION_STYLE=gpt; auto is both with gpt, and bios with msdos."},
	{Name: "GUEST_SERVICES", Param: "guest_services", Default: "power,clock", Range: "power, clock, separated by commas, or none", check: checkServices,
		Text: "What a guest that boots its own kernel gets for its life. power shuts it down in order when its hypervisor asks (gnt-instance shutdown, virsh shutdown): dbus for systemd, else acpid. clock keeps its time: systemd-timesyncd, or what fits another init, unless EXTRA_PKGS names another. With BOOTLOADER=none it gets neither."},
	{Name: "NETWORK", Param: "network", Default: "auto", Range: "auto, none, dhcp, static", check: oneOf("auto", "none", "dhcp", "static"),
		Text: "The guest's network configuration, which is written after the hooks unless one of them has written one. none is lo only; dhcp is every NIC by DHCP; static is the addresses that Ganeti knows, and fails where it knows none; auto is these where it knows some, and else lo only. NIC 0 is nic0 in the guest."},
	{Name: "DNS_NAMESERVERS", Param: "dns_nameservers", Range: "up to 3 addresses, separated by commas", Example: "192.0.2.53,2001:db8::53", check: parsed(parseServers),
		Text: "The name servers that the guest asks; empty is the node's. While it is installed the node's are asked. By DHCP a guest takes those that it is told, where its network's program does."},
	{Name: "DNS_SEARCH", Param: "dns_search", Range: "domains, separated by commas", Example: "example.com", check: checkSearch,
		Text: "The domains in which the guest looks for names without a dot; empty is the node's."},
	{Name: "ROOT_PASSWORD", Param: "root_password", Default: "blank", Range: "blank, locked, or a hash of crypt(5) other than DES", Secret: true, check: checkRootPassword,
		Text: "Root's password. blank lets root in on the console without one. Give a hash as a private or secret OS parameter (-O would show it in Ganeti's configuration): see mkpasswd(1)."},
	{Name: "SSH_AUTHORIZED_KEYS", Param: "ssh_authorized_keys", Range: "the path of a file, or the keys themselves, one a line", check: optional(checkSSHKeys),
		Text: "Keys that may log in as root by ssh. The guest then gets openssh-server too."},
	{Name: "FIRST_BOOT", Param: "first_boot", Range: "the path of a file, or the script itself", Example: "/etc/ganeti/instance-debootstrap/first-boot", Secret: true, check: optional(fileOrText(CheckScript)),
		Text: "A script that the guest runs once, as root, at its first boot, when its network is up. It isn't run again, however it ends. Its log in the guest is /var/log/instance-debootstrap-first-boot.log."},
	{Name: "USER_DATA", Param: "user_data", Range: "the path of a file, or the text itself", Example: "/etc/ganeti/instance-debootstrap/user-data", Secret: true, check: optional(fileOrText(CheckUserData)),
		Text: "User-data for cloud-init, which the guest then gets too: #cloud-config, a script, or a MIME message. The guest's network stays as NETWORK has it."},
	{Name: "DATA_DISKS", Param: "data_disks", Range: "NAME=/FOLDER[:FILESYSTEM], separated by commas", Example: "data=/srv:ext4", check: parsed(parseDataDisks),
		Text: "Disks, by their names in Ganeti (--disk N:name=NAME), that the guest mounts. A blank one gets the filesystem, ext4 unless another is named; one that has it is mounted as it is, and anything else is refused. A name that an instance lacks is left out."},
	{Name: "REINSTALL_KEEP", Param: "reinstall_keep", Range: "folders or files, separated by commas, or none", Example: "/etc/ssh,/srv/app", check: parsed(parseKeep),
		Text: "What a reinstall keeps of the old guest: it is read before the disk is touched, held on the node, and put into the new guest after the hooks, in the place of what that has there. Empty keeps nothing."},
	{Name: "REINSTALL_KEEP_MAX", Default: "1G", Range: "a size such as 20G or 800M", check: checkSize,
		Text: "The most that a reinstall keeps of a guest. The node needs as much room in its folder of state."},
	{Name: "BOOT_TEST", Param: "boot_test", Default: "no", Range: "no, yes", check: oneOf("no", "yes"),
		Text: "Whether create boots a throw-away copy of the guest in QEMU at the end, and fails when it doesn't come up."},
	{Name: "CUSTOMIZE_DIR", Range: "a folder", check: optional(checkPath),
		Text: "The folder of the hooks. A variant that sets it to nothing runs none."},
	{Name: "PROTECT_NODE", Default: "no", Range: "no, yes", check: oneOf("no", "yes"),
		Text: "Whether the node is read-only to hooks, but for TARGET, /dev and NODE_WRITABLE: a hook that follows a link of the guest's then fails where it would have overwritten a file of the node's."},
	{Name: "NODE_WRITABLE", Default: "/tmp,/var/tmp,/run", Range: "folders, separated by commas", check: checkFolders,
		Text: "The node's folders that hooks may write to with PROTECT_NODE=yes."},
	{Name: "VARIANTS_DIR", Range: "a folder", check: checkPath,
		Text: "The folder of the variants' files, VARIANT.conf."},
	{Name: "SHARED_FILES", Default: "warn", Range: "warn, refuse", check: oneOf("warn", "refuse"),
		Text: "What is done about hooks, cached trees and files of ssh keys that a group can write to, or that belong to another user than root, be it by a folder above them. What everybody can write to is refused in any case."},
	{Name: "GENERATE_CACHE", Default: "yes", Range: "yes; anything else is no", check: anything,
		Text: "Whether new trees are kept in the cache. Those that are there are used in any case."},
	{Name: "DERIVE_TREES", Default: "yes", Range: "yes, no", check: oneOf("yes", "no"),
		Text: "Whether a tree that differs from a cached one by more packages alone, or is past its age, is made of that one by apt, which takes seconds. It is bootstrapped all the same once an upgrade would bring further packages or take any away, and 45 days after the last bootstrap. no bootstraps every tree."},
	{Name: "KEEP_PACKAGES", Default: "yes", Range: "yes, no", check: oneOf("yes", "no"),
		Text: "Whether the packages that were fetched for a tree are kept in the folder packages of CACHE_DIR, for other trees. Where an archive is reached by https, or with a password, they aren't. They go when no bootstrap has used them for CLEAN_CACHE days (45 where that is empty), and first when CACHE_MAX_SIZE is reached. GENERATE_CACHE=no keeps none."},
	{Name: "CLEAN_CACHE", Default: "14", Range: "days; empty is never", check: optional(number("days", 0, 36500)),
		Text: "A cached tree that is older is removed before use, unless it is read-only (chmod u-w); 0 is a new tree each day."},
	{Name: "CACHE_STALE_OK", Default: "no", Range: "no, yes", check: oneOf("no", "yes"),
		Text: "Whether a cached tree that is older than CLEAN_CACHE days is used all the same, at once. Have `instance-debootstrap cache warm --all --expired` build it anew meanwhile, from cron or a timer."},
	{Name: "CACHE_MAX_SIZE", Range: "a size such as 20G or 800M; empty is no limit", Example: "20G", check: optional(checkSize),
		Text: "The most that the cache may take. When it takes more the entries that were not used for the longest time go, but none that is read-only, in use, or your own."},
	{Name: "CACHE_DIR", Range: "a folder", check: checkPath,
		Text: "The folder of the cached trees."},
	{Name: "KEEP_RECEIPTS", Default: "no", Range: "no, yes", check: oneOf("no", "yes"),
		Text: "Whether this node keeps the receipt of each guest that is installed here, and what was installed in it, for the command audit."},
	{Name: "RECEIPT_KEY", Range: "the path of a file", Example: "/etc/ganeti/instance-debootstrap/receipt_key", check: optional(checkPath),
		Text: "An ssh private key, without a passphrase and readable by root only, that the guests' receipts are signed with, for `inspect --verify`."},
	{Name: "REFLINK", Default: "auto", Range: "auto, no", check: oneOf("auto", "no"),
		Text: "Whether a disk that is a file on the cache's own filesystem shares the tree's data with the cache where that filesystem can (xfs, btrfs): then a create writes next to nothing, and the disk takes up its own blocks as its guest writes. no copies the data."},
	{Name: "EXPORT_FORMAT", Param: "export_format", Default: "auto", Range: "auto, tar, image, dump", check: oneOf("auto", "tar", "image", "dump"),
		Text: "What export writes of a disk whose filesystem it knows. image holds the used blocks; tar holds its files, which takes longer, and which any tar can list and unpack; auto is image for ext2, ext3 and ext4, and tar for the others; dump, of ext filesystems only, is what nodes with the shell scripts read."},
	{Name: "IMPORT_UUID", Param: "import_uuid", Default: "keep", Range: "keep, new", check: oneOf("keep", "new"),
		Text: "Whether an imported filesystem keeps the UUID that its backup's own files name, or gets a new one, which is then written into these files. new is for a copy that runs beside the original on one node or in one guest."},
	{Name: "GUEST_FSCK", Default: "auto", Range: "auto, full", check: oneOf("auto", "full"),
		Text: "How a filesystem that a guest has written is checked before this node's kernel mounts it: in rename, export, grow, inspect, mount and the vm commands. auto does what the guest's own boot would; full looks at all of it, whatever it says of itself, which takes from seconds to minutes, and refuses it where something is wrong that can't be mended without a question."},
	{Name: "METADATA_LOSS", Param: "metadata_loss", Default: "fail", Range: "fail, warn", check: oneOf("fail", "warn"),
		Text: "What becomes of a backup, an import or a create when a file's extended attributes, ACLs or capabilities can't be read or set. fail ends it and says which; warn goes on, with one warning that counts them."},
	{Name: "METRICS_DIR", Range: "a folder; empty is none", Example: "/var/lib/prometheus/node-exporter", check: optional(checkPath),
		Text: "The folder of node_exporter's textfile collector, into which each create, and `instance-debootstrap metrics`, write figures for Prometheus."},
	{Name: "NAMESPACE", Default: "private", Range: "private, host", check: oneOf("private", "host"),
		Text: "private runs in namespaces of its own, where nothing outlives a killed run; host shows TARGET to the node's daemons and gives that up."},
}

// byParam returns the setting of an OS parameter.
func byParam(param string) (Setting, bool) {
	for _, s := range table {
		if s.Param != "" && s.Param == param {
			return s, true
		}
	}
	return Setting{}, false
}

// checkParam checks the value of an OS parameter.
func (s Setting) checkParam(value string) error {
	if s.ofParam != nil {
		return s.ofParam(value)
	}
	return s.check(value)
}
