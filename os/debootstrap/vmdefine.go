package debootstrap

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/paths"
)

func (v *VM) describeHabits() string {
	n := v.Node
	var parts []string
	for _, text := range []string{n.Timezone.Text, n.Locale.Text} {
		if text != "" {
			parts = append(parts, text)
		}
	}
	if n.Keyboard.Text != "" {
		parts = append(parts, "keyboard")
	}
	return strings.Join(parts, ", ")
}

// takeOver gives the guest the node's time zone, language and keyboard.
func (v *VM) takeOver(ctx context.Context) error {
	n, j := v.Node, v.Job
	hasLocales := false
	err := j.inGuest(ctx, func(root *guest.Root) error {
		hasLocales = n.Locale.Text != "" && root.Exists("/usr/sbin/locale-gen")
		var errs []error
		if zone := "/usr/share/zoneinfo/" + n.Timezone.Text; n.Timezone.Text != "" && root.Exists(zone) {
			errs = append(errs, root.Symlink(zone, "/etc/localtime"), root.WriteFile("/etc/timezone", []byte(n.Timezone.Text+"\n"), 0o644, guest.Reset))
		}
		if hasLocales {
			errs = append(errs, root.WriteFile("/etc/locale.gen", []byte(n.Charsets.Text+"\n"), 0o644, guest.Reset),
				root.WriteFile("/etc/default/locale", []byte("LANG="+n.Locale.Text+"\n"), 0o644, guest.Reset))
		}
		if n.Keyboard.Text != "" {
			errs = append(errs, root.WriteFile("/etc/default/keyboard", []byte(n.Keyboard.Text), 0o644, guest.Reset))
		}
		return errors.Join(errs...)
	})
	if err == nil && hasLocales {
		err = command.Run(ctx, command.Cmd{Chroot: j.target, Quiet: true, Args: []string{"locale-gen"}})
	}
	return err
}

func (v *VM) isUEFI() bool { return v.Firmware != "bios" }

// known is what is noted down of the guest.
func (v *VM) known() libvirt.Guest {
	g := libvirt.Guest{Layout: v.Layout, Pool: v.Pool.Name, Port: v.Network.UserPort, UUID: v.uuid}
	for _, vol := range v.volumes {
		g.Volumes = append(g.Volumes, libvirt.GuestVolume{Role: v.roleOf(vol), Pool: v.Pool.Name, Name: vol.Name, Path: vol.Path})
	}
	if v.Address.IsValid() {
		g.Address = v.Address.Addr().String()
	}
	if v.Network.UserPort > 0 {
		g.Address = "127.0.0.1"
	}
	for _, key := range v.Job.hostKeys {
		g.HostKeys = append(g.HostKeys, key.Public)
	}
	return g
}

// roleOf is what a volume of the guest is for, which is also its serial number.
func (v *VM) roleOf(vol libvirt.Volume) string {
	if vol.Name == v.Guest {
		return "root"
	}
	return strings.TrimPrefix(vol.Name, v.Guest+"-")
}

// define defines the domain: from then on libvirt knows the guest. Until it is
// kept it is swept as its volumes are.
func (v *VM) define(ctx context.Context) error {
	spec := libvirt.Spec{
		Name: v.Guest, UUID: v.uuid, KVM: v.kvm, Arch: v.Arch, UEFI: v.isUEFI(), MemoryKiB: v.MemoryKiB, VCPUs: v.VCPUs,
		MAC: v.MAC, Network: v.Network, Graphical: v.Graphical, LogFile: consoleLog(v.Guest), Guest: v.known(),
	}
	for _, vol := range v.volumes {
		spec.Disks = append(spec.Disks, libvirt.SpecDisk{Volume: vol, Serial: v.roleOf(vol)})
	}
	return v.Virsh.Define(ctx, spec.Domain(), v.session.WorkDir)
}

func (v *VM) isToStart(context.Context) (bool, string) {
	return unless(v.Start, "--start was not given")
}

func (v *VM) isToWait(context.Context) (bool, string) { return unless(v.Wait, "--wait was not given") }

func (v *VM) start(ctx context.Context) error {
	return v.Virsh.Start(ctx, v.uuid)
}

// wait waits until the guest's ssh server says what it is (RFC 4253, 4.2). A guest
// that doesn't come up is removed as after any other failure, so its last words are
// in the error.
func (v *VM) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, v.WaitTime, fmt.Errorf("no answer by ssh within %v", v.WaitTime))
	defer cancel()
	g := Found{Name: v.Guest, Known: v.known(), virsh: v.Virsh}
	for {
		if address, port, err := g.Reach(ctx); err == nil && answers(ctx, address, port) {
			return nil
		}
		if state, err := v.Virsh.State(ctx, v.uuid); err == nil && state != "running" {
			return fmt.Errorf("the guest is %s; its console said last:\n%s", state, lastWords(v.Guest))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; the guest's console said last:\n%s", context.Cause(ctx), lastWords(v.Guest))
		case <-time.After(time.Second):
		}
	}
}

// answers reports whether an ssh server greets at an address.
func answers(ctx context.Context, address string, port int) bool {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	// QEMU's user-mode network accepts before the guest does.
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	context.AfterFunc(ctx, func() { conn.Close() }) // also at the end of this function
	line, err := bufio.NewReader(io.LimitReader(conn, 255)).ReadString('\n')
	return err == nil && strings.HasPrefix(line, "SSH-")
}

// lastWords are the last lines of the guest's serial console.
func lastWords(name string) string {
	f, err := os.Open(consoleLog(name))
	if err != nil {
		return "(" + err.Error() + ")"
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		f.Seek(max(0, size-2000), io.SeekStart)
	}
	text, _ := io.ReadAll(io.LimitReader(f, 2000))
	clean := strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f || r == 0xfffd {
			return -1
		}
		return r
	}, string(text))
	lines := strings.Split(strings.TrimSpace(clean), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// keep makes the guest stay: nothing sweeps it from here on.
func (v *VM) keep(ctx context.Context) error {
	if err := os.Remove(makingPath(v.Guest)); err != nil {
		return err
	}
	v.kept = true
	if err := cache.SyncFolder(paths.StateDir); err != nil {
		warn(ctx, "should the node go down now, %s is removed when it is up again: %v", v.Guest, err)
	}
	return nil
}

// Tell says in one line that the guest is made, and how to get in.
func (v *VM) Tell() string {
	next := "instance-debootstrap vm start " + v.Guest + " starts it"
	if v.Start {
		next = "it runs"
	}
	return fmt.Sprintf("made the guest %s: %s. Ways in: %s", v.Guest, next, v.waysIn())
}

// waysIn are the admin's ways into the guest.
func (v *VM) waysIn() string {
	var ways []string
	if v.Job.keys != "" {
		ways = append(ways, "vm ssh "+v.Guest)
	}
	locked := ""
	switch v.Job.Settings.RootPassword {
	case "locked":
		locked = " Root's password is locked; --root-password-file gives a new guest one."
	case "blank":
		ways = append(ways, "vm console "+v.Guest+", where root has no password")
	default:
		ways = append(ways, "vm console "+v.Guest+", with root's password")
	}
	ways = append(ways, "vm mount "+v.Guest+" while it is off.")
	return strings.Join(ways, "; ") + locked
}
