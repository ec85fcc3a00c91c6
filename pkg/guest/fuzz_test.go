package guest

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// FuzzEditFstab: whatever a guest's fstab is, an edit keeps every byte that it
// isn't about, what it writes is read as it was meant, and done again it changes
// nothing.
func FuzzEditFstab(f *testing.F) {
	for _, text := range []string{
		"", "\n", "# a comment\n\n", "UUID=0d5bcd04-2a0f-4b3e-9c52-1f2a5e3a7a10 / ext4 errors=remount-ro 0 1\n/dev/sda2 none swap sw 0 0\nproc /proc proc",
		"  LABEL=a\\040b\t/ ext4\n", "/dev/sda1 /\r\n", "/dev/\\134 / x\n/dev/sda1 /srv/a\\040b\\011c xfs\n", "one\n two\nthree four\n", "a / b c d e f g\n\\ / \\9", "\x00\xff /\xff\n\xff\x00 / \xff swap", "#x / ext4\n #x / ext4",
	} {
		for _, device := range []string{"UUID=a1b2", "LABEL=my root", "\\040", "#1", "a\tb\nc\rd"} {
			f.Add([]byte(text), device)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, device string) {
		if device == "" {
			t.Skip() // an entry always names something
		}
		checkEdit(t, text, device)
		if got := EditFstab(text, func(e FstabEntry) (string, string) { return e.Device, "" }); !bytes.Equal(got, text) {
			t.Errorf("an edit of nothing made %q of %q", got, text)
		}
	})
}

// editAs gives the root another device, and disables swap.
func editAs(device string) func(e FstabEntry) (string, string) {
	return func(e FstabEntry) (string, string) {
		switch {
		case e.Dir == "/":
			return device, ""
		case e.Type == "swap":
			return "", "not there"
		}
		return e.Device, ""
	}
}

func checkEdit(t *testing.T, text []byte, device string) {
	edit := editAs(device)
	out := EditFstab(text, edit)
	var want []FstabEntry
	rest := out
	for line := range bytes.Lines(text) {
		entries := ParseFstab(line)
		if len(entries) > 1 {
			t.Fatalf("%d entries on the line %q", len(entries), line)
		}
		kept, prefix, e := line, "", FstabEntry{}
		if len(entries) == 1 {
			e = entries[0]
			switch to, disable := edit(e); {
			case disable != "":
				prefix = "# " + disable + ":\n#"
			case to != e.Device:
				at := bytes.IndexAny(bytes.TrimLeft(line, " \t\r"), " \t\r\n") + len(line) - len(bytes.TrimLeft(line, " \t\r"))
				prefix, kept = string(line[:len(line)-len(bytes.TrimLeft(line, " \t\r"))])+fstabEscape.Replace(to), line[at:]
				fallthrough
			default:
				e.Device = to
				want = append(want, e)
			}
		}
		var ok bool
		if rest, ok = bytes.CutPrefix(rest, append([]byte(prefix), kept...)); !ok {
			t.Fatalf("the line %q of %q became %.200q, want %q and %q", line, text, rest, prefix, kept)
		}
	}
	if len(rest) > 0 {
		t.Errorf("%q is added to %q", rest, text)
	}
	if got := ParseFstab(out); !slices.Equal(got, want) {
		t.Errorf("%q with %q is read as %q, want %q", text, device, got, want)
	}
	if again := EditFstab(out, edit); !bytes.Equal(again, out) {
		t.Errorf("%q, edited again, becomes %q", out, again)
	}
	if lines, before := strings.Count(string(out), "\n"), strings.Count(string(text), "\n"); lines < before {
		t.Errorf("%d lines became %d", before, lines)
	}
}
