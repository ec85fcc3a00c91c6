package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"instance-debootstrap/pkg/pattern"
)

// Names is what a guest's own files call its disks, for a backup that doesn't
// say it. Each value has the form of what it is, or is "".
type Names struct {
	RootUUID     string
	RootLabel    string
	RootPartUUID string
	RootDevice   string // /dev/…
	SwapUUIDs    []string
	HasESP       bool
	ESPUUID      string
}

var (
	uuidText     = pattern.New(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
	partUUIDText = pattern.New(`^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{2}$`)
	labelText    = pattern.New(`^[A-Za-z0-9_.:+/@ ][A-Za-z0-9_.:+/@ -]*$`)
	deviceText   = pattern.New(`^/dev/[A-Za-z0-9_/.:+-]+$`)

	grubSearch = pattern.New(`(?m)^\s*search\s[^\n]*--fs-uuid\s[^\n]*?([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})`)
	grubRoot   = pattern.New(`(?m)^\s*linux\S*\s[^\n]*\sroot=(UUID|PARTUUID)=([0-9A-Fa-f-]{11,36})\b`)
)

// Bounds of the files by which a guest boots: bytes of one, of which a grub.cfg has a
// few KiB for each kernel, and of all; files that one of idFiles' patterns fits.
const (
	maxGrubConfig = 4 << 20
	maxIDBytes    = 32 << 20
	maxIDFiles    = 1000
)

// ReadNames reads how fstab names the root, the swap areas and the EFI
// partition, and, where fstab gives the root no UUID, how grub.cfg does. A guest
// without fstab has no names.
func ReadNames(r *Root) (Names, error) {
	var n Names
	text, err := ReadFstab(r)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return n, err
	}
	n.readFstab(text)
	if n.RootUUID == "" {
		return n, n.fromGrub(r)
	}
	return n, nil
}

func (n *Names) readFstab(text []byte) {
	for _, e := range ParseFstab(text) {
		kind, value := deviceName(e.Device)
		switch {
		case e.Dir == "/":
			n.nameRoot(kind, value)
		case e.Type == "swap" && kind == "UUID" && uuidText().MatchString(value):
			n.SwapUUIDs = append(n.SwapUUIDs, strings.ToLower(value))
		case e.IsESP():
			n.HasESP = true
			if kind == "UUID" {
				n.ESPUUID = value
			}
		}
	}
}

// deviceName takes a device field of fstab(5) apart; libmount takes quoted
// values.
func deviceName(device string) (kind, value string) {
	kind, value, ok := strings.Cut(device, "=")
	if !ok {
		return "", device
	}
	return kind, strings.Trim(value, `"'`)
}

func (n *Names) nameRoot(kind, value string) {
	switch {
	case kind == "UUID" && uuidText().MatchString(value):
		n.RootUUID = strings.ToLower(value)
	case kind == "LABEL" && len(value) <= 16 && labelText().MatchString(value):
		n.RootLabel = value
	case kind == "PARTUUID" && (uuidText().MatchString(value) || partUUIDText().MatchString(value)):
		n.RootPartUUID = strings.ToLower(value)
	case kind == "" && strings.HasPrefix(value, "/dev/disk/by-uuid/") && uuidText().MatchString(path.Base(value)):
		n.RootUUID = strings.ToLower(path.Base(value))
	case kind == "" && len(value) <= len("/dev/")+64 && deviceText().MatchString(value):
		n.RootDevice = value
	}
}

func (n *Names) fromGrub(r *Root) error {
	text, err := r.ReadFile("/boot/grub/grub.cfg", maxGrubConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	n.readGrub(text)
	return nil
}

func (n *Names) readGrub(text []byte) {
	if m := grubRoot().FindSubmatch(text); m != nil {
		n.nameRoot(string(m[1]), string(m[2]))
	}
	// GRUB's own idea of the root counts where there is no /boot of its own.
	if m := grubSearch().FindSubmatch(text); m != nil && n.RootUUID == "" {
		n.RootUUID = strings.ToLower(string(m[1]))
	}
}

// idFiles are the files in which a guest's boot names its disks; patterns are of
// path.Match, in their last component.
var idFiles = []string{
	"/etc/fstab", "/etc/crypttab", "/etc/default/grub", "/etc/default/grub.d/*", "/etc/kernel/cmdline",
	"/etc/initramfs-tools/conf.d/*", "/etc/initramfs-tools/initramfs.conf",
	"/boot/grub/grub.cfg", "/boot/grub/custom.cfg", "/boot/grub/menu.lst", "/boot/grub/x86_64-efi/load.cfg", "/boot/grub/i386-pc/load.cfg",
	"/boot/extlinux/*", "/boot/syslinux/*", "/boot/loader/entries/*", "/boot/efi/EFI/debian/grub.cfg",
}

// maxID is the length of the longest id, a UUID.
const maxID = 36

// ReplaceIDs changes UUIDs and PARTUUIDs in the files by which the guest boots,
// and returns the names of those that had one. Only whole words are changed. A
// folder in a file's place has none; a device node, a file too large, or more than 32
// MiB in all, is an error.
func ReplaceIDs(r *Root, ids map[string]string) (changed []string, err error) {
	left := int64(maxIDBytes)
	for _, glob := range idFiles {
		names, err := r.idFiles(glob)
		if err != nil {
			return changed, err
		}
		for _, name := range names {
			did, err := replaceIDs(r, name, ids, &left)
			if err != nil {
				return changed, err
			}
			if did {
				changed = append(changed, name)
			}
		}
	}
	slices.Sort(changed)
	return changed, nil
}

// idFiles are the guest's files that one of the patterns fits.
func (r *Root) idFiles(glob string) (names []string, err error) {
	dir, base := path.Split(glob)
	if !strings.Contains(base, "*") {
		return []string{glob}, nil
	}
	found, err := r.Glob(dir, base)
	if err == nil && len(found) > maxIDFiles {
		err = fail("read folder", dir, fmt.Errorf("it has %d files, more than %d", len(found), maxIDFiles))
	}
	for _, name := range found {
		names = append(names, dir+name)
	}
	return names, err
}

// replaceIDs changes one file; left is how many bytes may still be read.
func replaceIDs(r *Root, name string, ids map[string]string, left *int64) (bool, error) {
	if st, err := r.Stat(name); errors.Is(err, fs.ErrNotExist) || err == nil && st.IsDir() {
		return false, nil
	}
	old, err := r.ReadFile(name, maxGrubConfig)
	if err != nil {
		return false, err
	}
	if *left -= int64(len(old)); *left < 0 {
		return false, fmt.Errorf("the guest's files that name its disks have more than %d MiB: the import can't give them new UUIDs, leave IMPORT_UUID at keep", maxIDBytes>>20)
	}
	edited := replaceWords(old, ids)
	if bytes.Equal(edited, old) {
		return false, nil
	}
	return true, r.WriteFile(name, edited, 0o644, Follow)
}

// replaceWords changes the words of a text that are among the ids, in any case. A
// word is what may be a UUID, a PARTUUID of msdos or a disk's id.
func replaceWords(text []byte, ids map[string]string) []byte {
	var out bytes.Buffer
	inWord := func(c byte) bool {
		return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '-'
	}
	for at := 0; at < len(text); {
		end := at
		for end < len(text) && inWord(text[end]) {
			end++
		}
		if id, ok := ids[strings.ToLower(string(text[at:min(end, at+maxID)]))]; ok && end-at <= maxID {
			out.WriteString(id)
		} else {
			out.Write(text[at:end])
		}
		for at = end; at < len(text) && !inWord(text[at]); at++ {
			out.WriteByte(text[at])
		}
	}
	return out.Bytes()
}

var wordText = pattern.New(`^[a-z][a-z0-9-]+$`)

// isWord tells whether a text can be the name of a suite or distribution.
func isWord(s string) bool { return len(s) <= 31 && wordText().MatchString(s) }

// debianReleases are the suites of the numbers in /etc/debian_version.
var debianReleases = map[string]string{
	"6": "squeeze", "7": "wheezy", "8": "jessie", "9": "stretch", "10": "buster",
	"11": "bullseye", "12": "bookworm", "13": "trixie",
}

// ReadSuite returns the guest's suite, from os-release(5) or
// /etc/debian_version; "" when they don't say it.
func ReadSuite(r *Root) string {
	if name := osRelease(r, "VERSION_CODENAME"); name != "" {
		return name
	}
	text, _ := r.ReadFile("/etc/debian_version", maxConfig)
	return suiteOf(string(text))
}

// suiteOf reads what /etc/debian_version says: "13.1" or "forky/sid".
func suiteOf(text string) string {
	version := strings.TrimSpace(text)
	number, _, _ := strings.Cut(version, ".")
	name, _, _ := strings.Cut(version, "/")
	switch {
	case debianReleases[number] != "":
		return debianReleases[number]
	case isWord(name):
		return name
	}
	return ""
}

// Distribution returns the ID of os-release(5), such as "debian", or "".
func Distribution(r *Root) string { return osRelease(r, "ID") }

// osRelease returns a value of os-release(5) that is a single word, or "".
func osRelease(r *Root, key string) string {
	text, _ := r.ReadFile("/etc/os-release", maxConfig)
	return osReleaseValue(string(text), key)
}

func osReleaseValue(text, key string) string {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			if value = strings.Trim(value, `"'`); isWord(value) {
				return value
			}
		}
	}
	return ""
}

// GRUB is what a guest has of its boot loader.
type GRUB struct {
	Modules string // the folder of its modules for BIOS, "" is none
	Config  bool   // it has a grub.cfg
	EFI     bool   // it has what firmware starts
}

// HasGRUB looks for the guest's GRUB.
func HasGRUB(r *Root) GRUB {
	g := GRUB{Config: r.Exists("/boot/grub/grub.cfg")}
	// Only the package's own folder has all that a core image is made of.
	if dir := "/usr/lib/grub/i386-pc"; r.Exists(dir + "/kernel.img") {
		g.Modules = dir
	}
	g.EFI = r.anyOf("/boot/grub/x86_64-efi", "/boot/grub/arm64-efi", "/boot/efi/EFI") != ""
	return g
}
