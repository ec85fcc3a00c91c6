package install

import (
	"instance-debootstrap/pkg/settings"
)

// WaysIn are sentences for whoever has installed a guest by hand: who can log in, where,
// and by what the guest's ssh server is known.
func (r Report) WaysIn() (ways []string) {
	switch r.settings.RootPassword {
	case "blank", "":
		ways = append(ways, "Its console lets root in without a password: set one there (passwd).")
	case "locked":
		ways = append(ways, "Its console lets nobody in: root's password is locked.")
	default:
		ways = append(ways, "Its console lets root in with the password that was set.")
	}
	switch {
	case !r.Receipt.SSHServer:
		return append(ways, "It has no ssh server: --extra-pkgs "+sshServer+" gives it one.")
	case r.settings.SSHAuthorizedKeys != "":
		ways = append(ways, "Its ssh server lets root in with the keys that were given"+address(r.settings))
	default:
		ways = append(ways, "Its ssh server lets root in with a key, and none was given: --ssh-key names one.")
	}
	for _, key := range r.Receipt.SSHHostKeys {
		ways = append(ways, "Its ssh server is known by "+key.Type+" "+key.Fingerprint+".")
	}
	return ways
}

// address ends a sentence on how to reach the guest: none is known by hand.
func address(s *settings.Settings) string {
	if s.Network == "dhcp" {
		return ", at the address that it gets by DHCP."
	}
	return ", once it has a network: by a hook, or by --network dhcp."
}
