package qemu

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// hear gives a console what a guest says, in pieces, and returns why it ended.
func hear(t *testing.T, c *Console, pieces ...string) error {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	c.begin(cancel)
	for _, piece := range pieces {
		if n, err := c.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
	}
	if c.ended { // a guest that gave up is listened to a little longer
		<-ctx.Done()
	}
	return context.Cause(ctx)
}

func TestALoginPromptIsRecognized(t *testing.T) {
	for said, want := range map[string]bool{
		"\r\nDebian GNU/Linux 12 inst1 ttyS0\r\n\r\ninst1 login: ": true,
		"inst1 login: [   12.3] random: crng init done\r\n":        true,
		"\r\nLast login: Mon Jan  1 00:00:00 on ttyS0\r\n":         false,
		"\r\nsystemd[1]: Started systemd-logind.service\r\n":       false,
		"the text login: in a line":                                false,
	} {
		if got := errors.Is(hear(t, &Console{}, said), errFound); got != want {
			t.Errorf("%q: %v, want %v", said, got, want)
		}
	}
}

func TestAMarkerIsFoundAcrossPieces(t *testing.T) {
	c := &Console{Marker: "the root is mounted"}
	if err := hear(t, c, strings.Repeat("x", 200000), "\r\nthe root ", "is mou", "nted\r\n"); !errors.Is(err, errFound) {
		t.Error(err)
	}
	if err := hear(t, c, "inst1 login: "); err != nil {
		t.Errorf("a prompt that isn't waited for ended it: %v", err)
	}
}

func TestAGuestThatGivesUpIsNotWaitedFor(t *testing.T) {
	for _, said := range []string{
		"error: no such device: 1234.\r\ngrub rescue> ", "Booting from Hard Disk...\r\nNo bootable device.\r\n",
		"Kernel panic - not syncing: VFS: Unable to mount root fs\r\n", "\r\n(initramfs) ",
	} {
		err := hear(t, &Console{}, said)
		if err == nil || !strings.Contains(err.Error(), "gave up") {
			t.Errorf("%q: %v", said, err)
		}
	}
}

func TestAFloodIsBoundedAndItsEndIsKept(t *testing.T) {
	c := &Console{}
	flood := strings.Repeat("spam spam spam\r\n", 4096)
	pieces := slices.Repeat([]string{flood}, 200)
	hear(t, c, append(pieces, "the end\r\n")...)
	if len(c.kept) > 3*keptBytes || cap(c.kept) > 8*keptBytes {
		t.Errorf("%d bytes are kept, in %d", len(c.kept), cap(c.kept))
	}
	if tail := c.Tail(2); !slices.Equal(tail, []string{"spam spam spam", "the end"}) {
		t.Errorf("the last lines are %q", tail)
	}
}

func TestAHostileGuestCannotReachTheAdminsTerminal(t *testing.T) {
	var copied strings.Builder
	c := &Console{Copy: &copied}
	hear(t, c, "\x1b[2J\x1b[1;1Hhello\x1b]0;title\x07 \x1b[31mred\x1b[0m\x9b31m \x1bPq\x1b\\\r\n+----+\r\nover\rwritten\r\n")
	for _, text := range append(c.Tail(9), copied.String()) {
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x9b }) {
			t.Errorf("%q", text)
		}
	}
	if tail := c.Tail(9); tail[len(tail)-1] != "written" || strings.Contains(strings.Join(tail, " "), "+--") {
		t.Errorf("%q", tail)
	}
}

func TestWhatTheNodeLacksIsNamedByPackage(t *testing.T) {
	if err := Check("amd64", []string{"bios", "coreboot"}); err == nil || !strings.Contains(err.Error(), `"coreboot"`) {
		t.Error(err)
	}
	if err := Check("arm64", []string{"bios"}); err == nil || !strings.Contains(err.Error(), `"bios": qemu-system-aarch64 has uefi`) {
		t.Error(err)
	}
}

func TestGRUBsScreenCodesAndControlStringsAreNoWords(t *testing.T) {
	said := "\x1bc\x1b[?7l\x1b[2J\x1b[0m\x1b[37m\x1b[40m\x1b[01;23HGNU GRUB  version 2.06\x1b[3;2H+----+\x1b[5;80H*Debian GNU/Linux\x1b[01;01H" +
		"\x1b]0;title\x07\x1b]8;;http://evil.example\x1b\\here\x1bP1$r\x1b\\\r\nLoading Linux ...\x1b]2;never ended\nweb1 login: "
	want := []string{"GNU GRUB  version 2.06", "*Debian GNU/Linux", "here", "Loading Linux ...2;never ended", "web1 login:"}
	if got := LastLines([]byte(said), 10); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := LastLines([]byte(said), 2); !slices.Equal(got, want[3:]) {
		t.Errorf("the last two: %q", got)
	}
}
