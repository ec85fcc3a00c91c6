package settings

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// another is a value of each setting that isn't its default.
var another = map[string]string{
	"PROXY": "http://proxy.example:3128/", "MIRROR": "http://mirror.example/debian", "SECURITY_MIRROR": "none", "SNAPSHOT": "2024-01-01", "SNAPSHOT_MIRROR": "http://snapshot.example/debian", "KEYRING": "/etc/site.gpg",
	"EXTRA_SOURCES": "/etc/site.sources", "EXPIRED_ARCHIVE": "refuse", "ARCH": "i386", "SUITE": "sid", "EXTRA_PKGS": "less", "COMPONENTS": "main,contrib",
	"BOOTSTRAP": "debootstrap", "OSP_FILESYSTEM": "xfs", "PARTITION_STYLE": "gpt", "PARTITION_ALIGNMENT": "4096", "LAYOUT": "server", "swapdev": "/dev/vg0/swap",
	"SWAP_FILE_SIZE": "512", "BOOTLOADER": "none", "KERNEL_PKG": "cloud", "FIRMWARE": "uefi", "GUEST_SERVICES": "none", "NETWORK": "dhcp",
	"DNS_NAMESERVERS": "192.0.2.53", "DNS_SEARCH": "example.com", "ROOT_PASSWORD": "locked", "SSH_AUTHORIZED_KEYS": "/root/.ssh/id.pub",
	"FIRST_BOOT": "/root/first-boot", "USER_DATA": "#cloud-config\npackages: [less]\n", "REINSTALL_KEEP": "/srv", "REINSTALL_KEEP_MAX": "5G", "DATA_DISKS": "data=/srv:xfs", "BOOT_TEST": "yes", "CUSTOMIZE_DIR": "/etc/hooks", "PROTECT_NODE": "yes", "NODE_WRITABLE": "/srv", "VARIANTS_DIR": "/etc/variants",
	"SHARED_FILES": "refuse", "GENERATE_CACHE": "no", "DERIVE_TREES": "no", "KEEP_PACKAGES": "no", "KEEP_RECEIPTS": "yes", "RECEIPT_KEY": "/etc/receipt_key", "CLEAN_CACHE": "3", "CACHE_STALE_OK": "yes", "CACHE_MAX_SIZE": "20G", "CACHE_DIR": "/srv/cache",
	"REFLINK": "no", "EXPORT_FORMAT": "tar", "IMPORT_UUID": "new", "GUEST_FSCK": "full", "METADATA_LOSS": "warn", "NAMESPACE": "host", "METRICS_DIR": "/srv/metrics",
}

// TestASettingIsWhole is for who adds one to the table: it must be read into Settings, by
// its name and as an OS parameter, and an admin must find it in the guide or the man page.
func TestASettingIsWhole(t *testing.T) {
	var docs strings.Builder
	for _, path := range []string{"../../docs/admin-guide.md", "../../docs/hooks.md", "../../docs/security.md", "../../docs/backups.md", "../../docs/instance-debootstrap.8.in"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		docs.Write(text)
	}
	l := newLab(t)
	path := l.src.Environ
	read := func(env string, params map[string]string) Settings {
		l.src.Environ, l.src.Params = path, params
		if env != "" {
			l.env(env)
		}
		s := *l.must()
		s.Raw, s.Origin, s.Exported, s.Unexported = nil, nil, nil, nil
		return s
	}
	plain := read("", nil)
	for _, row := range Table() {
		value, ok := another[row.Name]
		if !ok {
			t.Errorf("%s: give it a value that isn't its default, in this file", row.Name)
			continue
		}
		set := read(row.Name+"="+value, nil)
		if reflect.DeepEqual(set, plain) {
			t.Errorf("%s=%s changes nothing: no field of Settings is read from it", row.Name, value)
		}
		if row.Param != "" {
			if byParam := read("", map[string]string{row.Param: value}); !reflect.DeepEqual(byParam, set) {
				t.Errorf("the OS parameter %s=%s gives %+v, and the setting %+v", row.Param, value, byParam, set)
			}
		}
		if name := strings.TrimPrefix(row.Name, "OSP_"); !strings.Contains(docs.String(), name) && !strings.Contains(docs.String(), strings.ToLower(name)) {
			t.Errorf("%s is in no guide and not in the man page: docs/admin-guide.md", row.Name)
		}
	}
}

func TestANumberIsAskedForWithItsUnit(t *testing.T) {
	if err := number("MiB", 0, 1024)("1G"); err == nil || err.Error() != "must be a whole number of MiB, from 0 to 1024" {
		t.Error(err)
	}
}
