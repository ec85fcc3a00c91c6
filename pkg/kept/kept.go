// Package kept holds files of a guest on the node while its disk is installed anew.
//
// What is held is whole, and durable, before the disk is touched: a folder in StateDir with a
// tar, and beside it what it is, which is written last. It is removed when the new guest has
// the files. It is the one thing that outlives a run that is killed: the next reinstall of the
// instance uses it.
package kept

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/transport"
)

// Held are files of a guest's.
type Held struct {
	ID       string            `json:"id"`
	Instance string            `json:"instance"`
	Disk     string            `json:"disk"`
	RootUUID string            `json:"root_uuid"` // of the filesystem that they were read from
	Paths    []string          `json:"paths"`
	At       time.Time         `json:"at"`
	Bytes    int64             `json:"bytes"` // of the tar
	SHA256   string            `json:"sha256"`
	Users    map[uint32]string `json:"users"` // of the guest that they are from, by number
	Groups   map[uint32]string `json:"groups"`
	// Begun says by what a disk is known on which the last run has begun to make the new
	// guest, see Begin.
	Begun string `json:"begun,omitempty"`

	// Dir is the folder that they are in.
	Dir string `json:"-"`
}

const (
	filesName = "files.tar"
	heldName  = "held.json"
)

// Folder is where all are held, root's alone: a folder for each instance, with one for each
// time that files were read.
func Folder() string { return filepath.Join(paths.StateDir, "kept") }

// Source is where files are read.
type Source struct {
	Key      string // of the instance
	Instance string // its name
	Disk     string
	RootUUID string
	Tree     string                                               // the guest's files, mounted
	Mounts   []string                                             // what else of the guest is mounted below that, by whole paths
	Edit     func(context.Context, func(*guest.Root) error) error // opens all of it
	Paths    []string
	MaxBytes int64
	// MetadataLoss is METADATA_LOSS.
	MetadataLoss string
}

// Hold reads the files of those of the paths that the guest has. missing are the others.
func Hold(ctx context.Context, from Source) (held *Held, missing []string, err error) {
	h := &Held{ID: strings.ToLower(rand.Text()), Instance: from.Instance, Disk: from.Disk, RootUUID: from.RootUUID, At: time.Now().UTC().Truncate(time.Second)}
	err = from.Edit(ctx, func(root *guest.Root) (err error) {
		for _, path := range from.Paths {
			there, err := root.IsPlain(path)
			switch {
			case err != nil:
				return fmt.Errorf("%w: name in REINSTALL_KEEP where the files are, or leave it out", err)
			case !there:
				missing = append(missing, path)
			default:
				h.Paths = append(h.Paths, path)
			}
		}
		h.Users, h.Groups, err = readNames(root)
		return err
	})
	if err != nil || len(h.Paths) == 0 {
		return nil, missing, err
	}
	h.Dir = filepath.Join(Folder(), from.Key, h.ID)
	if err := h.write(ctx, from); err != nil {
		return nil, missing, errors.Join(fmt.Errorf("hold the files of REINSTALL_KEEP in %s: %w", Folder(), err), Discard(h.Dir))
	}
	return h, missing, nil
}

// write makes all of it durable, what it is last.
func (h *Held) write(ctx context.Context, from Source) error {
	if err := os.MkdirAll(h.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(h.Dir, filesName), os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	sum := sha256.New()
	out := &bounded{to: io.MultiWriter(f, sum), left: from.MaxBytes}
	err = transport.OrLoss(ctx, from.MetadataLoss, "what is held", transport.PackNames(ctx, from.Tree, out, h.Paths, from.Mounts))
	if out.err != nil {
		err = out.err
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	h.Bytes, h.SHA256 = from.MaxBytes-out.left, hex.EncodeToString(sum.Sum(nil))
	if err := h.describe(); err != nil {
		return err
	}
	for dir := h.Dir; dir != filepath.Dir(paths.StateDir); {
		dir = filepath.Dir(dir)
		if err := filesystem.SyncFolder(dir); err != nil {
			return err
		}
	}
	return nil
}

// describe makes durable what is held.
func (h *Held) describe() error {
	text, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return err
	}
	return filesystem.WriteDurably(filepath.Join(h.Dir, heldName), append(text, '\n'))
}

// Begin notes by what the disk will be known, before it is touched, so that what is half made can
// be told from another guest. No mark is that the disk begins to be made without what is held.
func (h *Held) Begin(marks ...string) error {
	if begun := strings.Join(marks, " "); begun != h.Begun {
		h.Begun = begun
		return h.describe()
	}
	return nil
}

// IsBegun tells whether a disk is known by that.
func (h Held) IsBegun(mark string) bool {
	return mark != "" && slices.Contains(strings.Fields(h.Begun), mark)
}

// bounded lets so many bytes pass. It remembers why it let no more: tar only knows of a pipe
// that was closed.
type bounded struct {
	to   io.Writer
	left int64
	err  error
}

// errTooMuch says that files are more than the setting lets be held.
var errTooMuch = errors.New("they are more than REINSTALL_KEEP_MAX: raise it, or name less in REINSTALL_KEEP")

func (b *bounded) Write(p []byte) (n int, err error) {
	if b.err == nil && int64(len(p)) > b.left {
		b.err = errTooMuch
	}
	if b.err != nil {
		return 0, b.err
	}
	n, b.err = b.to.Write(p)
	b.left -= int64(n)
	return n, b.err
}

// Of returns what is held of an instance, the newest first, and the folders of what was never
// whole.
func Of(key string) (whole []Held, unfinished []string, err error) {
	return heldIn(filepath.Join(Folder(), key))
}

// All is Of for all instances of this node.
func All() (whole []Held, unfinished []string, err error) {
	keys, err := os.ReadDir(Folder())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	for _, key := range keys {
		w, u, werr := heldIn(filepath.Join(Folder(), key.Name()))
		whole, unfinished, err = append(whole, w...), append(unfinished, u...), errors.Join(err, werr)
	}
	return whole, unfinished, err
}

func heldIn(dir string) (whole []Held, unfinished []string, err error) {
	ids, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	for _, id := range ids {
		h := Held{Dir: filepath.Join(dir, id.Name())}
		text, rerr := os.ReadFile(filepath.Join(h.Dir, heldName))
		switch {
		case errors.Is(rerr, fs.ErrNotExist):
			unfinished = append(unfinished, h.Dir)
			continue
		case rerr == nil:
			rerr = json.Unmarshal(text, &h)
		}
		if rerr != nil {
			err = errors.Join(err, fmt.Errorf("what is held in %s can't be read: %w: unpack its %s by hand, then remove the folder", h.Dir, rerr, filesName))
			continue
		}
		whole = append(whole, h)
	}
	slices.SortFunc(whole, func(a, b Held) int { return b.At.Compare(a.At) })
	return whole, unfinished, err
}

// Forget removes what is held, once it isn't needed. What makes it count goes first.
func (h Held) Forget() error {
	err := errors.Join(os.Remove(filepath.Join(h.Dir, heldName)), filesystem.SyncFolder(h.Dir))
	return errors.Join(err, Discard(h.Dir))
}

// Discard removes a folder of files that don't count.
func Discard(dir string) error {
	err := os.RemoveAll(dir)
	_ = os.Remove(filepath.Dir(dir)) // the instance's, when it is empty
	return err
}

// Open opens the tar that they are in.
func (h Held) Open() (*os.File, error) { return os.Open(filepath.Join(h.Dir, filesName)) }

// Exists tells whether they are held still.
func (h Held) Exists() bool {
	_, err := os.Stat(filepath.Join(h.Dir, heldName))
	return err == nil
}

// String is what they are, for a message.
func (h Held) String() string {
	return fmt.Sprintf("files of %s (%s), read from %s on %s, in %s", h.Instance, strings.Join(h.Paths, ", "), h.Disk, h.At.Format(time.DateTime), h.Dir)
}
