package kept

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/tell"
	"instance-debootstrap/pkg/transport"
)

// Restore puts the files into another guest's tree, in the place of what it has there. They
// are unpacked and looked at in a folder of ours first. They are durable there when it returns:
// should the node fail later, a receipt that names them is never on the disk without them.
func (h Held) Restore(ctx context.Context, target, metadataLoss string) error {
	f, err := h.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	var top *os.File
	if err = h.unpackInto(ctx, f, target, metadataLoss); err == nil {
		top, err = os.Open(target)
	}
	if err = cmp.Or(err, filesystem.SyncTree(top)); err != nil {
		return fmt.Errorf("put back the files that are held in %s: %w", h.Dir, err)
	}
	return nil
}

func (h Held) unpackInto(ctx context.Context, f *os.File, target, metadataLoss string) error {
	staging, err := os.MkdirTemp(target, ".instance-debootstrap-kept-")
	if err != nil {
		return err
	}
	err = transport.OrLoss(ctx, metadataLoss, "the guest", h.unpack(ctx, f, staging))
	if err == nil {
		err = guest.Edit(ctx, target, func(root *guest.Root) error { return h.settle(ctx, root, staging) })
	}
	return cmp.Or(err, os.RemoveAll(staging))
}

// ErrDamaged says that what is held isn't what was read from the old guest.
var ErrDamaged = errors.New("they aren't what was read from the old guest, since the node has damaged them: unpack what you need of files.tar by hand, and remove that folder")

// unpack tells of damage before anything that tar makes of it.
func (h Held) unpack(ctx context.Context, f *os.File, dir string) error {
	sum, err := transport.UnpackDigested(ctx, f, dir)
	if sum == "" && context.Cause(ctx) == nil { // tar has stopped reading
		sum = digest(f)
	}
	if sum != "" && sum != h.SHA256 {
		return ErrDamaged
	}
	return err
}

// digest is an open file's SHA-256, in hexadecimal digits; "" is one that can't be read.
func digest(f *os.File) string {
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, math.MaxInt64)); err != nil {
		return ""
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// Try unpacks the files into a folder of a filesystem that is dropped after it: what that doesn't
// take, another of its type doesn't, either. Of what is lost with METADATA_LOSS=warn, Restore warns.
func (h Held) Try(ctx context.Context, dir, metadataLoss string) error {
	f, err := h.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	err = h.unpack(ctx, f, dir)
	if _, isLoss := err.(*transport.LossError); isLoss && metadataLoss == "warn" { //nolint:errorlint // as OrLoss
		return nil
	}
	return transport.OrLoss(ctx, metadataLoss, "the guest", err)
}

// settle makes what was unpacked this guest's, and moves it to its place.
func (h Held) settle(ctx context.Context, root *guest.Root, staging string) error {
	users, groups, err := readNames(root)
	if err != nil {
		return err
	}
	s := &settling{ctx: ctx, users: newOwners(h.Users, users), groups: newOwners(h.Groups, groups), done: map[uint64]bool{}}
	top, err := unix.Open(staging, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	if err := s.folder(top); err != nil {
		return err
	}
	for _, path := range h.Paths {
		if err := root.MoveInto("/"+filepath.Base(staging)+path, path); err != nil {
			return err
		}
	}
	s.tell()
	return nil
}

// settling goes through files that only we can reach.
type settling struct {
	ctx           context.Context
	users, groups *owners
	done          map[uint64]bool // inodes with several names
	privileges    int             // taken from files
	devices       int             // removed
}

func (s *settling) tell() {
	if s.devices > 0 {
		tell.Warn(s.ctx, "%d device nodes among the kept files are not put back: packages and udev make what the guest needs", s.devices)
	}
	if s.privileges > 0 {
		tell.Warn(s.ctx, "%d of the kept files had set-user-ID, set-group-ID or capabilities, which they lose: whoever broke into the old guest could have left them; chmod or setcap those that need it", s.privileges)
	}
	for what, told := range map[string]string{"users": s.users.told(), "groups": s.groups.told()} {
		if told != "" {
			tell.Warn(s.ctx, "kept files belong to %s whose names the new guest doesn't have, and keep their numbers (%s): have a package or a hook make them, or chown the files in the guest", what, told)
		}
	}
}

// folder settles what is in an open folder. How deep it goes is bounded by the length of a path,
// of which tar takes none that the kernel doesn't.
func (s *settling) folder(dir int) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "folder")
	names, err := f.Readdirnames(-1)
	f.Close()
	for _, name := range names {
		if err == nil {
			err = s.entry(dir, name)
		}
	}
	return err
}

func (s *settling) entry(dir int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	switch kind {
	case unix.S_IFBLK, unix.S_IFCHR:
		s.devices++
		return unix.Unlinkat(dir, name, 0)
	case unix.S_IFDIR:
	default:
		if st.Nlink > 1 && s.done[st.Ino] {
			return nil
		}
		if st.Nlink > 1 {
			s.done[st.Ino] = true
		}
	}
	if kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return s.own(dir, name, st)
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if kind == unix.S_IFDIR {
		if err := s.folder(fd); err != nil {
			return err
		}
	}
	return errors.Join(s.own(dir, name, st), s.file(fd, st, kind == unix.S_IFREG))
}

// own gives a file its owner's number.
func (s *settling) own(dir int, name string, st unix.Stat_t) error {
	uid, gid := s.users.of(st.Uid), s.groups.of(st.Gid)
	if uid == st.Uid && gid == st.Gid {
		return nil
	}
	return unix.Fchownat(dir, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW)
}

// file takes a file's privileges away, and settles its ACLs; the bit that a folder has for the
// group of what is made in it stays.
func (s *settling) file(fd int, st unix.Stat_t, isFile bool) error {
	mode := st.Mode & 0o7777
	if isFile {
		mode &^= unix.S_ISUID | unix.S_ISGID
		err := unix.Fremovexattr(fd, "security.capability")
		if err != nil && err != unix.ENODATA && err != unix.EOPNOTSUPP {
			return err
		}
		if err == nil || mode != st.Mode&0o7777 {
			s.privileges++
		}
	}
	var errs []error
	if mode != st.Mode&0o7777 {
		errs = append(errs, unix.Fchmod(fd, mode))
	}
	for _, name := range []string{"system.posix_acl_access", "system.posix_acl_default"} {
		errs = append(errs, s.acl(fd, name))
	}
	return errors.Join(errs...)
}

// An ACL's attribute (linux/posix_acl_xattr.h): a version of four bytes, and entries of a tag,
// permissions and a number, of which two tags have one.
const (
	aclHead, aclEntry = 4, 8
	aclUser, aclGroup = 0x02, 0x08
)

func (s *settling) acl(fd int, name string) error {
	acl := make([]byte, 64<<10)
	n, err := unix.Fgetxattr(fd, name, acl)
	if err == unix.ENODATA || err == unix.EOPNOTSUPP {
		return nil
	}
	if err != nil {
		return err
	}
	acl = acl[:n]
	changed := false
	for at := aclHead; at+aclEntry <= len(acl); at += aclEntry {
		number := acl[at+4 : at+8]
		id := binary.LittleEndian.Uint32(number)
		to := id
		switch binary.LittleEndian.Uint16(acl[at:]) {
		case aclUser:
			to = s.users.of(id)
		case aclGroup:
			to = s.groups.of(id)
		}
		binary.LittleEndian.PutUint32(number, to)
		changed = changed || to != id
	}
	if !changed {
		return nil
	}
	return unix.Fsetxattr(fd, name, acl, 0)
}
