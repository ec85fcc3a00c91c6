package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"instance-debootstrap/pkg/dpkg"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/session"
)

// Credential is one of systemd's system credentials, which the guest gets at each start. It
// reaches it by a file that QEMU reads (fw_cfg): what is in SMBIOS's strings instead is in
// QEMU's arguments, and in the domain's definition, which everybody on the node may read.
type Credential struct {
	Name string
	Data []byte
}

const (
	// MaxCredentials is less than what is left of the files that a q35 can pass: QEMU
	// aborts where they are too many.
	MaxCredentials = 8
	// MaxCredentialBytes is systemd's limit, of all of them.
	MaxCredentialBytes = 1 << 20
	// fwCfgFolder is where systemd looks, among the files of fw_cfg.
	fwCfgFolder = "opt/io.systemd.credentials/"
	// maxFwCfgName is QEMU's limit of a file's name.
	maxFwCfgName = 55
	// credentialsSince is the systemd that looks there first.
	credentialsSince = 251
)

// credentialName is what systemd, QEMU and a folder on the node all take.
var credentialName = pattern.New(`^[A-Za-z0-9_-][A-Za-z0-9._-]*$`)

var leadingDigits = pattern.New(`^[0-9]+`)

// CheckCredentials refuses what systemd or QEMU would.
func CheckCredentials(list []Credential) error {
	var errs []error
	size, seen := 0, map[string]bool{}
	for _, c := range list {
		longest := maxFwCfgName - len(fwCfgFolder)
		switch {
		case !credentialName().MatchString(c.Name) || len(c.Name) > longest:
			errs = append(errs, fmt.Errorf("%q: a credential's name may have letters, digits, dots, hyphens and underscores, at most %d, and doesn't begin with a dot", c.Name, longest))
		case seen[c.Name]:
			errs = append(errs, fmt.Errorf("%s is given twice: give each name once", c.Name))
		case len(c.Data) == 0:
			errs = append(errs, fmt.Errorf("%s: the file is empty: put the value into it", c.Name))
		}
		seen[c.Name] = true
		size += len(c.Data)
	}
	if size > MaxCredentialBytes {
		errs = append(errs, fmt.Errorf("systemd takes at most %d bytes of credentials: give fewer, or smaller ones", MaxCredentialBytes))
	}
	if len(list) > MaxCredentials {
		errs = append(errs, fmt.Errorf("at most %d: put several values into one", MaxCredentials))
	}
	return errors.Join(errs...)
}

// oldSuites have a systemd that is too old, or another init.
var oldSuites = strings.Fields("wheezy jessie stretch buster bullseye trusty xenial bionic eoan focal groovy hirsute impish jammy")

// checkSuite refuses a guest of a suite that is known not to take credentials, before
// anything is made.
func (v *Wanted) checkSuite() error {
	if suite := v.Order.Settings.Suite; v.Backup == nil && len(v.Credentials) > 0 && slices.Contains(oldSuites, suite) {
		return fmt.Errorf("--credential: %s has no systemd of version %d or later: take a later suite, or give the guest the file by a hook or --first-boot", suite, credentialsSince)
	}
	return nil
}

// takesCredentials refuses a guest whose systemd, or kernel, doesn't find them.
func (v *Wanted) takesCredentials(root *guest.Root) error {
	if len(v.Credentials) == 0 {
		return nil
	}
	status, err := root.ReadFile(dpkg.StatusFile, dpkg.MaxStatus)
	if err != nil {
		return err
	}
	packages, err := dpkg.Parse(status)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(packages, func(p dpkg.Package) bool { return p.Name == "systemd" })
	if i < 0 {
		return errors.New("--credential: the guest has no systemd, which would read it: leave the option out")
	}
	if n, err := strconv.Atoi(leadingDigits().FindString(packages[i].Version)); err != nil || n < credentialsSince {
		return fmt.Errorf("--credential: the guest's systemd is %s, and takes credentials from version %d on: take a later suite", pattern.Quote(packages[i].Version), credentialsSince)
	}
	kernels, err := root.Glob("/lib/modules", "*")
	if err != nil {
		return err
	}
	for _, kernel := range kernels {
		for _, list := range []string{"modules.dep", "modules.builtin"} {
			text, err := root.ReadFile(filepath.Join("/lib/modules", filepath.Base(kernel), list), dpkg.MaxStatus)
			if err == nil && strings.Contains(string(text), "/qemu_fw_cfg.ko") {
				return nil
			}
		}
	}
	return errors.New("--credential: the guest's kernel has no module qemu_fw_cfg, by which systemd reads credentials: take another by --kernel-pkg")
}

// firmwareFiles are the credentials as the domain's definition has them.
func (v *making) firmwareFiles() (files []libvirt.FirmwareFile) {
	for _, c := range v.Credentials {
		files = append(files, libvirt.FirmwareFile{Name: fwCfgFolder + c.Name, File: filepath.Join(credentialsFolder(v.uuid), c.Name)})
	}
	return files
}

// credentialsFolder is where those of a domain lie. QEMU's user passes it, and libvirt gives
// him the files while the guest runs.
func credentialsFolder(uuid string) string {
	return filepath.Join("/var/lib/libvirt/instance-debootstrap", uuid)
}

// isToHaveCredentials tells the plan.
func (v *making) isToHaveCredentials(context.Context) (bool, string) {
	return session.NeededIf(len(v.Credentials) > 0, "--credential was not given")
}

func (v *making) describeCredentials() string {
	var names []string
	for _, c := range v.Credentials {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}

// keepCredentials writes them where QEMU reads them. Should the run end here, they are swept
// with the domain, whose number is written down.
func (v *making) keepCredentials(context.Context) error {
	dir := credentialsFolder(v.uuid)
	if err := os.MkdirAll(dir, 0o711); err != nil { // the session's umask is 022
		return err
	}
	for _, c := range v.Credentials {
		if err := filesystem.WriteDurably(filepath.Join(dir, c.Name), c.Data); err != nil {
			return err
		}
	}
	return filesystem.SyncFolder(filepath.Dir(dir))
}

// Credentials are the names of those that a guest gets at each start.
func (v *VM) Credentials() []string {
	names := []string{}
	for _, file := range v.Domain.FirmwareFiles() {
		if filepath.Dir(filepath.Dir(file)) == credentialsFolder("") {
			names = append(names, filepath.Base(file))
		}
	}
	return names
}

// removeCredentials removes those of a domain that is gone. A copy of it (virt-clone) may
// have them still.
func removeCredentials(ctx context.Context, virsh libvirt.Virsh, uuid string) error {
	dir := credentialsFolder(uuid)
	if _, err := os.Lstat(dir); uuid == "" || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	others, err := otherDomains(ctx, virsh, uuid)
	if err != nil {
		return err
	}
	for _, other := range others {
		if slices.ContainsFunc(other.FirmwareFiles(), func(file string) bool { return filepath.Dir(file) == dir }) {
			return nil
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	os.Remove(filepath.Dir(dir)) // the last one's
	return nil
}
