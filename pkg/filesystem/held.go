package filesystem

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Held is an open folder that no list of this process's open files shows: programs that
// end whoever has a file open below a mount point (fuser -k), as hooks do, leave us alone.
type Held struct {
	name string
	pair [2]int // of sockets: the folder is on its way from one to the other
}

// Hold opens a folder and keeps it open.
func Hold(dir string) (*Held, error) {
	top, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer top.Close()
	h := &Held{name: dir}
	if h.pair, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("keep %s open: %w", dir, err)
	}
	if err := unix.Sendmsg(h.pair[0], []byte{0}, unix.UnixRights(int(top.Fd())), nil, 0); err != nil {
		h.close()
		return nil, fmt.Errorf("keep %s open: %w", dir, err)
	}
	return h, nil
}

// Take returns the folder, open; nil holds none. It can be taken once.
func (h *Held) Take() (*os.File, error) {
	if h == nil {
		return nil, nil
	}
	defer h.close()
	rights := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(h.pair[1], make([]byte, 1), rights, unix.MSG_CMSG_CLOEXEC)
	var fds []int
	if err == nil {
		var messages []unix.SocketControlMessage
		if messages, err = unix.ParseSocketControlMessage(rights[:n]); err == nil && len(messages) == 1 {
			fds, err = unix.ParseUnixRights(&messages[0])
		}
	}
	if err == nil && len(fds) != 1 {
		err = unix.EBADMSG
	}
	if err != nil {
		return nil, fmt.Errorf("keep %s open: %w", h.name, err)
	}
	return os.NewFile(uintptr(fds[0]), h.name), nil
}

func (h *Held) close() {
	unix.Close(h.pair[0])
	unix.Close(h.pair[1])
}
