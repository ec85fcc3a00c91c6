package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
)

// NetworkFiles remembers the files that say how the guest's network is set up.
type NetworkFiles map[string]string

// networkFolders hold nothing else.
var networkFolders = []string{
	"/etc/network/interfaces.d", "/etc/systemd/network", "/etc/netplan", "/etc/NetworkManager/system-connections",
}

// ReadNetworkFiles looks at them. Two looks differ in a file that was written
// between them, whatever its content.
func ReadNetworkFiles(r *Root) (NetworkFiles, error) {
	files := NetworkFiles{}
	paths := []string{"/etc/network/interfaces", "/etc/udev/rules.d/70-persistent-net.rules"}
	for _, dir := range networkFolders {
		names, err := r.Glob(dir, "*")
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			paths = append(paths, dir+"/"+name)
		}
	}
	for _, path := range paths {
		look, err := r.Fingerprint(path)
		if err != nil {
			return nil, err
		}
		if look != "" {
			files[path] = look
		}
	}
	return files, nil
}

// Fingerprint is what changes when a file, or the one it links to, is written; ""
// is no file.
func (r *Root) Fingerprint(path string) (string, error) {
	link, err := r.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	look := lastWrite(link)
	if to, err := r.Stat(path); err == nil {
		look += " " + lastWrite(to)
	}
	return look, nil
}

// lastWrite is a file's inode number, size in bytes, and time of its last write.
// Its owner and mode may change: that configures nothing.
func lastWrite(st fs.FileInfo) string {
	inode := uint64(0)
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		inode = sys.Ino
	}
	return fmt.Sprint(inode, st.Size(), st.ModTime().UnixNano())
}

// Since lists the files that were written, made or removed after the first look,
// sorted.
func (now NetworkFiles) Since(before NetworkFiles) (changed []string) {
	for path, look := range now {
		if before[path] != look {
			changed = append(changed, path)
		}
	}
	for path := range before {
		if now[path] == "" {
			changed = append(changed, path)
		}
	}
	slices.Sort(changed)
	return changed
}
