package guest

import (
	"crypto/rand"
	"errors"
	"fmt"

	"instance-debootstrap/pkg/network"
)

// ResetMachineID leaves an empty /etc/machine-id, which the first boot fills: what
// machine-id(5) recommends for trees that are copied (a missing file would make it
// a "first boot", with all presets applied anew). Its mode is that of
// systemd-machine-id-setup(1). Another init than systemd never fills it: its guest
// gets an ID at once. D-Bus's copy goes, since systemd would take the ID from
// there; where it is a link to /etc/machine-id it stays.
func ResetMachineID(r *Root) error {
	var id []byte
	if system := initSystem(r); system != "" && system != "systemd" {
		random := make([]byte, 16)
		if _, err := rand.Read(random); err != nil {
			return err
		}
		id = fmt.Appendf(nil, "%x\n", random)
	}
	if err := r.WriteFile("/etc/machine-id", id, 0o444, Reset); err != nil {
		return err
	}
	const dbus = "/var/lib/dbus/machine-id"
	if st, err := r.Lstat(dbus); err == nil && st.Mode().IsRegular() {
		return r.Remove(dbus)
	}
	return nil
}

// RemoveHostKeys removes the ssh host keys that came with a copied tree: guests
// must not share them. Nothing makes new ones at boot (trixie's
// sshd-keygen.service does on a "first boot" only, which an empty machine ID
// rules out): the caller does, and see WantRSAKey.
func RemoveHostKeys(r *Root) error {
	names, err := r.Glob("/etc/ssh", "ssh_host_*")
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, r.removeAll("/etc/ssh/"+name))
	}
	return errors.Join(errs...)
}

// RemoveLeftovers removes what else belongs to one machine only: the saved random
// seeds (systemd's and sysvinit's), the key of systemd's credentials
// (systemd-creds(1)), and udev's names for the interfaces of the machine the tree
// was made on.
func RemoveLeftovers(r *Root) error {
	return r.removeAll(
		"/var/lib/systemd/random-seed",
		"/var/lib/systemd/credential.secret",
		"/var/lib/urandom/random-seed",
		"/etc/udev/rules.d/70-persistent-net.rules",
		"/etc/udev/rules.d/z25_persistent-net.rules",
		network.RulesFile,
	)
}
