package boot

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"instance-debootstrap/pkg/guest"
)

const exampleUUID = "c3f2b5f3-bb97-4b59-8348-6558bd58a97c"

// tree makes a folder of these files and opens it as a guest's.
func tree(t *testing.T, files map[string]string) *guest.Root {
	t.Helper()
	root, _ := treeIn(t, files)
	return root
}

// treeIn says where the tree is too.
func treeIn(t *testing.T, files map[string]string) (root *guest.Root, dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := guest.OpenRoot(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root, dir
}

func TestConsolesOfTheHypervisors(t *testing.T) {
	for _, c := range []struct {
		hypervisor string
		hv         map[string]string
		want       string
		speed      int
	}{
		{"kvm", map[string]string{"serial_console": "True", "serial_speed": "38400"}, "console=tty0 console=ttyS0,38400", 38400},
		{"kvm", map[string]string{"serial_console": "False"}, "", 0},
		{"", nil, "console=tty0 console=ttyS0,115200", 115200},
		{"xen-pvm", nil, "console=hvc0", 0},
		{"xen-hvm", nil, "console=tty0 console=hvc0 console=ttyS0,115200", 115200},
		{"lxc", nil, "", 0},
	} {
		if got := Consoles("amd64", c.hypervisor, c.hv); got.kernelArgs() != c.want || got.Speed != c.speed {
			t.Errorf("%s %v: %+v", c.hypervisor, c.hv, got)
		}
	}
	if got := Consoles("arm64", "kvm", map[string]string{"serial_console": "True"}); got.kernelArgs() != "console=tty0 console=ttyAMA0,115200" || got.Speed != 0 {
		t.Errorf("arm64: %+v", got)
	}
	if got := strings.Join(Consoles("amd64", "xen-hvm", nil).Ports(), " "); got != "hvc0 ttyS0" {
		t.Errorf("login prompts under xen-hvm on %q", got)
	}
}

func TestTheMenuOfGRUBLegacyNamesTheRootAsItDoes(t *testing.T) {
	kernels := []Kernel{{"6.1.0-9-amd64", "/boot/vmlinuz-6.1.0-9-amd64", "/boot/initrd.img-6.1.0-9-amd64"}}
	for number, want := range map[int]string{0: "\nroot (hd0)\n", 1: "\nroot (hd0,0)\n"} {
		text := string(legacyMenu("Debian", Target{RootNumber: number, RootUUID: exampleUUID}, kernels, plainMenu(Consoles("amd64", "xen-pvm", nil))))
		for _, line := range []string{want, "\ndefault 0\n", "\nkernel /boot/vmlinuz-6.1.0-9-amd64 root=UUID=" + exampleUUID + " ro console=hvc0\n", "\ninitrd /boot/initrd.img-6.1.0-9-amd64\n"} {
			if !strings.Contains(text, line) {
				t.Errorf("without %q:\n%s", line, text)
			}
		}
	}
}

func TestKernelsNewestFirstAndOnlyWithAnInitramfs(t *testing.T) {
	root := tree(t, map[string]string{
		"boot/vmlinuz-6.1.0-9-amd64": "", "boot/initrd.img-6.1.0-9-amd64": "", "boot/vmlinuz-6.1.0-10-amd64": "", "boot/initrd.img-6.1.0-10-amd64": "",
		"boot/vmlinuz-6.12.0-1-amd64": "", "boot/config-6.1.0-9-amd64": "", "boot/vmlinuz": "",
	})
	got, err := Kernels(root)
	want := []Kernel{
		{"6.1.0-10-amd64", "/boot/vmlinuz-6.1.0-10-amd64", "/boot/initrd.img-6.1.0-10-amd64"},
		{"6.1.0-9-amd64", "/boot/vmlinuz-6.1.0-9-amd64", "/boot/initrd.img-6.1.0-9-amd64"},
	}
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

// The syntax is checked by GRUB's own program.
func TestTheFirstConfigIsGRUBsSyntax(t *testing.T) {
	kernels := []Kernel{{"6.1.0-10-amd64", "/boot/vmlinuz-6.1.0-10-amd64", "/boot/initrd.img-6.1.0-10-amd64"}}
	for _, hypervisor := range []string{"", "xen-pvm"} {
		file := filepath.Join(t.TempDir(), "grub.cfg")
		text := config("Debian GNU/Linux 12 (bookworm)", Target{RootUUID: exampleUUID}, kernels, plainMenu(Consoles("amd64", hypervisor, nil)))
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		run(t, "grub-script-check", file)
		for _, want := range []string{"search --no-floppy --fs-uuid --set=root " + exampleUUID, "linux /boot/vmlinuz-6.1.0-10-amd64 root=UUID=" + exampleUUID + " ro console="} {
			if !strings.Contains(text, want) {
				t.Errorf("%s isn't in it:\n%s", want, text)
			}
		}
	}
	file := filepath.Join(t.TempDir(), "esp.cfg")
	if err := os.WriteFile(file, espConfig(exampleUUID, "/boot/grub"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "grub-script-check", file)
}

func TestTheTitleCannotLeaveItsQuotes(t *testing.T) {
	for text, want := range map[string]string{
		"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n": "Debian GNU/Linux 12 (bookworm)",
		"PRETTY_NAME=\"a' { reboot } '\"\n":                "Linux",
		"":                                                 "Linux",
	} {
		if got := title(tree(t, map[string]string{"etc/os-release": text})); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// update-grub reads them with a shell, and set -e.
func TestOurGRUBSettingsLeaveWhatOthersSay(t *testing.T) {
	const speed = "serial --unit=0 --speed=115200 --word=8 --parity=no --stop=1"
	packaged := "GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT=quiet\nGRUB_CMDLINE_LINUX=\n"
	for said, want := range map[string]string{
		"":       "1;true; console=tty0 console=ttyS0,115200;;console serial;" + speed,
		packaged: "1;true; console=tty0 console=ttyS0,115200;quiet;console serial;" + speed,
		packaged + "GRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX=net.ifnames=0\n":                        "0;true;net.ifnames=0 console=tty0 console=ttyS0,115200;quiet;console serial;" + speed,
		packaged + "GRUB_CMDLINE_LINUX_DEFAULT='quiet console=ttyS1'\n":                        "1;true;;quiet console=ttyS1;console serial;" + speed,
		"GRUB_TIMEOUT=-1\nGRUB_TERMINAL=serial\nGRUB_SERIAL_COMMAND='serial --unit=1'\n":       "-1;true; console=tty0 console=ttyS0,115200;;serial;serial --unit=1",
		"GRUB_TERMINAL_OUTPUT=console\nGRUB_DISABLE_OS_PROBER=false\n":                         "1;false; console=tty0 console=ttyS0,115200;;;" + speed,
		packaged + "GRUB_CMDLINE_LINUX=console=hvc0\nGRUB_TERMINAL=console\nGRUB_TIMEOUT=20\n": "20;true;console=hvc0;quiet;console;" + speed,
	} {
		root := tree(t, map[string]string{"etc/hostname": ""})
		if err := WriteDefaults(root, Consoles("amd64", "", nil)); err != nil {
			t.Fatal(err)
		}
		text, err := root.ReadFile(DefaultsFile, 4096)
		if err != nil {
			t.Fatal(err)
		}
		template := filepath.Join(t.TempDir(), "grub")
		if err := os.WriteFile(template, []byte(packaged), 0o644); err != nil {
			t.Fatal(err)
		}
		ours := strings.Replace(string(text), "/usr/share/grub/default/grub", template, 1)
		ours = strings.ReplaceAll(ours, "/etc/default/", filepath.Dir(template)+"/default/")
		if err := errors.Join(os.MkdirAll(filepath.Dir(template)+"/default/grub.d", 0o755), os.WriteFile(filepath.Dir(template)+"/default/grub.d/instance-debootstrap.cfg", text, 0o644)); err != nil {
			t.Fatal(err)
		}
		got := run(t, "sh", "-e", "-c", said+ours+`
echo "$GRUB_TIMEOUT;$GRUB_DISABLE_OS_PROBER;$GRUB_CMDLINE_LINUX;$GRUB_CMDLINE_LINUX_DEFAULT;$GRUB_TERMINAL;$GRUB_SERIAL_COMMAND"`)
		if got != want+"\n" {
			t.Errorf("%s\ngives %s\nwant  %s", said, got, want)
		}
	}
}

func TestAHooksConfigStaysUnlessItNamesTheNodesDevice(t *testing.T) {
	const good = "menuentry 'x' {\n\tlinux\t/boot/vmlinuz-6 root=UUID=" + exampleUUID + " ro\n}\n"
	kernel := map[string]string{"boot/vmlinuz-6": "", "boot/initrd.img-6": ""}
	for text, own := range map[string]bool{
		good: true, strings.ReplaceAll(good, "UUID="+exampleUUID, "/dev/loop3p1"): false, "# nothing\n": false,
	} {
		files := map[string]string{"boot/grub/grub.cfg": text}
		for name := range kernel {
			files[name] = ""
		}
		root := tree(t, files)
		if got := hasOwnConfig(root, "grub"); got != own {
			t.Errorf("%s: %v", text, got)
		}
		mended, err := MendConfig(Target{Root: root, RootUUID: exampleUUID}, Menu{})
		now, _ := root.ReadFile("/boot/grub/grub.cfg", 4096)
		if err != nil || (mended != "") != strings.Contains(text, "loop") || strings.Contains(string(now), "loop") {
			t.Errorf("%s: %q, %v, it is now\n%s", text, mended, err, now)
		}
	}
}

func TestAHooksGRUBThatHasNoMenuToStartByGetsOne(t *testing.T) {
	const generated = "#\n# DO NOT EDIT THIS FILE\n#\n# It is automatically generated by grub-mkconfig using templates\nset timeout=5\n"
	for name, c := range map[string]struct{ module, text, why string }{
		"no grub.cfg":                  {"boot/grub/i386-pc/normal.mod", "", "is missing"},
		"update-grub without kernels":  {"boot/grub/x86_64-efi/normal.mod", generated, "starts no kernel"},
		"update-grub with one":         {"boot/grub/i386-pc/normal.mod", generated + "menuentry x {\n\tlinux /boot/vmlinuz-6\n}\n", ""},
		"one that leads to another":    {"boot/grub/i386-pc/normal.mod", "configfile (hd0,msdos1)/boot/mine.cfg\n", ""},
		"another loader, no grub.cfg":  {"boot/ldlinux.sys", "", ""},
		"another loader, some package": {"boot/ldlinux.sys", generated, ""},
	} {
		files := map[string]string{c.module: "", "boot/vmlinuz-6": "", "boot/initrd.img-6": ""}
		if c.text != "" {
			files["boot/grub/grub.cfg"] = c.text
		}
		root := tree(t, files)
		why, err := MendConfig(Target{Root: root, RootUUID: exampleUUID}, Menu{Timeout: "1"})
		now, _ := root.ReadFile("/boot/grub/grub.cfg", 4096)
		if err != nil || why != c.why || why != "" && !startsKernel().Match(now) || why == "" && string(now) != c.text {
			t.Errorf("%s: %q, %v, it is now\n%s", name, why, err, now)
		}
	}
}

func TestUpgradesKnowTheBootDiskByAName(t *testing.T) {
	root := tree(t, map[string]string{"etc/hostname": ""})
	if err := WriteUdevRules(root, "51a746f2-95f1-4b9d-96e4-5cb3b7478a15"); err != nil {
		t.Fatal(err)
	}
	text, err := root.ReadFile(UdevRules, 4096)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(BootDisk, "/dev/")
	if !slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool {
		return strings.Contains(line, `ENV{ID_PART_TABLE_UUID}=="51a746f2-95f1-4b9d-96e4-5cb3b7478a15"`) && strings.HasSuffix(line, `SYMLINK+="`+name+`"`)
	}) || !strings.Contains(debconfAnswers, "grub-pc/install_devices multiselect "+BootDisk+"\n") {
		t.Errorf("%s\n%s", text, debconfAnswers)
	}
}
