//go:build root

package filesystem

import (
	"strings"
	"testing"
)

func TestSwapIsMadeWithAKnownUUID(t *testing.T) {
	dev := loop(t, 64*miB)
	putGPT(t, dev)
	uuid, err := MakeSwap(t.Context(), dev)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := Probe(t.Context(), dev); err != nil || info.Type != "swap" || info.UUID != uuid {
		t.Errorf("%+v, %v; want UUID %s", info, err, uuid)
	}
	if ok, what, err := IsBlankOrSwap(t.Context(), dev); err != nil || !ok || what != "swap" {
		t.Errorf("again: %v, %q, %v", ok, what, err)
	}
}

func TestOnlyABlankDiskOrSwapMayBecomeSwap(t *testing.T) {
	for name, c := range map[string]struct {
		put  func(dev string)
		ok   bool
		what string
	}{
		"blank":              {func(string) {}, true, "blank"},
		"swap":               {leftoverPut(t, "swap"), true, "swap"},
		"ext4":               {leftoverPut(t, "ext4"), false, "ext4 (UUID "},
		"labelled":           {func(dev string) { must(t, "mke2fs", "-q", "-F", "-L", "mail", dev) }, false, "ext2 (label mail)"},
		"gpt":                {leftoverPut(t, "gpt"), false, "a gpt partition table"},
		"lvm2":               {leftoverPut(t, "lvm2"), false, "LVM2_member"},
		"hibernated":         {func(dev string) { must(t, "mkswap", "-q", dev); write(t, dev, 4086, []byte("S1SUSPEND\x00")) }, false, "swsuspend"},
		"unknown, first MiB": {func(dev string) { write(t, dev, miB-1, []byte{1}) }, false, "unknown kind (at byte 1048575)"},
		"unknown, last MiB":  {func(dev string) { write(t, dev, 399*miB, []byte{1}) }, false, "unknown kind (at byte 418381824)"},
		"unknown, inside": {func(dev string) {
			write(t, dev, 200*miB+12345, []byte(strings.Repeat("no signature, but data ", 300<<10/23*10)))
		}, false, "unknown kind"},
	} {
		t.Run(name, func(t *testing.T) {
			dev := loop(t, 400*miB)
			c.put(dev)
			ok, what, err := IsBlankOrSwap(t.Context(), dev)
			if err != nil || ok != c.ok || !strings.Contains(what, c.what) {
				t.Errorf("%v, %q, %v; want %v, %q", ok, what, err, c.ok, c.what)
			}
		})
	}
	for _, size := range []int64{512, 4096, 1000, miB, 5*miB + 1} {
		if ok, what, err := IsBlankOrSwap(t.Context(), sparseFile(t, size)); !ok || err != nil {
			t.Errorf("a blank file of %d bytes: %q, %v", size, what, err)
		}
	}
	// Up to 16 MiB every byte is looked at.
	for at := 5*miB + 4321; at < 15*miB; at += miB / 3 {
		path := sparseFile(t, 16*miB)
		write(t, path, at, []byte{1})
		if ok, _, _ := IsBlankOrSwap(t.Context(), path); ok {
			t.Errorf("the byte at %d was overlooked", at)
		}
	}
	if ok, _, err := IsBlankOrSwap(t.Context(), "/dev/no-such-disk"); ok || err == nil {
		t.Errorf("a missing disk: %v, %v", ok, err)
	}
}

func leftoverPut(t *testing.T, name string) func(dev string) {
	return func(dev string) { leftovers[name].put(t, dev) }
}
