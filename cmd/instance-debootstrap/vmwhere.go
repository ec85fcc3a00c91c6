package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/session"
)

// connectFlag is virsh's and virt-install's, so that it is answered and not unknown.
var connectFlag = &cli.StringFlag{Name: "connect", Aliases: []string{"c"}, Usage: "`URI` of libvirt: " + libvirt.URI + ", and no other"}

// rootsCommands make, mount and remove; what the others do, libvirtd decides on.
var rootsCommands = []string{"create", "mount", "umount", "grub", "grow", "remove"}

// mayCall refuses a vm command for another libvirt than the node's own, as virsh would
// take it from connect and the environment, and one whose caller may not.
func mayCall(c *cli.Context, name, connect string) error {
	env := environment()
	for _, from := range []struct{ name, uri string }{
		{"--connect", connect}, {"VIRSH_DEFAULT_CONNECT_URI", env.VirshURI}, {"LIBVIRT_DEFAULT_URI", env.LibvirtURI},
	} {
		switch from.uri {
		case "":
			continue
		case libvirt.URI, "qemu+unix:///system":
		default:
			return fmt.Errorf("%s is %q, and guests are made and looked after on the node itself only: log in there, or give --connect %s", from.name, from.uri, libvirt.URI)
		}
		break
	}
	switch {
	case os.Geteuid() == 0:
		return nil
	case slices.Contains(rootsCommands, name):
		return session.ErrNotRoot
	}
	if (libvirt.Virsh{}).Check(c.Context) != nil {
		return errors.New("libvirtd doesn't let you in, or doesn't run: run it as root, or have yourself put into the group libvirt (adduser NAME libvirt)")
	}
	return nil
}
