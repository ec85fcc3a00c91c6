package cache

import (
	"context"
	"io"
	"os"
	"path"
	"strings"
)

// Room is what files take on a filesystem of their own.
type Room struct{ Bytes, Inodes int64 }

// RoomOf tells how much all of a tar's files take.
func RoomOf(ctx context.Context, tar *os.File) (Room, error) {
	found, err := scanFile(ctx, tar)
	return Room{found.contentBytes, found.inodes}, err
}

// RoomBelow tells how much of a tar's tree is in each of some folders: what is in one of them
// below another counts for the lower one.
func RoomBelow(ctx context.Context, tar string, folders []string) (map[string]Room, error) {
	f, err := os.Open(tar)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rooms := map[string]Room{}
	_, err = scanEach(ctx, f, func() int64 {
		pos, _ := f.Seek(0, io.SeekCurrent) // of a regular file it can't fail
		return pos
	}, func(name string, bytes, inodes int64) {
		name = path.Clean("/" + name)
		nearest := ""
		for _, folder := range folders {
			if len(folder) > len(nearest) && strings.HasPrefix(name+"/", folder+"/") {
				nearest = folder
			}
		}
		if nearest != "" {
			room := rooms[nearest]
			rooms[nearest] = Room{room.Bytes + bytes, room.Inodes + inodes}
		}
	})
	return rooms, err
}
