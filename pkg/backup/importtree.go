package backup

import (
	"cmp"
	"fmt"

	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/pattern"
)

// checkTree refuses files that are no root filesystem, such as those of a tar that was
// made one folder too high. what is the kind of backup.
func checkTree(root *guest.Root, what string) error {
	if isSystem(root, "") {
		return nil
	}
	names, err := root.ReadDir("/")
	if err != nil {
		return err
	}
	if at := findSystem(root, "", names, 2); at != "" {
		return fmt.Errorf("the backup is %s, but its tree is in %s/ instead of at the top: create it again from there (tar -C %[2]s -cf FILE .)", what, pattern.Plain(at[1:]))
	}
	shown := ""
	for _, name := range names[:min(5, len(names))] {
		if name != "lost+found" {
			shown += " " + pattern.Plain(name)
		}
	}
	return fmt.Errorf("the backup is %s without a root filesystem, which the first disk of an instance needs: it has no /etc beside a /usr or /bin, but%s", what, cmp.Or(shown, " nothing"))
}

// isSystem tells whether a folder looks like the top of a Unix system.
func isSystem(root *guest.Root, dir string) bool {
	if !root.Exists(dir + "/etc") {
		return false
	}
	for _, name := range []string{"/usr", "/bin", "/sbin", "/lib"} {
		if root.Exists(dir + name) {
			return true
		}
	}
	return false
}

// findSystem looks for a system so many folders down; "" is none.
func findSystem(root *guest.Root, dir string, names []string, depth int) string {
	const few = 20 // a tar that was made too high has no more at its top
	for _, name := range names[:min(few, len(names))] {
		at := dir + "/" + name
		if isSystem(root, at) {
			return at
		}
		if below, err := root.ReadDir(at); err == nil && depth > 1 {
			if found := findSystem(root, at, below, depth-1); found != "" {
				return found
			}
		}
	}
	return ""
}
