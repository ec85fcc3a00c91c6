package guest

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"instance-debootstrap/pkg/dpkg"
)

// The seeds are files of Debian guests.

const bookwormHosts = "127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\nff02::1\t\tip6-allnodes\nff02::2\t\tip6-allrouters\n\n"

const grubConfig = `set default=0
if [ x$feature_platform_search_hint = xy ]; then
  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,msdos1  0d5bcd04-2a0f-4b3e-9c52-1f2a5e3a7a10
fi
menuentry 'Debian GNU/Linux' {
	linux	/boot/vmlinuz-6.1.0-50-cloud-amd64 root=UUID=0d5bcd04-2a0f-4b3e-9c52-1f2a5e3a7a10 ro console=ttyS0
	initrd	/boot/initrd.img-6.1.0-50-cloud-amd64
}
`

// FuzzNames: whatever a guest's fstab and grub.cfg call its root, what is taken is
// an id of the form that it says, and no word more.
func FuzzNames(f *testing.F) {
	f.Add([]byte("UUID=0d5bcd04-2a0f-4b3e-9c52-1f2a5e3a7a10 / ext4 errors=remount-ro 0 1\nUUID=1f2a5e3a-2a0f-4b3e-9c52-0d5bcd04ffff none swap sw 0 0\nUUID=AB12-CD34 /boot/efi vfat umask=0077 0 1\n"), []byte(grubConfig))
	f.Add([]byte("PARTUUID=1f2a5e3a-01 / ext4\n/dev/vdb none swap\n"), []byte("linux /vmlinuz root=PARTUUID=1f2a5e3a-01\n"))
	f.Add([]byte("LABEL=\"my root\" / xfs\n/dev/disk/by-uuid/0d5bcd04-2a0f-4b3e-9c52-1f2a5e3a7a10 /srv ext4\n"), []byte("search --fs-uuid --set 0d5bcd04-2a0f-4b3e-9c52-1f2a5e3a7a10\n"))
	f.Add([]byte("/dev/mapper/vg-root / ext4\n"), []byte{})
	f.Fuzz(func(t *testing.T, fstab, grub []byte) {
		var n Names
		n.readFstab(fstab)
		n.readGrub(grub)
		for _, id := range append(slices.Clone(n.SwapUUIDs), n.RootUUID) {
			if id != "" && (len(id) != 36 || strings.Trim(id, "0123456789abcdef-") != "") {
				t.Errorf("%q is taken for a UUID", id)
			}
		}
		if id := n.RootPartUUID; id != "" && (len(id) != 36 && len(id) != 11 || strings.Trim(id, "0123456789abcdef-") != "") {
			t.Errorf("%q is taken for a PARTUUID", id)
		}
		for _, text := range []string{n.RootLabel, n.RootDevice} {
			if strings.HasPrefix(text, "-") || strings.ContainsAny(text, "\x00\n\t\"'\\$`") || len(text) > 69 {
				t.Errorf("%q is taken for a name", text)
			}
		}
	})
}

// FuzzReplaceIDs: all but whole words that are ids stays, byte by byte, and done
// again with ids that are new nothing changes. No id is longer than a UUID.
func FuzzReplaceIDs(f *testing.F) {
	const old, fresh = "0d5bcd04-2a0f-4b3e-9c52-1f2a5e3a7a10", "f00dcafe-2a0f-8b3e-9c52-1f2a5e3a7a10"
	f.Add([]byte(grubConfig), old, fresh)
	f.Add([]byte("x"+old+" "+old+"x "+strings.ToUpper(old)+"\n-"+old+"\xff"+old), old, fresh)
	f.Add([]byte("PARTUUID=1f2a5e3a-01 / ext4\n"), "1f2a5e3a-01", "12345678-01")
	f.Add([]byte(strings.Repeat("0d5bcd04-", 5)), strings.Repeat("0d5bcd04-", 5), fresh)
	f.Fuzz(func(t *testing.T, text []byte, from, to string) {
		if from == "" || len(from) > maxID || from != strings.ToLower(from) || from == strings.ToLower(to) || !isIDWord(from) || !isIDWord(to) {
			return
		}
		ids := map[string]string{from: to}
		out := string(replaceWords(text, ids))
		if want := replacedByHand(string(text), from, to); out != want {
			t.Errorf("%q became %q, want %q", text, out, want)
		}
		if again := string(replaceWords([]byte(out), ids)); again != out {
			t.Errorf("done again, %q became %q", out, again)
		}
	})
}

const idBytes = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-"

func isIDWord(s string) bool { return s != "" && strings.Trim(s, idBytes) == "" }

// replacedByHand walks the text byte by byte.
func replacedByHand(text, from, to string) string {
	var out, word strings.Builder
	end := func() {
		if strings.ToLower(word.String()) == from {
			out.WriteString(to)
		} else {
			out.WriteString(word.String())
		}
		word.Reset()
	}
	for i := range len(text) {
		if strings.IndexByte(idBytes, text[i]) >= 0 {
			word.WriteByte(text[i])
			continue
		}
		end()
		out.WriteByte(text[i])
	}
	end()
	return out.String()
}

// FuzzHosts: whatever a guest's hosts file is, it has the new name after a rename or
// a create and not the old one; comments, and lines without it, stay.
func FuzzHosts(f *testing.F) {
	f.Add(bookwormHosts, "web1.example", "web2.example")
	f.Add("192.0.2.1\tweb1.example web1 # web1.example\n127.0.1.1 web1.example web1\r\n# web1.example\n", "web1.example", "db.example")
	f.Add("127.0.0.1 localhost", "a", "b.c")
	f.Add("\x00web1\nweb1 web1 web1\n", "web1", "web2")
	f.Fuzz(func(t *testing.T, text, from, to string) {
		if !isHost(from) || !isHost(to) {
			return
		}
		checkRenamed(t, text, from, to)
		made := hostsOf(withoutOwnNames(text), to)
		if !namesHost(made, to) || !namesHost(made, "localhost") {
			t.Errorf("hosts of %q for %s is %q", text, to, made)
		}
		if again := hostsOf(withoutOwnNames(made), to); strings.Count(again, "\n") > strings.Count(made, "\n") {
			t.Errorf("done again, %q became %q", made, again)
		}
		if len(made) > len(text)+2*len(to)+16+len(localhost) {
			t.Errorf("%d bytes became %d", len(text), len(made))
		}
	})
}

func isHost(s string) bool {
	return s != "" && len(s) < 256 && s[0] != '.' && strings.Trim(s, idBytes+".") == ""
}

func namesHost(text, name string) bool {
	for line := range strings.Lines(text) {
		entry, _, _ := strings.Cut(line, "#")
		if words := cWords(entry); len(words) > 1 && slices.Contains(words[1:], name) {
			return true
		}
	}
	return false
}

// cWords takes a line apart at what isspace(3) calls a blank.
func cWords(line string) []string {
	return strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\n\v\f\r", r) })
}

func checkRenamed(t *testing.T, text, from, to string) {
	out := renameInHosts(text, from, to)
	if from != to && namesHost(out, from) {
		short, _, _ := strings.Cut(to, ".")
		if short != from { // else the new name's short form is the old name
			t.Errorf("%s is still in %q, of %q", from, out, text)
		}
	}
	before, after := strings.SplitAfter(text, "\n"), strings.SplitAfter(out, "\n")
	if len(before) != len(after) {
		t.Fatalf("%d lines became %d", len(before), len(after))
	}
	for i := range before {
		entry, comment, _ := strings.Cut(before[i], "#")
		if !containsField(entry, from) && after[i] != before[i] || !strings.HasSuffix(after[i], comment) {
			t.Errorf("the line %q became %q", before[i], after[i])
		}
		if len(cWords(before[i])) != len(cWords(after[i])) {
			t.Errorf("the line %q became %q", before[i], after[i])
		}
	}
}

// FuzzPasswordField: only root's field changes, and it is what was given.
func FuzzPasswordField(f *testing.F) {
	f.Add([]byte("root:*:20785:0:99999:7:::\ndaemon:*:20785:0:99999:7:::\n_apt:*:20785:0:99999:7:::\n"), "$y$j9T$salt$hash")
	f.Add([]byte("root:x:0:0:root:/root:/bin/bash\r\nroot:x\n"), "")
	f.Add([]byte("toor:x\nroot\nroot:\nroot:a\nroot::"), "*")
	f.Fuzz(func(t *testing.T, text []byte, field string) {
		if strings.ContainsAny(field, ":\n") {
			return // SetRootPassword refuses it
		}
		out, found := setField(text, "root", 1, field)
		if !found {
			if !bytes.Equal(out, text) {
				t.Errorf("without root %q became %q", text, out)
			}
			return
		}
		before, after := bytes.SplitAfter(text, []byte("\n")), bytes.SplitAfter(out, []byte("\n"))
		changed := 0
		for i, line := range before {
			fields := strings.Split(string(line), ":")
			if fields[0] == "root" && len(fields) > 2 && changed == 0 {
				changed++
				fields[1] = field
			}
			if i >= len(after) || string(after[i]) != strings.Join(fields, ":") {
				t.Fatalf("%q became %q", text, out)
			}
		}
		if changed != 1 || len(after) != len(before) {
			t.Errorf("%q became %q", text, out)
		}
	})
}

// FuzzRelease: a suite or distribution that a guest says is one plain word.
func FuzzRelease(f *testing.F) {
	f.Add("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n", "12.5\n")
	f.Add("ID='ubuntu'\r\nVERSION_CODENAME=../x\n", "trixie/sid\n")
	f.Fuzz(func(t *testing.T, release, version string) {
		for _, word := range []string{osReleaseValue(release, "ID"), osReleaseValue(release, "VERSION_CODENAME"), suiteOf(version)} {
			if strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || strings.HasPrefix(word, "-") || len(word) > 31 {
				t.Errorf("%q is taken", word)
			}
		}
	})
}

// FuzzPackages: what counts are the paragraphs that say that they are installed,
// in whatever order they stand.
func FuzzPackages(f *testing.F) {
	f.Add([]byte("Package: adduser\nStatus: install ok installed\nArchitecture: all\nVersion: 3.134\nConffiles:\n /etc/adduser.conf cc34\n\nPackage: apt\nStatus: deinstall ok config-files\nVersion: 2.6\n\n"))
	f.Add([]byte("\n\n\nStatus: a b installed\n\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := dpkg.Parse(text)
		if err != nil {
			return
		}
		got := Count(list)
		if most := bytes.Count(text, []byte("installed")); got.Count > most || len(got.SHA256) != 64 {
			t.Errorf("%+v of %q", got, text)
		}
		paragraphs := bytes.Split(text, []byte("\n\n"))
		for i, p := range paragraphs { // its last line may have no end
			if i == len(paragraphs)-1 {
				paragraphs[i] = bytes.TrimSuffix(p, []byte("\n"))
			}
		}
		slices.Reverse(paragraphs)
		if n := len(paragraphs); len(paragraphs[0]) == 0 || len(paragraphs[n-1]) == 0 || bytes.HasPrefix(paragraphs[n-1], []byte("\n")) || slices.ContainsFunc(paragraphs, func(p []byte) bool { return len(p) == 0 || p[0] == '\n' || p[len(p)-1] == '\n' }) {
			return // turned round, other lines would touch
		}
		list, err = dpkg.Parse(bytes.Join(paragraphs, []byte("\n\n")))
		if again := Count(list); again != got || err != nil {
			t.Errorf("in another order: %+v, not %+v", again, got)
		}
	})
}
