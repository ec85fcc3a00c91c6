package main

import "github.com/kelseyhightower/envconfig"

// variables are those of its own environment that the program heeds by itself. Ganeti's and
// the settings' are read elsewhere, since they are also made: by install and vm create.
type variables struct {
	SizeFD     string `envconfig:"EXP_SIZE_FD"`    // the descriptor that takes the stream's length (ganeti-os-interface(7))
	FUSESocket string `envconfig:"_FUSE_COMMFD"`   // the socket of userspace.Hand
	APIVersion string `envconfig:"OS_API_VERSION"` // Ganeti's, or who plays it
	GuestFsck  string `envconfig:"GUEST_FSCK"`     // where no settings can be read
	VirshURI   string `envconfig:"VIRSH_DEFAULT_CONNECT_URI"`
	LibvirtURI string `envconfig:"LIBVIRT_DEFAULT_URI"`
}

// environment reads them. Texts are never wrong, so there is no error.
func environment() (v variables) {
	envconfig.MustProcess("", &v)
	return v
}
