package boot

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The guest's own script, as it runs after a kernel came, makes the menu that the
// installation writes.
func TestTheMenuOfGRUBLegacyIsKeptUpByTheGuestItself(t *testing.T) {
	root, dir := treeIn(t, map[string]string{
		"boot/vmlinuz-6.1.0-9-amd64": "", "boot/initrd.img-6.1.0-9-amd64": "", "boot/grub/grub.cfg": "", "etc/os-release": "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
		"etc/fstab": "# / is first\nUUID=" + exampleUUID + " / ext4 errors=remount-ro 0 1\nproc /proc proc defaults 0 0\n",
	})
	for _, number := range []int{0, 1} {
		target := Target{Root: root, RootNumber: number, RootUUID: exampleUUID}
		menu := plainMenu(Consoles("amd64", "xen-pvm", nil))
		menu.Args += ` x=100%'y`
		write := func() string {
			kernels, err := Kernels(root)
			if err == nil {
				err = writeLegacyMenu(target, kernels, menu)
			}
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(dir + LegacyMenu)
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		byHook := func(name string) string {
			cmd := exec.Command(dir+name, "6.1.0-10-amd64", "/boot/vmlinuz-6.1.0-10-amd64")
			cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DPKG_ROOT=" + dir}
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Fatalf("%v: %s", err, out)
			}
			text, err := os.ReadFile(dir + LegacyMenu)
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		rest := func(menu string) string { _, rest, _ := strings.Cut(menu, "\n"); return rest }
		if first := write(); rest(first) != rest(byHook(menuHooks[0])) || !strings.Contains(first, "title Debian GNU/Linux 12 (bookworm), with Linux 6.1.0-9-amd64\n") {
			t.Errorf("the installation wrote\n%s\nthe guest\n%s", first, byHook(menuHooks[0]))
		}
		for _, name := range []string{"vmlinuz-6.1.0-10-amd64", "initrd.img-6.1.0-10-amd64", "vmlinuz-6.1.0-11-amd64"} { // the last has no initramfs yet
			if err := os.WriteFile(dir+"/boot/"+name, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		later := byHook(menuHooks[0])
		if rest(later) != rest(write()) || strings.Count(later, "\ntitle ") != 2 || strings.Index(later, "6.1.0-10-") > strings.Index(later, "6.1.0-9-") {
			t.Errorf("with a newer kernel the guest wrote\n%s", later)
		}
		for _, name := range []string{"vmlinuz-6.1.0-10-amd64", "initrd.img-6.1.0-10-amd64", "vmlinuz-6.1.0-11-amd64"} {
			if err := os.Remove(dir + "/boot/" + name); err != nil {
				t.Fatal(err)
			}
		}
		if removed := byHook(menuHooks[1]); rest(removed) != rest(write()) {
			t.Errorf("without it the guest wrote\n%s", removed)
		}
	}
}

// One whose menu another package keeps up has no second program for it.
func TestAPackageThatKeepsTheMenuUpIsLeftToIt(t *testing.T) {
	root, dir := treeIn(t, map[string]string{"usr/sbin/update-menu-lst": "", "boot/grub/grub.cfg": "", "etc/os-release": ""})
	if err := writeLegacyMenu(Target{Root: root}, nil, Menu{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + menuHooks[0]); !os.IsNotExist(err) {
		t.Error(err)
	}
}
