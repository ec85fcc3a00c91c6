package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/install"
	"instance-debootstrap/pkg/settings"
)

func TestCredentialsThatSystemdOrQEMUWouldNotTakeAreRefused(t *testing.T) {
	list := func(names ...string) (list []Credential) {
		for _, name := range names {
			list = append(list, Credential{name, []byte("x")})
		}
		return list
	}
	for says, c := range map[string][]Credential{
		"":                           list("passwd.hashed-password.root", "a", "b_c", "_d", "-", "f", "g", "h"),
		`"a/b": a credential's name`: list("a/b"),
		`"..": a credential's name`:  list(".."),
		`"": a credential's name`:    list(""),
		"at most 28":                 list(strings.Repeat("x", 29)),
		`"a:b"`:                      list("a:b"),
		"a is given twice":           list("a", "a"),
		"a: the file is empty":       {{"a", nil}},
		"at most 1048576 bytes":      {{"a", make([]byte, 1<<19)}, {"b", make([]byte, 1<<19+1)}},
		"at most 8":                  list("a", "b", "c", "d", "e", "f", "g", "h", "i"),
	} {
		err := CheckCredentials(c)
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%q: %v", says, err)
		}
	}
}

func TestAGuestThatDoesNotFindCredentialsIsRefused(t *testing.T) {
	v := &Wanted{Credentials: []Credential{{"a", []byte("x")}}, Order: &install.Order{Settings: &settings.Settings{}}}
	for _, c := range []struct{ status, modules, says string }{
		{"Package: systemd\nVersion: 252.39-1~deb12u1\nStatus: install ok installed\n", "kernel/drivers/firmware/qemu_fw_cfg.ko.xz:\n", ""},
		{"Package: systemd\nVersion: 251~rc1-1\nStatus: install ok installed\n", "kernel/drivers/firmware/qemu_fw_cfg.ko:\n", ""},
		{"Package: systemd\nVersion: 249.11-0ubuntu3\nStatus: install ok installed\n", "", `systemd is "249.11-0ubuntu3", and takes credentials from version 251 on`},
		{"Package: systemd\nVersion: x\nStatus: install ok installed\n", "", "from version 251 on"},
		{"Package: systemd\nVersion: 252\nStatus: deinstall ok config-files\n", "", "has no systemd"},
		{"Package: systemd\nVersion: 252\nStatus: install ok installed\n", "kernel/fs/ext4/ext4.ko:\n", "no module qemu_fw_cfg"},
	} {
		top := t.TempDir()
		for name, text := range map[string]string{"var/lib/dpkg/status": c.status, "lib/modules/6.1.0-9-amd64/modules.dep": c.modules} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(top, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(top, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		err := guest.Edit(t.Context(), top, v.takesCredentials)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%q: %v", c.status, err)
		}
	}
	for suite, refused := range map[string]bool{"bullseye": true, "jammy": true, "bookworm": false, "noble": false, "mine": false} {
		v.Order.Settings.Suite = suite
		if err := v.checkSuite(); (err != nil) != refused {
			t.Errorf("%s: %v", suite, err)
		}
	}
}
