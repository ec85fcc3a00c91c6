//go:build root

package root

import (
	"slices"
	"strings"
	"testing"
)

// shellTree is grubTree with a shell, and the settings of GRUB's packages.
func (l *lab) shellTree() {
	l.Helper()
	l.grubTree()
	l.guestTool("/bin/sh", "/usr/bin/sed")
	l.treeFile("usr/share/grub/default/grub", packagedGRUB)
	l.treeFile("etc/default/grub", packagedGRUB)
}

const packagedGRUB = "GRUB_DEFAULT=0\nGRUB_TIMEOUT=5\nGRUB_DISTRIBUTOR=`( . /etc/os-release && echo ${ID} )`\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\nGRUB_CMDLINE_LINUX=\"\"\n"

// treeFile puts a file into the tree.
func (l *lab) treeFile(name, text string) {
	l.Helper()
	l.tool("sh", "-e", "-c", `cd "$1"; mkdir -p "${2%/*}"; printf %s "$3" >"$2"; tar -rf "$4" "$2"`, "sh", l.TempDir(), name, text, l.tar())
}

func TestTheFirstGRUBMenuIsAsAHookOrTheTreeSetsIt(t *testing.T) {
	const ours = "set timeout=1\nserial --unit=0 --speed=115200 --word=8 --parity=no --stop=1\nterminal_input console serial\nterminal_output console serial\n"
	for name, c := range map[string]struct {
		tree, hook string
		want, not  []string
	}{
		"nothing is said": {packagedGRUB, ":", []string{ours, " ro console=tty0 console=ttyS0,115200 quiet\n"}, nil},
		"a hook changes lines": {packagedGRUB, `sed -i -e 's/^GRUB_TIMEOUT=.*/GRUB_TIMEOUT=9/' -e 's/^GRUB_CMDLINE_LINUX=.*/GRUB_CMDLINE_LINUX="net.ifnames=0"/' "$TARGET/etc/default/grub"`,
			[]string{"set timeout=9\n", " ro net.ifnames=0 console=tty0 console=ttyS0,115200 quiet\n"}, []string{"timeout=1"}},
		"a hook has a console of its own": {packagedGRUB, `cat >>"$TARGET/etc/default/grub" <<'END'
GRUB_CMDLINE_LINUX="console=tty1 console=ttyS1,9600n8"
GRUB_CMDLINE_LINUX_DEFAULT=
GRUB_TERMINAL="serial"
GRUB_SERIAL_COMMAND="serial --unit=1 --speed=9600"
GRUB_TIMEOUT=0
GRUB_TIMEOUT_STYLE=hidden
END`, []string{"set timeout=0\nset timeout_style=hidden\nserial --unit=1 --speed=9600\nterminal_input serial\nterminal_output serial\n", " ro console=tty1 console=ttyS1,9600n8\n"},
			[]string{"ttyS0", "--unit=0", "quiet"}},
		"a hook's file in grub.d": {packagedGRUB, `echo 'GRUB_TERMINAL=console' >"$TARGET/etc/default/grub.d/10-screen.cfg"; echo GRUB_TIMEOUT=3 >"$TARGET/etc/default/grub.d/zz.cfg"`,
			[]string{"set timeout=3\n", "terminal_output console\n"}, []string{"serial"}},
		"a hook sets what the package says": {packagedGRUB, `sed -i 's/^GRUB_TIMEOUT=.*/GRUB_TIMEOUT=5/' "$TARGET/etc/default/grub"`, []string{"set timeout=5\n"}, []string{"timeout=1"}},
		"a hook's file in grub.d says so":   {packagedGRUB, `echo GRUB_TIMEOUT=5 >"$TARGET/etc/default/grub.d/10-wait.cfg"`, []string{"set timeout=5\n"}, []string{"timeout=1"}},
		"the admin's tree": {packagedGRUB + "GRUB_TIMEOUT=4\nGRUB_TERMINAL=gfxterm\nGRUB_CMDLINE_LINUX='console=hvc0'\n", ":",
			[]string{"set timeout=4\n", "terminal_output console\n", " ro console=hvc0 quiet\n"}, []string{"ttyS0"}},
	} {
		l := newLab(t, 600)
		l.shellTree()
		l.treeFile("etc/default/grub", c.tree)
		l.hook("50-grub", c.hook)
		log := l.create()
		if strings.Contains(log, "/etc/default/grub") {
			t.Errorf("%s:\n%s", name, log)
		}
		l.mounted(func(tree string) {
			l.tool("grub-script-check", tree+"/boot/grub/grub.cfg")
			text := l.tool("cat", tree+"/boot/grub/grub.cfg")
			has(t, text, c.want...)
			for _, not := range c.not {
				if strings.Contains(text, not) {
					t.Errorf("%s: %q is in\n%s", name, not, text)
				}
			}
		})
	}
}

func TestGRUBSettingsThatNoShellCanReadAreWarnedOf(t *testing.T) {
	for settings, want := range map[string]string{
		`GRUB_TIMEOUT="3`:      "the guest's /etc/default/grub, or a file in /etc/default/grub.d: sh: exit status 2",
		`GRUB_TIMEOUT="3 sec"`: `GRUB_TIMEOUT="3 sec" is no number of seconds`,
	} {
		l := newLab(t, 600)
		l.shellTree()
		l.hook("50-grub", `cat >"$TARGET/etc/default/grub" <<'END'`+"\n"+settings+"\nEND")
		has(t, l.create(), want)
		l.mounted(func(tree string) { has(t, l.tool("cat", tree+"/boot/grub/grub.cfg"), "set timeout=1\n") })
	}
}

// Menus of hooks for pygrub and PV-GRUB.
func TestAHooksMenuForGRUBLegacyStays(t *testing.T) {
	const menu = `default 0
timeout 3

title mine
  root (hd0,0)
  kernel /boot/vmlinuz-6.1.0-9-amd64 root=/dev/xvda1 ro
  initrd /boot/initrd.img-6.1.0-9-amd64
`
	const write = `mkdir -p "$TARGET/boot/grub"; cat >"$TARGET/boot/grub/FILE" <<'END'` + "\n" + menu + "END\n"
	pygrub := map[string]string{"HYPERVISOR": "xen-pvm", "INSTANCE_HV_use_bootloader": "True"}
	legacy := map[string]string{"HYPERVISOR": "xen-pvm", "INSTANCE_HV_kernel_path": "/usr/lib/xen/boot/pv-grub-x86_64.gz"}
	for name, c := range map[string]struct {
		env  map[string]string
		hook string
		mine []string // the files that are the hook's in the end
	}{
		"grub.cfg, linked as menu.lst": {pygrub, strings.Replace(write, "FILE", "grub.cfg", 1) + `ln -s grub.cfg "$TARGET/boot/grub/menu.lst"`, []string{"grub.cfg", "menu.lst"}},
		"menu.lst, linked as grub.cfg": {legacy, strings.Replace(write, "FILE", "menu.lst", 1) + `ln -s menu.lst "$TARGET/boot/grub/grub.cfg"`, []string{"grub.cfg", "menu.lst"}},
		"menu.lst, pygrub":             {pygrub, strings.Replace(write, "FILE", "menu.lst", 1), []string{"menu.lst"}},
		"menu.lst, PV-GRUB":            {legacy, strings.Replace(write, "FILE", "menu.lst", 1), []string{"menu.lst"}},
		"a package's":                  {legacy, ":", nil},
		"the node's device":            {legacy, strings.ReplaceAll(strings.Replace(write, "FILE", "menu.lst", 1), "/dev/xvda1", "/dev/loop0p1"), nil},
	} {
		l := newLab(t, 600)
		l.grubTree()
		if !strings.Contains(c.hook, "ln -s") {
			l.treeFile("boot/grub/menu.lst", "title the package's\nroot (hd0)\nkernel /boot/vmlinuz root=/dev/loop7 ro\n")
		}
		for variable, value := range c.env {
			l.env[variable] = value
		}
		l.hook("50-menu", c.hook)
		log := l.create()
		l.mounted(func(tree string) {
			for _, file := range []string{"grub.cfg", "menu.lst"} {
				text := l.tool("cat", tree+"/boot/grub/"+file)
				switch mine := slices.Contains(c.mine, file); {
				case mine && text != strings.TrimSpace(menu):
					t.Errorf("%s: %s isn't the hook's:\n%s\n%s", name, file, text, log)
				case !mine && !strings.Contains(text, "root=UUID="):
					t.Errorf("%s: %s isn't ours:\n%s\n%s", name, file, text, log)
				}
			}
		})
		if said := strings.Contains(log, "a hook has written /boot/grub/menu.lst: it stays as it is"); said != slices.Contains(c.mine, "menu.lst") {
			t.Errorf("%s:\n%s", name, log)
		}
		if warned := strings.Contains(log, "names a device of this node's"); warned != (name == "the node's device") {
			t.Errorf("%s:\n%s", name, log)
		}
	}
}
