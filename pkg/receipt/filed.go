package receipt

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"instance-debootstrap/pkg/dpkg"
	"instance-debootstrap/pkg/filesystem"
)

// Filed is what a node keeps of a guest that was installed there (KEEP_RECEIPTS).
type Filed struct {
	Instance string         `json:"instance"`       // as it is called now
	UUID     string         `json:"uuid,omitempty"` // Ganeti's, of the instance, whatever that is called
	Receipt  Receipt        `json:"receipt"`
	Packages []dpkg.Package `json:"packages"` // as they were installed
}

// folder is where they are, below the program's own folder.
const folder, suffix = "receipts", ".json"

func filedPath(state, instance string) string {
	return filepath.Join(state, folder, instance+suffix)
}

// Keep makes it the one of its instance, durably. Only root may read it: a receipt names disks. The
// one before goes first, so that the name is free, and a run that is killed leaves nothing else.
func (k Filed) Keep(state string) error {
	text, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(state, folder), 0o700); err != nil {
		return err
	}
	return cmp.Or(Forget(state, k.Instance), filesystem.WriteDurably(filedPath(state, k.Instance), append(text, '\n')))
}

// ReadFiled reads those of all instances, by name. One that can't be read is in the error; the
// others are returned all the same.
func ReadFiled(state string) (all []Filed, err error) {
	files, _ := filepath.Glob(filedPath(state, "*"))
	for _, path := range files {
		k, fault := readFiled(path)
		if errors.Is(fault, fs.ErrNotExist) { // it has just gone
			continue
		}
		if fault != nil {
			err = errors.Join(err, fmt.Errorf("%s is damaged: remove it: %w", path, fault))
			continue
		}
		all = append(all, k)
	}
	return all, err
}

func readFiled(path string) (k Filed, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return k, err
	}
	if err := json.Unmarshal(text, &k); err != nil {
		return k, err
	}
	if name := strings.TrimSuffix(filepath.Base(path), suffix); k.Instance != name {
		return k, fmt.Errorf("it is of %q", k.Instance)
	}
	return k, nil
}

// IsOf tells whether the one of a name, if there is one, is of the guest that was made for an
// instance of Ganeti's, or for none (""): who installs by hand may call a guest as an instance
// is called.
func IsOf(state, instance, uuid string) bool {
	k, err := readFiled(filedPath(state, instance))
	return err != nil || uuid != "" || k.UUID == ""
}

// Forget removes the one of an instance, if there is one, durably.
func Forget(state, instance string) error {
	err := os.Remove(filedPath(state, instance))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return cmp.Or(err, filesystem.SyncFolder(filepath.Join(state, folder)))
}

// RenameFiled hands on the one of an instance that has another name now. An import under another
// name ends with a rename, too, from the name of the instance that was exported: that one may
// still be here, with another UUID, and keeps its own.
func RenameFiled(state, uuid, from, to string) error {
	if from == to {
		return nil
	}
	k, err := readFiled(filedPath(state, from))
	isAnothers := err == nil && uuid != "" && k.UUID != "" && k.UUID != uuid
	if errors.Is(err, fs.ErrNotExist) || isAnothers {
		return Forget(state, to)
	}
	if err != nil {
		return err
	}
	k.Instance = to
	return cmp.Or(k.Keep(state), Forget(state, from))
}
