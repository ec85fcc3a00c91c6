package guest

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/pattern"
)

var portName = pattern.New(`^[A-Za-z0-9]+$`)

func checkPort(port string) error {
	if !portName().MatchString(port) {
		return fmt.Errorf("serial port %q: must be a tty's name, as ttyS0", port)
	}
	return nil
}

// EnableConsole puts a login prompt on a serial port, ttyS0 or hvc0, in the way of
// the init that the guest runs: systemd, sysvinit, upstart or upstart's first
// versions (event.d).
func EnableConsole(ctx context.Context, r *Root, port string) error {
	if err := checkPort(port); err != nil {
		return err
	}
	system := initSystem(r)
	zerolog.Ctx(ctx).Debug().Msgf("console of the guest: %s, for %s", port, system)
	switch system {
	case "systemd":
		return enableUnit(ctx, r, port)
	case "sysvinit":
		return editInittab(r, port)
	case "upstart":
		return r.Put("/etc/init/"+port+".conf", upstartJob(port), 0o644)
	case "event.d":
		return r.Put("/etc/event.d/"+port+".conf", eventJob(port), 0o644)
	}
	zerolog.Ctx(ctx).Warn().Msg("the guest has no init that is known: no login prompt on " + port)
	return nil
}

func enableConsoles(ctx context.Context, r *Root, ports []string) error {
	for _, port := range ports {
		if err := EnableConsole(ctx, r, port); err != nil {
			return err
		}
	}
	return nil
}

// initSystem tells what the guest boots with: systemd where /sbin/init is a link to
// it, else whose configuration is there, else systemd where it is installed (a
// tree without its init package yet).
func initSystem(r *Root) string {
	if target, err := r.Readlink("/sbin/init"); err == nil && path.Base(target) == "systemd" {
		return "systemd"
	}
	switch {
	case r.Exists("/etc/inittab"):
		return "sysvinit"
	case r.Exists("/etc/init"):
		return "upstart"
	case r.Exists("/etc/event.d"):
		return "event.d"
	case r.anyOf("/usr/lib/systemd/systemd", "/lib/systemd/systemd") != "":
		return "systemd"
	}
	return ""
}

// enableUnit does what `systemctl enable serial-getty@PORT` does. systemd starts
// that unit by itself only for ports that the kernel's command line names.
func enableUnit(ctx context.Context, r *Root, port string) error {
	unit := r.anyOf("/usr/lib/systemd/system/serial-getty@.service", "/lib/systemd/system/serial-getty@.service")
	if unit == "" {
		zerolog.Ctx(ctx).Warn().Msg("the guest has no serial-getty@.service: no login prompt on " + port)
		return nil
	}
	const wants = "/etc/systemd/system/getty.target.wants"
	if err := r.MkdirAll(wants, 0o755); err != nil {
		return err
	}
	return r.Symlink(unit, wants+"/serial-getty@"+port+".service")
}

func editInittab(r *Root, port string) error {
	const name = "/etc/inittab"
	old, err := r.ReadFile(name, maxConfig)
	if err != nil {
		return err
	}
	return r.WriteFile(name, []byte(inittab(string(old), port)), 0o644)
}

// inittab returns an inittab(5) with a getty on the port, whose id is T and the
// port's number, or H and it for Xen's. One that is there already stays, another
// entry with that id gives way.
func inittab(old, port string) string {
	id := "T" + port[len(port)-1:]
	if strings.HasPrefix(port, "hvc") {
		id = "H" + port[len(port)-1:]
	}
	entry := id + ":23:respawn:/sbin/getty -L " + port + " 38400 vt102\n"
	var kept strings.Builder
	for line := range strings.Lines(old) {
		f := strings.SplitN(line, ":", 4)
		if len(f) == 4 && !strings.HasPrefix(line, "#") && slices.Contains(strings.Fields(f[3]), port) {
			return old
		}
		if f[0] != id {
			kept.WriteString(line)
		}
	}
	text := kept.String()
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text + entry
}

// upstartJob is a job of upstart 0.6 and later (init(5)).
func upstartJob(port string) string {
	return "# A login prompt on " + port + `

start on stopped rc RUNLEVEL=[2345]
stop on runlevel [!2345]

respawn
exec /sbin/getty -L ` + port + " 38400 vt102\n"
}

// eventJob is a job of upstart before 0.6, which had one event a runlevel.
func eventJob(port string) string {
	return "# A login prompt on " + port + `

start on stopped rc2
start on stopped rc3
start on stopped rc4
start on stopped rc5
stop on runlevel 0
stop on runlevel 1
stop on runlevel 6

respawn
exec /sbin/getty -L ` + port + " 38400 vt102\n"
}
