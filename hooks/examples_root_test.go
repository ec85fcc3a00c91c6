//go:build root

// Package examples tests the example hooks: each is run as create runs it, on a
// made-up guest, and looked at by tools that read such files.
package examples

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/hooks"
)

const public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFRoaXNJc05vdEFSZWFsS2V5QnV0TG9uZ0Vub3VnaCEh admin@example.com\n"

func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		panic("needs root")
	}
	unix.Umask(0o022) // the session's
	os.Exit(m.Run())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tool runs a program and returns what it prints.
func tool(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// tree makes a guest's tree of files, path → text.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	top := t.TempDir()
	for name, text := range files {
		put(t, filepath.Join(top, name), text)
	}
	return top
}

func put(t *testing.T, file, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(t, os.WriteFile(file, []byte(text), 0o644))
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

// run copies one hook into a folder of its own, with its data, in which some
// files (name → text) are another admin's, enables it, and runs it.
func run(t *testing.T, hook string, confdata map[string]string, env map[string]string) error {
	t.Helper()
	return runFrom(t, ".", hook, confdata, env)
}

// runFrom is run with a hook of another folder.
func runFrom(t *testing.T, folder, hook string, confdata map[string]string, env map[string]string) error {
	t.Helper()
	dir := t.TempDir()
	must(t, os.CopyFS(filepath.Join(dir, "confdata"), os.DirFS(filepath.Join(folder, "confdata"))))
	for name, text := range confdata {
		put(t, filepath.Join(dir, "confdata", name), text)
	}
	put(t, filepath.Join(dir, hook), read(t, folder, hook))
	must(t, os.Chmod(filepath.Join(dir, hook), 0o755))
	base := []string{"PATH=/sbin:/bin:/usr/sbin:/usr/bin", "INSTANCE_NAME=web1.example.com", "SUITE=trixie", "ARCH=", "MIRROR=", "PARTITION_STYLE=msdos"}
	return hooks.Run{Dir: dir, WorkDir: t.TempDir(), Env: hooks.Environ(base, env, nil)}.All(t.Context())
}

func failsWith(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want one with %q", err, text)
	}
}

func modeOf(t *testing.T, parts ...string) fs.FileMode {
	t.Helper()
	st, err := os.Stat(filepath.Join(parts...))
	must(t, err)
	return st.Mode().Perm()
}

func TestExamplesAreInstalledSwitchedOff(t *testing.T) {
	entries, err := hooks.List(".")
	must(t, err)
	if len(entries) != 0 {
		t.Errorf("would run as they are: %v", entries)
	}
}

var nics = map[string]string{
	"NIC_COUNT": "3",
	"NIC_0_IP":  "192.0.2.10", "NIC_0_MAC": "aa:00:00:00:00:01",
	"NIC_0_NETWORK_SUBNET": "192.0.2.0/26", "NIC_0_NETWORK_GATEWAY": "192.0.2.1",
	"NIC_1_MAC": "aa:00:00:00:00:02",
	"NIC_2_IP":  "198.51.100.7", "NIC_2_MAC": "aa:00:00:00:00:03",
}

func with(env map[string]string, more ...string) map[string]string {
	all := map[string]string{}
	for k, v := range env {
		all[k] = v
	}
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return all
}

func TestInterfacesWithIfupdown(t *testing.T) {
	const lo = "auto lo\niface lo inet loopback\n"
	top := tree(t, map[string]string{"sbin/ifup": "", "etc/network/interfaces": lo})
	// As in Debian: an absolute link, which leads nowhere on some nodes.
	must(t, os.MkdirAll(filepath.Join(top, "lib/systemd"), 0o755))
	must(t, os.Symlink("/no/such/udevadm", filepath.Join(top, "lib/systemd/systemd-udevd")))
	must(t, run(t, "interfaces", nil, with(nics, "TARGET", top)))
	want := lo + `
auto nic0
iface nic0 inet static
    address 192.0.2.10/26
    gateway 192.0.2.1

auto nic1
iface nic1 inet dhcp

auto nic2
iface nic2 inet static
    address 198.51.100.7/24
`
	if got := read(t, top, "etc/network/interfaces"); got != want {
		t.Errorf("interfaces:\n%s", got)
	}
	if got := read(t, top, "etc/systemd/network/10-nic1.link"); got != "[Match]\nMACAddress=aa:00:00:00:00:02\n\n[Link]\nName=nic1\n" {
		t.Errorf("link file:\n%s", got)
	}
	if mode := modeOf(t, top, "etc/systemd/network/10-nic1.link"); mode != 0o644 {
		t.Errorf("mode %v", mode)
	}
}

func TestInterfacesWithoutUdevAndOverIPv6(t *testing.T) {
	top := tree(t, map[string]string{"usr/sbin/ifup": "", "etc/network/interfaces": ""})
	must(t, run(t, "interfaces", nil, map[string]string{
		"TARGET": top, "NIC_COUNT": "1", "NIC_0_IP": "2001:db8::7", "NIC_0_MAC": "aa:00:00:00:00:01",
		"NIC_0_NETWORK_SUBNET": "192.0.2.0/26", "NIC_0_NETWORK_GATEWAY": "192.0.2.1",
		"NIC_0_NETWORK_SUBNET6": "2001:db8::/64", "NIC_0_NETWORK_GATEWAY6": "2001:db8::1",
	}))
	if got := read(t, top, "etc/network/interfaces"); got != "\nauto eth0\niface eth0 inet6 static\n    address 2001:db8::7/64\n    gateway 2001:db8::1\n" {
		t.Errorf("interfaces:\n%s", got)
	}
}

func TestInterfacesWithNetworkd(t *testing.T) {
	top := tree(t, map[string]string{"usr/lib/systemd/systemd-networkd": "", "usr/lib/systemd/systemd-udevd": "",
		"usr/lib/systemd/system/systemd-networkd.service": "[Service]\nExecStart=/x\n[Install]\nWantedBy=multi-user.target\n"})
	must(t, run(t, "interfaces", nil, with(nics, "TARGET", top)))
	if got := read(t, top, "etc/systemd/network/20-nic0.network"); got != "[Match]\nMACAddress=aa:00:00:00:00:01\n\n[Network]\nAddress=192.0.2.10/26\nGateway=192.0.2.1\n" {
		t.Errorf("nic0:\n%s", got)
	}
	if got := read(t, top, "etc/systemd/network/20-nic1.network"); !strings.HasSuffix(got, "[Network]\nDHCP=yes\n") {
		t.Errorf("nic1:\n%s", got)
	}
	if got := tool(t, "systemctl", "--root", top, "is-enabled", "systemd-networkd.service"); got != "enabled" {
		t.Errorf("networkd is %s", got)
	}
	failsWith(t, run(t, "interfaces", nil, with(nics, "TARGET", t.TempDir())), "neither ifupdown nor systemd-networkd")
}

func TestSSHKeys(t *testing.T) {
	top := tree(t, map[string]string{"usr/sbin/sshd": "", "etc/ssh/sshd_config": ""})
	failsWith(t, run(t, "ssh-keys", nil, map[string]string{"TARGET": top}), "put at least one public key in")
	must(t, run(t, "ssh-keys", map[string]string{"authorized_keys": "# me\n" + public}, map[string]string{"TARGET": top}))
	keys := filepath.Join(top, "root/.ssh/authorized_keys")
	if got := tool(t, "ssh-keygen", "-l", "-f", keys); !strings.Contains(got, "admin@example.com (ED25519)") {
		t.Errorf("ssh-keygen reads %s", got)
	}
	if dir, file := modeOf(t, top, "root/.ssh"), modeOf(t, keys); dir != 0o700 || file != 0o600 {
		t.Errorf("modes %v and %v", dir, file)
	}
	host := filepath.Join(top, "etc/ssh/ssh_host_ed25519_key")
	if got := tool(t, "ssh-keygen", "-l", "-f", host+".pub"); !strings.Contains(got, "root@web1.example.com") {
		t.Errorf("host key %s", got)
	}
	if mode := modeOf(t, host); mode != 0o600 {
		t.Errorf("private key has mode %v", mode)
	}
}

func TestLockRoot(t *testing.T) {
	top := tree(t, map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n", "etc/shadow": "root::19000:0:99999:7:::\n",
	})
	must(t, run(t, "lock-root", nil, map[string]string{"TARGET": top}))
	if got := tool(t, "passwd", "--root", top, "-S", "root"); !strings.HasPrefix(got, "root L ") {
		t.Errorf("passwd says %s", got)
	}
}

func TestLocaleAndTimezone(t *testing.T) {
	top := tree(t, map[string]string{"usr/share/zoneinfo/Etc/UTC": "TZif", "etc/localtime": "old"})
	must(t, run(t, "locale-timezone", nil, map[string]string{"TARGET": top}))
	link, err := os.Readlink(filepath.Join(top, "etc/localtime"))
	if err != nil || link != "/usr/share/zoneinfo/Etc/UTC" || read(t, top, "etc/timezone") != "Etc/UTC\n" {
		t.Errorf("localtime is %q, %v", link, err)
	}
	if got := read(t, top, "etc/default/locale"); got != "LANG=C.UTF-8\n" {
		t.Errorf("locale %q", got)
	}
	failsWith(t, run(t, "locale-timezone", map[string]string{"timezone": "Mars/Olympus\n"}, map[string]string{"TARGET": top}), "no time zone Mars/Olympus")
	failsWith(t, run(t, "locale-timezone", map[string]string{"locale": "en_GB.UTF-8\n"}, map[string]string{"TARGET": top}), "add locales to EXTRA_PKGS")
}

// TestLocaleIsGeneratedInTheGuest lends the guest this machine's /usr, with room of
// its own for the locale.
func TestLocaleIsGeneratedInTheGuest(t *testing.T) {
	top := tree(t, map[string]string{"etc/locale.gen": "# en_GB.UTF-8 UTF-8\n", "usr/.keep": "", "dev/null": "", "tmp/.keep": ""})
	mount(t, "/usr", filepath.Join(top, "usr"), "", unix.MS_BIND)
	mount(t, "tmpfs", filepath.Join(top, "usr/lib/locale"), "tmpfs", 0)
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		must(t, os.Symlink("usr/"+dir, filepath.Join(top, dir)))
	}
	must(t, run(t, "locale-timezone", map[string]string{"locale": "en_GB.UTF-8\n"}, map[string]string{"TARGET": top}))
	if got := tool(t, "chroot", top, "locale", "-a"); !strings.Contains(got, "en_GB.utf8") {
		t.Errorf("the guest has the locales %s", got)
	}
	failsWith(t, run(t, "locale-timezone", map[string]string{"locale": "xx_YY.UTF-8\n"}, map[string]string{"TARGET": top}), "knows no locale xx_YY.UTF-8")
}

func mount(t *testing.T, source, dir, fstype string, flags uintptr) {
	t.Helper()
	must(t, unix.Mount(source, dir, fstype, flags, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
}

func TestAptSources(t *testing.T) {
	const data = "deb @MIRROR@ @SUITE@-updates main\ndeb @MIRROR@-security @SUITE@-security main\n"
	sources := func(top string) string {
		return tool(t, "apt-get", "update", "--print-uris", // fetches nothing
			"-o", "Dir::Etc::sourcelist="+filepath.Join(top, "etc/apt/sources.list.d/local.list"), "-o", "Dir::Etc::sourceparts=-")
	}
	for name, c := range map[string]struct{ mirror, file, list string }{
		"MIRROR":          {"http://mirror.example/debian/", "sources.list", ""},
		"its stanza":      {"", "sources.list.d/debian.sources", "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie\nComponents: main\n"},
		"the guest's own": {"", "sources.list", "# x\ndeb [arch=amd64 signed-by=/k] http://mirror.example/debian trixie main\n"},
	} {
		top := tree(t, map[string]string{"etc/apt/" + c.file: c.list})
		must(t, run(t, "apt-sources", map[string]string{"apt-sources": data}, map[string]string{"TARGET": top, "MIRROR": c.mirror}))
		got := sources(top)
		for _, want := range []string{"http://mirror.example/debian/dists/trixie-updates/InRelease", "http://mirror.example/debian-security/dists/trixie-security/InRelease"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: apt reads %s, not %s", name, got, want)
			}
		}
	}
	top := tree(t, map[string]string{"etc/apt/sources.list": ""})
	failsWith(t, run(t, "apt-sources", nil, map[string]string{"TARGET": top}), "set MIRROR")
}

func TestGrub(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	put(t, disk, "")
	must(t, os.Truncate(disk, 64<<20))
	tool(t, "sh", "-c", `echo '2048,,L,*' | sfdisk --quiet --label dos "$0"`, disk)
	loop := tool(t, "losetup", "--find", "--show", "--partscan", disk)
	t.Cleanup(func() { tool(t, "losetup", "--detach", loop) })
	part := loop + "p1"
	if _, err := os.Stat(part); err != nil { // a kernel that reads no tables
		tool(t, "addpart", loop, "1", "2048", "129024")
	}
	tool(t, "mkfs.ext4", "-q", part)
	top := t.TempDir()
	mount(t, part, top, "ext4", 0)
	env := map[string]string{"TARGET": top, "BLOCKDEV": loop, "FSYSDEV": part, "INSTANCE_HV_serial_console": "True"}

	failsWith(t, run(t, "grub", nil, with(env, "PARTITION_STYLE", "gpt")), "PARTITION_STYLE=gpt leaves no place for GRUB")
	put(t, filepath.Join(top, "boot/x"), "")
	failsWith(t, run(t, "grub", nil, env), "the guest has no kernel")

	for _, name := range []string{"vmlinuz-6.9.0-1", "vmlinuz-6.12.0-3", "initrd.img-6.12.0-3"} {
		put(t, filepath.Join(top, "boot", name), "x")
	}
	must(t, run(t, "grub", nil, env))
	conf := filepath.Join(top, "boot/grub/grub.cfg")
	tool(t, "grub-script-check", conf)
	uuid := tool(t, "blkid", "-p", "-o", "value", "-s", "UUID", part)
	for _, want := range []string{
		"search --no-floppy --fs-uuid --set=root " + uuid, "initrd /boot/initrd.img-6.12.0-3\n", "terminal_output serial console",
		"linux /boot/vmlinuz-6.12.0-3 root=UUID=" + uuid + " ro console=tty0 console=ttyS0,115200\n",
	} {
		if got := read(t, conf); !strings.Contains(got, want) {
			t.Errorf("grub.cfg lacks %q:\n%s", want, got)
		}
	}
	sector, err := os.ReadFile(loop)
	must(t, err)
	if !bytes.Contains(sector[:440], []byte("GRUB")) {
		t.Error("no GRUB in the boot sector")
	}
	if got := tool(t, "sfdisk", "--verify", loop); !strings.Contains(got, "No errors") {
		t.Errorf("sfdisk: %s", got)
	}
}
