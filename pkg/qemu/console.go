package qemu

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"

	"instance-debootstrap/pkg/pattern"
)

const (
	keptBytes = 64 << 10 // of what the guest said last
	overlap   = 512      // what two looks at it have in common
)

// Console is a machine's serial port. It is looked through for the marker as it
// comes.
type Console struct {
	// Marker is the text to wait for; "" is a login prompt.
	Marker string
	// Copy, when set, gets every line as it comes, without what moves a cursor.
	Copy io.Writer

	mu    sync.Mutex
	kept  []byte
	line  []byte
	ended bool
	end   context.CancelCauseFunc
}

var loginPrompt = pattern.New(`(?:^|[\r\n])[^\s:]+ login: `)

// hopeless is what a guest says that doesn't come any further by itself: GRUB,
// SeaBIOS, OVMF, Linux, initramfs-tools and systemd.
var hopeless = []string{"grub rescue>", "No bootable device", "BdsDxe: No bootable option", "Kernel panic - not syncing", "(initramfs) ", "You are in emergency mode"}

// lastWords is how long a guest that gave up is listened to, for its reasons.
const lastWords = 2 * time.Second

// begin makes the console ready for a machine, which end ends.
func (c *Console) begin(end context.CancelCauseFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept, c.line, c.ended, c.end = nil, nil, false, end
}

// Write takes what the guest says.
func (c *Console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	from := max(0, len(c.kept)-overlap)
	c.kept = append(c.kept, p...)
	if over := len(c.kept) - keptBytes - len(p); over > 0 {
		c.kept = append(c.kept[:0], c.kept[over:]...)
		from = max(0, from-over)
	}
	c.copyLines(p)
	c.look(c.kept[from:])
	return len(p), nil
}

func (c *Console) look(said []byte) {
	if c.ended {
		return
	}
	if c.found(said) {
		c.ended = true
		c.end(errFound)
		return
	}
	for _, text := range hopeless {
		if bytes.Contains(said, []byte(text)) {
			c.ended = true
			end, err := c.end, fmt.Errorf("the guest gave up: %q", text)
			time.AfterFunc(lastWords, func() { end(err) })
			return
		}
	}
}

// found says whether the marker is there. "Last login: " of login(1) is no prompt.
func (c *Console) found(said []byte) bool {
	if c.Marker != "" {
		return bytes.Contains(said, []byte(c.Marker))
	}
	if !bytes.Contains(said, []byte(" login: ")) {
		return false
	}
	for _, m := range loginPrompt().FindAll(said, -1) {
		if !bytes.HasSuffix(m, []byte("Last login: ")) {
			return true
		}
	}
	return false
}

// copyLines hands on whole lines.
func (c *Console) copyLines(p []byte) {
	if c.Copy == nil {
		return
	}
	c.line = append(c.line, p...)
	end := bytes.LastIndexByte(c.line, '\n') + 1
	if end == 0 && len(c.line) > keptBytes {
		end = len(c.line)
	}
	for _, line := range plain(c.line[:end]) {
		fmt.Fprintln(c.Copy, line)
	}
	c.line = append(c.line[:0], c.line[end:]...)
}

// flush hands on a last line that has no end.
func (c *Console) flush() {
	if c.Copy != nil && len(c.line) > 0 {
		c.copyLines([]byte("\n"))
	}
}

// Tail returns the last lines that the guest has said, as plain text.
func (c *Console) Tail(lines int) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return LastLines(c.kept, lines)
}

// LastLines returns the last lines of what a guest has said on its serial port, as
// plain text.
func LastLines(said []byte, lines int) []string {
	out := plain(said)
	return out[max(0, len(out)-lines):]
}

var (
	moves = pattern.New(`\x1b\[[0-9;]*[Hf]`) // to another place: a new line
	// ECMA-48's control strings and sequences, and the VT100's own
	escapes  = pattern.New(`\x1b(?:[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)|\[[0-9;?<=>]*[ -/]*[@-~]|[()#][0-9A-Za-z]|[@-Z\\-_=>c78])`)
	longGaps = pattern.New(` {3,}`)
)

func isWordy(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// plain makes lines of printable text of what was meant for a terminal, without
// empty ones. A hostile guest can't reach the admin's terminal with it.
func plain(said []byte) (lines []string) {
	said = escapes().ReplaceAll(moves().ReplaceAll(said, []byte("\n")), nil)
	for line := range strings.SplitSeq(strings.ToValidUTF8(string(said), "?"), "\n") {
		if at := strings.LastIndexByte(strings.TrimRight(line, "\r"), '\r'); at >= 0 {
			line = line[at+1:]
		}
		line = strings.Map(func(r rune) rune {
			if r < ' ' || r >= 0x7f && r < 0xa0 {
				return -1
			}
			return r
		}, strings.ReplaceAll(line, "\t", " "))
		// (Of GRUB's menu the frame is left out.)
		if line = strings.TrimSpace(longGaps().ReplaceAllString(line, "  ")); strings.ContainsFunc(line, isWordy) {
			lines = append(lines, line)
		}
	}
	return lines
}
