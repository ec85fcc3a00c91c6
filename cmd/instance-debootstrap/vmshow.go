package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/node"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
	"instance-debootstrap/pkg/vm"
)

// vmView is a guest as it is shown.
type vmView struct {
	Guest       string                  `json:"guest"`
	State       string                  `json:"state"`
	Why         string                  `json:"state_reason,omitempty"` // of a paused one, in virsh's words
	UUID        string                  `json:"uuid"`
	CopyOf      string                  `json:"copy_of,omitempty"` // the UUID of the domain that virt-clone took
	Layout      string                  `json:"layout"`
	Firmware    string                  `json:"firmware"` // bios or uefi
	MemoryBytes int64                   `json:"memory_bytes"`
	VCPUs       int                     `json:"vcpus"`
	Autostart   bool                    `json:"autostart"`
	Graphics    string                  `json:"graphics"` // none, vnc, …
	NICs        []vmNICView             `json:"nics"`
	Address     string                  `json:"address"` // of ssh; "" is not known
	Port        int                     `json:"port"`
	Volumes     map[string]vmVolumeView `json:"volumes"`
	Others      []string                `json:"other_disks"`
	Credentials []string                `json:"credentials"` // their names
	HostKeys    []string                `json:"host_keys"`
}

// vmNICView is a network interface: of libvirt's network, of a bridge, or of QEMU's own
// user-mode network.
type vmNICView struct {
	MAC     string `json:"mac"`
	Network string `json:"network,omitempty"`
	Bridge  string `json:"bridge,omitempty"`
	User    bool   `json:"user_net,omitempty"`
}

func (n vmNICView) link() string {
	if n.User {
		return "QEMU's user-mode network"
	}
	return n.Network + n.Bridge
}

type vmVolumeView struct {
	Path      string `json:"path"`
	Pool      string `json:"pool"`
	SizeBytes int64  `json:"bytes"`
}

// view puts together what is shown of a guest; started are the UUIDs of the domains that start with
// the node.
func view(ctx context.Context, f *vm.VM, started []string) vmView {
	d := f.Domain
	v := vmView{
		Guest: f.Name, State: f.State, Why: f.Why, UUID: d.UUID, CopyOf: f.CopyOf, Layout: f.Known.Layout, HostKeys: f.Known.HostKeys, Others: f.Others,
		Firmware: d.Firmware(), MemoryBytes: d.Memory.Bytes(), VCPUs: d.VCPUs, Autostart: slices.Contains(started, d.UUID), Graphics: "none",
		Credentials: f.Credentials(), NICs: []vmNICView{}, Volumes: map[string]vmVolumeView{},
	}
	if d.Devices.Graphics != nil {
		v.Graphics = d.Devices.Graphics.Type
	}
	for _, nic := range d.Devices.Interfaces {
		v.NICs = append(v.NICs, vmNICView{MAC: nic.MAC.Address, Network: nic.Source.Network, Bridge: nic.Source.Bridge})
	}
	if mac := d.UserMAC(); mac != "" {
		v.NICs = append(v.NICs, vmNICView{MAC: mac, User: true})
	}
	if address, port, err := f.Reach(ctx); err == nil {
		v.Address, v.Port = address, port
	}
	for role, vol := range f.Disks {
		v.Volumes[role] = vmVolumeView{vol.Path, vol.Pool, vol.SizeBytes}
	}
	return v
}

func (p *program) vmShow(c *cli.Context, guest string) error {
	f, err := vm.Find(c.Context, libvirt.Virsh{}, guest)
	if err != nil {
		return err
	}
	started, err := libvirt.Virsh{}.Autostarted(c.Context)
	if err != nil {
		return err
	}
	v := view(c.Context, f, started)
	if c.Bool("json") {
		return json.NewEncoder(os.Stdout).Encode(v)
	}
	fmt.Printf("guest: %s\nstate: %s\nuuid: %s\nlayout: %s\nfirmware: %s\nmemory: %d MiB\nvcpus: %d\nautostart: %s\ngraphics: %s\naddress: %s\nport: %d\n",
		v.Guest, stateOf(v), v.UUID, v.Layout, v.Firmware, v.MemoryBytes>>20, v.VCPUs, yesNo(v.Autostart), v.Graphics, v.Address, v.Port)
	for _, nic := range v.NICs {
		fmt.Printf("nic: %s %s\n", nic.MAC, nic.link())
	}
	for _, role := range f.Roles() {
		if vol, ok := v.Volumes[role]; ok {
			fmt.Printf("%s: %s (%d MiB, pool %s)\n", role, vol.Path, vol.SizeBytes>>20, vol.Pool)
		}
	}
	for _, name := range v.Credentials {
		fmt.Println("credential: " + name)
	}
	for _, key := range v.HostKeys {
		fmt.Println("host key: " + fingerprint(key))
	}
	return nil
}

// stateOf is a guest's state as people read it.
func stateOf(v vmView) string {
	if v.Why == "" {
		return v.State
	}
	return fmt.Sprintf("%s (%s)", v.State, v.Why)
}

// fingerprint is a host key, "TYPE BASE64", as ssh(1) shows it before the first login.
func fingerprint(key string) string {
	kind, text, _ := strings.Cut(key, " ")
	blob, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return key
	}
	sum := sha256.Sum256(blob)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:]) + " " + kind
}

func yesNo(b bool) string { return map[bool]string{true: "yes", false: "no"}[b] }

// vmDefaults prints the keys as ~/.vmbootstrap could have them, with or without
// where they come from.
func (p *program) vmDefaults(ctx context.Context, origins bool) error {
	return p.apart(ctx, func(ctx context.Context, _ *session.Session) error { return p.printDefaults(ctx, origins) })
}

func (p *program) printDefaults(ctx context.Context, origins bool) error {
	facts := node.Read(ctx, "/", "")
	links, linkErr := findLinks(ctx, libvirt.Virsh{}, vmOptions{}, facts)
	if linkErr == nil {
		links[0].tell(&facts)
	}
	keys, _, err := p.vmKeys(ctx, facts)
	if err != nil {
		return err
	}
	for _, k := range settings.VMKeys() {
		line := fmt.Sprintf("%s=%q", k.Name, keys[k.Name].Text)
		if origins {
			line = fmt.Sprintf("%-44s # %s", line, keys[k.Name].Origin)
		}
		fmt.Println(line)
	}
	if !origins {
		return nil
	}
	say := func(what, text, origin string) {
		if text != "" {
			first, _, _ := strings.Cut(text, "\n")
			fmt.Printf("# %s: %s (%s)\n", what, first, origin)
		}
	}
	if linkErr == nil && links[0].Bridge == "" {
		say("network", links[0].Name, "libvirt's, since the node has no bridge")
	} else if linkErr != nil {
		say("network", "none", linkErr.Error())
	}
	pool, err := libvirt.Virsh{}.FindPool(ctx, "", "")
	if err != nil {
		say("pool", "none", err.Error())
	} else {
		say("pool", pool.Name, fmt.Sprintf("%s, %d MiB free of %d", pool.Path, pool.FreeBytes>>20, pool.CapacityBytes>>20))
	}
	for _, fact := range []struct {
		what string
		v    node.Value
	}{
		{"bridge", facts.Bridge}, {"time zone", facts.Timezone}, {"locale", facts.Locale}, {"keyboard", facts.Keyboard}, {"ssh keys", facts.SSHKeys},
	} {
		say(fact.what, fact.v.Text, fact.v.Origin)
	}
	for _, own := range [][2]string{
		{"layout", vm.LayoutThree}, {"firmware", "bios"}, {"graphics", "none"}, {"autostart", "yes"}, {"MAC", "random, 52:54:00:…"},
	} {
		say(own[0], own[1], "the default")
	}
	return nil
}
