package settings

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"instance-debootstrap/pkg/pattern"
)

func checkKernel(v string) error {
	if v == "auto" || v == "cloud" || packageName().MatchString(v) {
		return nil
	}
	return errors.New("must be auto, cloud or a package's name, such as linux-image-amd64")
}

func checkServices(v string) error {
	names := list(v)
	if len(names) == 0 {
		return errors.New("names nothing: none leaves both out")
	}
	for _, name := range names {
		if name != "power" && name != "clock" && (name != "none" || len(names) > 1) {
			return fmt.Errorf("%q: must be power, clock, both with a comma between, or none", name)
		}
	}
	return nil
}

// services are those that a checked GUEST_SERVICES names.
func services(v string) []string {
	return slices.DeleteFunc(list(v), func(name string) bool { return name == "none" })
}

// maxServers is how many name servers resolv.conf(5) may have (MAXNS): the C library
// asks no further one.
const maxServers = 3

func parseServers(v string) (servers []netip.Addr, err error) {
	for _, text := range list(v) {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			return nil, fmt.Errorf("%q is not a name server's address, such as 192.0.2.53", text)
		}
		servers = append(servers, a)
	}
	if len(servers) > maxServers {
		return nil, fmt.Errorf("names %d servers, and a guest's C library asks no more than %d", len(servers), maxServers)
	}
	return servers, nil
}

// searchDomain keeps to what every program of a guest's network takes in its file.
var searchDomain = pattern.New(`^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?\.?$`)

func checkSearch(v string) error {
	for _, domain := range list(v) {
		if !searchDomain().MatchString(domain) || strings.Contains(domain, "..") || len(domain) > 254 {
			return fmt.Errorf("%q is not a domain's name, such as example.com", domain)
		}
	}
	return nil
}

// sshKey is a public key as authorized_keys (sshd(8)) has it; options may stand
// before it.
var sshKey = pattern.New(`(^|[ ",])(ssh-(rsa|ed25519|dss)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com) [A-Za-z0-9+/]+={0,3}( |$)`)

func checkSSHKeys(v string) error {
	if strings.HasPrefix(v, "/") {
		return checkPath(v)
	}
	return CheckAuthorizedKeys(v)
}

// CheckAuthorizedKeys fails where a line is neither blank, a comment nor a public
// key, or where there is no key.
func CheckAuthorizedKeys(text string) error {
	keys := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.Contains(line, "PRIVATE KEY") {
			return errors.New("holds a private key; give the public one (.pub)")
		}
		if !sshKey().MatchString(line) {
			return errors.New("a line is not a public key, such as \"ssh-ed25519 AAAA… name\"")
		}
		keys++
	}
	if keys == 0 {
		return errors.New("holds no key")
	}
	return nil
}

// DataDisk is a disk that the guest mounts.
type DataDisk struct {
	Name       string // in Ganeti
	Folder     string // where it is mounted, an absolute path
	Filesystem string
}

var diskName = pattern.New(`^[A-Za-z0-9._-]+$`)

// systemFolder matches where a new system keeps what it boots with, and what the
// kernel provides.
var systemFolder = pattern.New(`^/((bin|boot|etc|lib|lib32|lib64|libx32|sbin|usr|var)$|(dev|proc|run|sys)(/|$))`)

// ownState matches what says of a guest what is installed in it, and what it is still to do.
var ownState = pattern.New(`^/var/lib($|/(dpkg|instance-debootstrap)(/|$))`)

// keepNone is the word for nothing: an OS parameter that is empty is none at all.
const keepNone = "none"

// parseKeep reads what a reinstall keeps.
func parseKeep(v string) (keep []string, err error) {
	if v == keepNone {
		return nil, nil
	}
	for _, name := range list(v) {
		switch {
		case !strings.HasPrefix(name, "/") || path.Clean(name) == "/" || strings.ContainsAny(name, "\\\"'\x00"):
			return nil, fmt.Errorf("%q: must be an absolute path other than /", name)
		case path.Clean(name) != name:
			return nil, fmt.Errorf("%q: write it as %s", name, path.Clean(name))
		case systemFolder().MatchString(name):
			return nil, fmt.Errorf("%q: the new guest's own files are there: name what is below it", name)
		case ownState().MatchString(name):
			return nil, fmt.Errorf("%q: says what is installed in the new guest, where the old one's would be wrong: name another folder in /var/lib", name)
		case name == "/etc/fstab":
			return nil, fmt.Errorf("%q: names the old disk's filesystems, so the new guest wouldn't boot", name)
		}
		for _, other := range keep {
			if strings.HasPrefix(name+"/", other+"/") || strings.HasPrefix(other+"/", name+"/") {
				return nil, fmt.Errorf("%q is kept by %q, or the other way round: name the upper one", name, other)
			}
		}
		keep = append(keep, name)
	}
	return keep, nil
}

func parseDataDisks(v string) (disks []DataDisk, err error) {
	for _, entry := range list(v) {
		name, rest, _ := strings.Cut(entry, "=")
		folder, filesystem, given := strings.Cut(rest, ":")
		if !given {
			filesystem = "ext4"
		}
		switch {
		case !diskName().MatchString(name) || name == "swap":
			return nil, fmt.Errorf("%q: must be NAME=/FOLDER or NAME=/FOLDER:FILESYSTEM", entry)
		case !strings.HasPrefix(folder, "/") || path.Clean(folder) != folder || folder == "/" || strings.ContainsAny(folder, "\\\"'\x00"):
			return nil, fmt.Errorf("%q: the folder must be an absolute path other than /", entry)
		case systemFolder().MatchString(folder):
			return nil, fmt.Errorf("%q: a disk mounted there would hide what the guest boots with", entry)
		case !slices.Contains(rootTypes, filesystem):
			return nil, fmt.Errorf("%q: the filesystem must be one of ext2, ext3, ext4, xfs, btrfs", entry)
		case slices.ContainsFunc(disks, func(d DataDisk) bool { return d.Name == name || d.Folder == folder }):
			return nil, fmt.Errorf("%q: a disk or a folder is named twice", entry)
		case slices.ContainsFunc(disks, func(d DataDisk) bool {
			return strings.HasPrefix(d.Folder, folder+"/") || strings.HasPrefix(folder, d.Folder+"/")
		}):
			return nil, fmt.Errorf("%q: a disk can't be mounted on a folder of another one", entry)
		}
		disks = append(disks, DataDisk{name, folder, filesystem})
	}
	return disks, nil
}
