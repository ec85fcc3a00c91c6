package settings

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const exampleKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl admin@example"

func TestValuesOfTheGuestsSettings(t *testing.T) {
	for _, c := range []struct{ name, good, bad string }{
		{"KERNEL_PKG", "auto|cloud|linux-image-6.1.0-40-amd64", "Linux|a b"},
		{"GUEST_SERVICES", "none| none |power|clock|power,clock|clock power", "no|power,none|Power|power,time|,"},
		{"ROOT_PASSWORD", "blank|locked", "secret|$6$a:b||*|!|x|$6|$9$salt$hash"},
		{"SSH_AUTHORIZED_KEYS", "|/root/keys|" + exampleKey + "|# mine\n\n" + exampleKey + "\n|from=\"192.0.2.1\" " + exampleKey,
			"ssh-ed25519|# none|-----BEGIN OPENSSH PRIVATE KEY-----|keys"},
		{"DATA_DISKS", "|data=/srv|a=/srv,b=/srv2|a=/usr/local|a=/var/lib|data=/srv:xfs, db=/var/lib/db:btrfs", "data|data=srv|data=/|data=/srv/|data=/srv:vfat|swap=/srv|a=/x,a=/y|a=/x,b=/x|a=/../x|a=/etc|a=/var|a=/run/x|a=/srv,b=/srv/x|a=/srv/x,b=/srv"},
		{"REINSTALL_KEEP", "|none|/etc/ssh|/etc/ssh,/srv/app /var/lib/app|/var/lib/dpkgs|/srv/a,/srv/ab|/etc/hostname", "etc|/|/etc|/usr|/var|/proc/1|/dev/sda|/etc/ssh/|/srv/../etc|/srv,/srv/app|/srv/app,/srv|/srv,/srv|/etc/fstab|/var/lib|/var/lib/dpkg|/var/lib/dpkg/info|/var/lib/instance-debootstrap/first-boot"},
		{"REINSTALL_KEEP_MAX", "1G|800M", "|0|much"},
	} {
		for _, s := range table {
			if s.Name != c.name {
				continue
			}
			for _, v := range strings.Split(c.good, "|") {
				if err := s.check(v); err != nil {
					t.Errorf("%s=%q: %v", c.name, v, err)
				}
			}
			for _, v := range strings.Split(c.bad, "|") {
				if s.check(v) == nil {
					t.Errorf("%s=%q is taken", c.name, v)
				}
			}
		}
	}
}

func TestDataDisksAreExt4UnlessNamed(t *testing.T) {
	got, err := parseDataDisks("data=/srv, db=/var/lib/db:xfs")
	want := []DataDisk{{"data", "/srv", "ext4"}, {"db", "/var/lib/db", "xfs"}}
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestSecretSettingsAreHidden(t *testing.T) {
	s := &Settings{Raw: map[string]string{"ROOT_PASSWORD": "$6$salt$canary"}, Origin: map[string]string{}}
	if text := s.String(); strings.Contains(text, "canary") || !strings.Contains(text, "ROOT_PASSWORD=(hidden)") {
		t.Error(text)
	}
}

func TestAPathThatIsWrittenInAnotherWayIsShownAsItShouldBe(t *testing.T) {
	if _, err := parseKeep("/etc/ssh/"); err == nil || err.Error() != `"/etc/ssh/": write it as /etc/ssh` {
		t.Error(err)
	}
}
