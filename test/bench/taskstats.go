package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// exited is what the kernel tells of a thread that ended: struct taskstats of
// linux/taskstats.h, sent to those who asked for it by generic netlink
// (Documentation/accounting/taskstats.rst). Nothing has to be sampled.
type exited struct {
	pid, parent uint32 // parent is the process that started its process
	command     string
	cpu         time.Duration
	peakKiB     int64 // of its process's memory: what VmHWM showed at the end
}

// The offsets in struct taskstats, the same since its version 8.
const (
	offCPU     = 72 // cpu_run_virtual_total, ns
	offComm    = 80
	offPID     = 128
	offPPID    = 132
	offHighRSS = 200 // KiB
	statsBytes = 208
)

// Numbers of linux/taskstats.h and linux/genetlink.h.
const (
	cmdGet, attrRegister             = 1, 3
	attrStats, attrAggrPID           = 3, 4
	ctrlFamilyID, ctrlFamilyName     = 1, 2
	nlHeader, genlHeader, attrHeader = 16, 4, 4
	attrTypeMask                     = 0x3fff // NLA_TYPE_MASK of linux/netlink.h
)

// accounting collects the records of all threads of the machine that end.
type accounting struct {
	fd int

	mu      sync.Mutex
	records []exited
	lost    bool
}

// startAccounting asks for the records. It works in the first PID namespace only.
func startAccounting() (*accounting, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, err
	}
	a := &accounting{fd: fd}
	if err := a.register(); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("the kernel's task accounting (taskstats): %w", err)
	}
	go a.receive()
	return a, nil
}

func (a *accounting) register() error {
	if err := unix.Bind(a.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20); err != nil {
		return err
	}
	answer, err := a.ask(unix.GENL_ID_CTRL, unix.CTRL_CMD_GETFAMILY, ctrlFamilyName, "TASKSTATS\x00")
	if err != nil {
		return err
	}
	id := attribute(answer[nlHeader+genlHeader:], ctrlFamilyID)
	if len(id) < 2 {
		return errors.New("this kernel has none")
	}
	_, err = a.ask(binary.NativeEndian.Uint16(id), cmdGet, attrRegister, fmt.Sprintf("0-%d\x00", runtime.NumCPU()-1))
	return err
}

// ask sends one request with one attribute and returns the first answer.
func (a *accounting) ask(family uint16, command byte, attr uint16, value string) ([]byte, error) {
	var attribute bytes.Buffer
	binary.Write(&attribute, binary.NativeEndian, uint16(attrHeader+len(value)))
	binary.Write(&attribute, binary.NativeEndian, attr)
	attribute.WriteString(value)
	for attribute.Len()%4 != 0 {
		attribute.WriteByte(0)
	}
	var message bytes.Buffer
	binary.Write(&message, binary.NativeEndian, unix.NlMsghdr{
		Len: uint32(nlHeader + genlHeader + attribute.Len()), Type: family, Flags: unix.NLM_F_REQUEST | unix.NLM_F_ACK, Seq: 1,
	})
	message.Write([]byte{command, 1, 0, 0})
	message.Write(attribute.Bytes())
	if err := unix.Sendto(a.fd, message.Bytes(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	var first []byte
	buf := make([]byte, 16<<10)
	for { // the answer, if there is one, and then its acknowledgement
		n, _, err := unix.Recvfrom(a.fd, buf, 0)
		if err != nil {
			return nil, err
		}
		if binary.NativeEndian.Uint16(buf[4:]) != unix.NLMSG_ERROR {
			first = bytes.Clone(buf[:n])
			continue
		}
		if errno := int32(binary.NativeEndian.Uint32(buf[nlHeader:])); errno != 0 {
			return nil, unix.Errno(-errno)
		}
		return first, nil
	}
}

func (a *accounting) receive() {
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(a.fd, buf, 0)
		a.mu.Lock()
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS):
			a.lost = true
		case err != nil:
			a.mu.Unlock()
			return
		default:
			a.take(buf[:n])
		}
		a.mu.Unlock()
	}
}

// take reads the records of one datagram: messages, each with a thread's and
// perhaps its process's.
func (a *accounting) take(data []byte) {
	for len(data) >= nlHeader+genlHeader {
		length := int(binary.NativeEndian.Uint32(data))
		if length < nlHeader+genlHeader || length > len(data) {
			return
		}
		stats := attribute(attribute(data[nlHeader+genlHeader:length], attrAggrPID), attrStats)
		if len(stats) >= statsBytes {
			comm, _, _ := bytes.Cut(stats[offComm:offComm+32], []byte{0})
			a.records = append(a.records, exited{
				pid: binary.NativeEndian.Uint32(stats[offPID:]), parent: binary.NativeEndian.Uint32(stats[offPPID:]), command: string(comm),
				cpu:     time.Duration(binary.NativeEndian.Uint64(stats[offCPU:])),
				peakKiB: int64(binary.NativeEndian.Uint64(stats[offHighRSS:])),
			})
		}
		data = data[min((length+3)&^3, len(data)):]
	}
}

// attribute returns the value of the first attribute of a type, nil is none.
func attribute(data []byte, kind uint16) []byte {
	for len(data) >= attrHeader {
		length := int(binary.NativeEndian.Uint16(data))
		if length < attrHeader || length > len(data) {
			return nil
		}
		if binary.NativeEndian.Uint16(data[2:])&attrTypeMask == kind {
			return data[attrHeader:length]
		}
		data = data[min((length+3)&^3, len(data)):]
	}
	return nil
}

// begin forgets what was recorded.
func (a *accounting) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.records, a.lost = nil, false
}

// end returns what the processes that parent started since begin, and theirs,
// have used.
func (a *accounting) end(parent int) (usage, error) {
	time.Sleep(20 * time.Millisecond) // the last thread's record comes after wait(2) returned
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lost {
		return usage{}, errors.New("the kernel's task accounting lost records: a larger net.core.rmem_max would help")
	}
	ours := map[uint32]bool{uint32(parent): true}
	for grown := true; grown; {
		grown = false
		for _, r := range a.records {
			if ours[r.parent] && !ours[r.pid] {
				ours[r.pid], grown = true, true
			}
		}
	}
	var u usage
	for _, r := range a.records {
		if ours[r.parent] {
			u.add(r)
		}
	}
	return u, nil
}
