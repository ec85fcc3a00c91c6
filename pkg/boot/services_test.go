package boot

import (
	"strings"
	"testing"
)

func TestWhatAGuestGetsForItsLife(t *testing.T) {
	both := []string{ServicePower, ServiceClock}
	for _, c := range []struct {
		name   string
		change func(*Wish)
		want   string
	}{
		{"systemd", nil, "dbus systemd-timesyncd"},
		{"sid", func(w *Wish) { w.Suite = "sid" }, "dbus systemd-timesyncd"},
		{"the clock is in systemd's package", func(w *Wish) { w.Suite = "buster" }, "dbus"},
		{"before systemd", func(w *Wish) { w.Suite = "wheezy" }, "acpid acpi-support-base ntp"},
		{"upstart", func(w *Wish) { w.Distribution, w.Suite = "ubuntu", "trusty" }, "acpid ntp"},
		{"ubuntu", func(w *Wish) { w.Distribution, w.Suite = "ubuntu", "noble" }, "dbus systemd-timesyncd"},
		{"ubuntu before systemd", func(w *Wish) { w.Distribution, w.Suite = "ubuntu", "hardy" }, "acpid ntp"},
		{"ubuntu with chrony", func(w *Wish) { w.Distribution, w.Suite = "ubuntu", "resolute" }, "dbus"},
		{"ubuntu without dbus-daemon", func(w *Wish) { w.Distribution, w.Suite = "ubuntu", "stonking" }, "dbus-broker"},
		{"ubuntu that is newer than this", func(w *Wish) { w.Distribution, w.Suite = "ubuntu", "zany" }, "dbus-broker"},
		{"sysvinit by the admin", func(w *Wish) { w.OtherInit = true }, "acpid acpi-support-base chrony"},
		{"another clock", func(w *Wish) { w.ExtraPkgs = []string{"vim", "chrony"} }, "dbus"},
		{"power alone", func(w *Wish) { w.Services = []string{ServicePower} }, "dbus"},
		{"neither", func(w *Wish) { w.Services = nil }, ""},
		{"a kernel of the node", func(w *Wish) { w.Loader = "none" }, ""},
	} {
		w := wish(func(w *Wish) {
			w.Services = both
			if c.change != nil {
				c.change(w)
			}
		})
		p, _, err := Choose(w)
		if got := strings.Join(p.Services, " "); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}
