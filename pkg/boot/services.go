package boot

import (
	"slices"
	"strings"

	"instance-debootstrap/pkg/ubuntu"
)

// What GUEST_SERVICES can name.
const (
	// ServicePower lets the guest shut down in order when its hypervisor asks: the
	// ACPI power button, which Ganeti's shutdown and `virsh shutdown` press.
	ServicePower = "power"
	// ServiceClock keeps the guest's clock right while it runs.
	ServiceClock = "clock"
)

var (
	// beforeSystemd are Debian's suites whose init isn't systemd.
	beforeSystemd = strings.Fields("etch lenny squeeze wheezy")
	// timeInSystemd are Debian's suites whose systemd package has systemd-timesyncd in it.
	timeInSystemd = strings.Fields("jessie stretch buster")
	// timeKeepers are the packages that keep a clock; no two of them get on.
	timeKeepers = strings.Fields("systemd-timesyncd chrony ntp ntpsec openntpd")
)

// runsSystemd tells whether the guest's init is going to be systemd.
func (w Wish) runsSystemd() bool {
	return !w.isBeforeSystemd() && !w.OtherInit
}

func (w Wish) isBeforeSystemd() bool {
	return slices.Contains(beforeSystemd, w.Suite) || ubuntu.Before(w.Suite, "vivid")
}

// hasTimeInSystemd tells whether systemd-timesyncd is in the package of systemd.
func (w Wish) hasTimeInSystemd() bool {
	return slices.Contains(timeInSystemd, w.Suite) || ubuntu.Before(w.Suite, "focal")
}

// hasClock tells whether the admin's own packages keep the time.
func (w Wish) hasClock() bool {
	return slices.ContainsFunc(w.ExtraPkgs, func(name string) bool { return slices.Contains(timeKeepers, name) })
}

// servicePackages are what the guest's services need in its tree. systemd-logind
// answers the power button, and needs a system bus for that; with another init it
// is acpid, whose answer is a package of its own in Debian. A clock that the admin
// has chosen stays alone.
func (w Wish) servicePackages() (out []string) {
	if slices.Contains(w.Services, ServicePower) {
		switch {
		case w.runsSystemd() && w.isUbuntuSince("stonking"):
			out = append(out, "dbus-broker")
		case w.runsSystemd():
			out = append(out, "dbus")
		case w.Distribution == "ubuntu":
			out = append(out, "acpid")
		default:
			out = append(out, "acpid", "acpi-support-base")
		}
	}
	if slices.Contains(w.Services, ServiceClock) && !w.hasClock() {
		switch {
		case w.runsSystemd() && (w.hasTimeInSystemd() || w.isUbuntuSince("questing")): // which has chrony
		case w.runsSystemd():
			out = append(out, "systemd-timesyncd")
		case w.isBeforeSystemd():
			out = append(out, "ntp")
		default:
			out = append(out, "chrony")
		}
	}
	return out
}
