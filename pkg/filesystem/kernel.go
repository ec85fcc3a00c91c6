package filesystem

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// KernelHas returns nil when the running kernel can mount this type: it has it
// (proc_filesystems(5)), or there is a module of it to load. An error names the type.
func KernelHas(t Type) error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	release := unix.ByteSliceToString(name.Release[:])
	return kernelHas(t, "/proc/filesystems", filepath.Join("/lib/modules", release), release)
}

func kernelHas(t Type, filesystems, modules, release string) error {
	names := []string{string(t)}
	if t == Ext2 || t == Ext3 {
		names = append(names, string(Ext4)) // whose driver mounts them too
	}
	known, err := os.ReadFile(filesystems)
	for line := range strings.Lines(string(known)) {
		if f := strings.Fields(line); len(f) > 0 && f[len(f)-1] == string(t) {
			return nil
		}
	}
	for _, list := range []string{"modules.dep", "modules.builtin"} { // depmod(8)
		text, readErr := os.ReadFile(filepath.Join(modules, list))
		if readErr != nil && !errors.Is(readErr, os.ErrNotExist) {
			err = errors.Join(err, readErr)
		}
		for _, name := range names {
			if strings.Contains(string(text), "/"+name+".ko") {
				return nil
			}
		}
	}
	if err != nil {
		return fmt.Errorf("filesystem %s: is it in this kernel? %w", t, err)
	}
	return fmt.Errorf("filesystem %s: the running kernel %s doesn't support it, built in or as a module: install the kernel's modules, or set OSP_FILESYSTEM to another", t, release)
}
