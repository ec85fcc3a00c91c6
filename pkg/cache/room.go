package cache

import (
	"archive/tar"
	"context"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// Room is what files take on a filesystem of their own.
type Room struct{ Bytes, Inodes int64 }

// RoomOf tells how much all of a tar's files take.
func RoomOf(ctx context.Context, tar *os.File) (Room, error) {
	found, err := scanFile(ctx, tar)
	return Room{found.contentBytes, found.inodes}, err
}

// RoomBelow adds to rooms how much of a tar's tree is in each of some folders: what is in one of
// them below another counts for the lower one.
func RoomBelow(ctx context.Context, tar string, folders []string, rooms map[string]Room) error {
	return scanNames(ctx, tar, func(name string, m member) {
		nearest := ""
		for _, folder := range folders {
			if len(folder) > len(nearest) && strings.HasPrefix(name+"/", folder+"/") {
				nearest = folder
			}
		}
		if nearest != "" {
			room := rooms[nearest]
			rooms[nearest] = Room{room.Bytes + m.bytes, room.Inodes + m.inodes}
		}
	})
}

// InTheWay are the links that a tar's tree has on the way to some paths, or in their place, and
// other things that are no folders, by those paths. mayBeFiles says that the paths themselves may
// be files.
func InTheWay(ctx context.Context, file string, paths []string, mayBeFiles bool) (map[string]string, error) {
	found := map[string]string{}
	err := scanNames(ctx, file, func(name string, m member) {
		if m.kind == tar.TypeDir || m.name == "" {
			return
		}
		isFile := slices.Contains([]byte{tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont, tar.TypeLink}, m.kind)
		for _, p := range paths {
			if strings.HasPrefix(p, name+"/") || p == name && !(mayBeFiles && isFile) {
				found[p] = name
			}
		}
	})
	return found, err
}

// scanNames tells of each member of a tar by its path in the tree.
func scanNames(ctx context.Context, tar string, each func(path string, m member)) error {
	f, err := os.Open(tar)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = scanEach(ctx, f, func() int64 {
		pos, _ := f.Seek(0, io.SeekCurrent) // of a regular file it can't fail
		return pos
	}, func(m member) { each(path.Clean("/"+m.name), m) })
	return err
}
