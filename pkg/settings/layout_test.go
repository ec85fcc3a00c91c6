package settings

import (
	"fmt"
	"strings"
	"testing"
)

const serverLayout = `# a server
0 512M ext4 /boot
0 2G swap
0 4G xfs /var   # logs
0 1G ext4 /var/log
0 rest ext4 /
`

func TestALayoutIsReadLineByLine(t *testing.T) {
	lines, err := ParseLayout("server", serverLayout)
	if err != nil || len(lines) != 5 {
		t.Fatalf("%v, %v", lines, err)
	}
	if got, want := lines[2], (LayoutLine{Line: 4, Bytes: 4 << 30, Filesystem: "xfs", Folder: "/var"}); got != want {
		t.Errorf("%+v, not %+v", got, want)
	}
	if lines[1].Folder != "" || lines[4].Bytes != 0 {
		t.Errorf("%+v", lines)
	}
}

func TestEachFaultOfALayoutIsNamedWithItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "f: no line is for the root",
		"0 1G ext4 /var":          "f: no line is for the root",
		"0 1G ext4":               `f:1: "0 1G ext4": a line is`,
		"x 1G ext4 /":             `f:1: "x" is not a disk's number`,
		"16 1G ext4 /":            `f:1: "16" is not a disk's number`,
		"-1 1G ext4 /":            `f:1: "-1" is not a disk's number`,
		"0 1.5G ext4 /":           `f:1: "1.5G" is not a size: a whole number`,
		"512M ext4 /boot":         `f:1: "512M ext4 /boot": a line is DISK SIZE FILESYSTEM FOLDER`,
		"0 0G ext4 /":             `f:1: "0G" is not a size`,
		"0 1G vfat /":             `f:1: filesystem "vfat"`,
		"0 rest btrfs / subvol=@": `f:1: "subvol=@" is not a subvolume's name`,
		"0 8388607T ext4 /":       "f:1: the partitions of disk 0 come to more than 1 EiB",
		"0 1000000T ext4 /\n0 1000000T ext4 /srv":              "f:2: the partitions of disk 0 come to more than 1 EiB",
		"0 rest btrfs / @/x":                                   "is not a subvolume's name",
		"0 rest btrfs / ..":                                    "is not a subvolume's name",
		"0 rest btrfs / a,ro":                                  "is not a subvolume's name",
		"0 rest ext4 / @":                                      `f:1: "@": ext4 has no subvolumes: leave the word out`,
		"0 rest btrfs / @\n0 - btrfs /home":                    "f:2: - in place of a size is for a subvolume",
		"0 - swap\n0 rest btrfs /":                             "f:1: - in place of a size is for a subvolume",
		"0 - btrfs /home @home\n0 rest btrfs / @":              "f:1: there is no partition of disk 0 above",
		"0 rest btrfs / @\n1 - btrfs /home @home":              "f:2: there is no partition of disk 1 above",
		"0 rest btrfs / @\n0 - ext4 /home @home":               `f:2: "@home": ext4 has no subvolumes`,
		"0 rest btrfs /\n0 - btrfs /home @home":                "f:2: line 1, whose btrfs it is in, names no subvolume for /: add one there, such as @rootfs",
		"0 1G btrfs /srv @srv\n0 rest ext4 /\n0 - btrfs /a @a": "f:3: line 2, the partition above, is ext4, which has no subvolumes",
		"0 rest btrfs / @\n0 - btrfs /home @":                  "f:2: subvolume @ is in line 1 already",
		"0 rest btrfs / @\n0 - btrfs /a @a\n0 - btrfs /b @a":   "f:3: subvolume @a is in line 2 already",
		"0 rest btrfs /home @home\n0 - btrfs / @":              "f:2: the root must be in the line of its partition",
		"0 rest btrfs / @\n0 - btrfs /etc @etc":                "f:2: folder /etc: a guest boots with what is there",
		"0 rest btrfs / @\n0 - btrfs /a/b @b\n0 - btrfs /a @a": "f:3: folder /a is mounted before /a/b",
		"0 rest btrfs / @\n0 - btrfs /home @home\n0 1G xfs /x": "f:3: line 1 has taken the rest of disk 0",
		"0 rest btrfs / @\n0 - btrfs /h\u00e4 @a":              "f:2: folder /h\u00e4: must be of characters of ASCII",
		"0 1G swap /":                                       `f:1: "/": swap has no folder: leave the word out`,
		"0 1G ext4 var":                                     `f:1: folder "var": must be an absolute path`,
		"0 1G ext4 /var/":                                   `f:1: folder "/var/": must be written as /var`,
		"0 1G ext4 /a/../b":                                 "must be written as /b",
		"0 1G ext4 /etc":                                    "f:1: folder /etc: a guest boots with what is there",
		"0 1G ext4 /usr":                                    "boots with what is there",
		"0 1G ext4 /usr/lib/x":                              "boots with what is there",
		"0 1G ext4 /boot/efi":                               "boots with what is there",
		"0 1G ext4 /proc/x":                                 "boots with what is there",
		"0 1G ext4 /lib64":                                  "boots with what is there",
		"0 1G ext4 /srv/" + strings.Repeat("a", 40):         "room for 36 characters",
		"0 1G ext4 /srv/\u00e4":                             "must be of characters of ASCII",
		"0 1G ext4 /\n0 1G ext4 /":                          "f:2: folder / is in line 1 already",
		"0 1G ext4 /srv\n0 1G ext4 /srv\n0 rest ext4 /":     "f:2: folder /srv is in line 1 already",
		"0 1G ext4 /var/log\n0 1G ext4 /var\n0 rest ext4 /": "f:2: folder /var is mounted before /var/log, which line 1 has: move this line above that",
		"0 rest ext4 /\n0 1G swap":                          "f:2: line 1 has taken the rest of disk 0",
		strings.Repeat("0 1G swap\n", 13) + "0 rest ext4 /": "f:14: more than 13 partitions for disk 0",
		"0 1G foo /a\n\n0 1G ext4 /etc\n0 rest ext4 /":      "f:3: folder /etc",
	} {
		_, err := ParseLayout("f", text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, not %q", text, err, want)
		}
	}
	for _, folder := range []string{"/usr/local", "/boot", "/var", "/home", "/opt", "/tmp", "/usr/src", "/libs", "/etcetera", "/root", "/var/lib/db"} {
		if err := checkLayoutFolder(folder, false); err != nil {
			t.Error(err)
		}
	}
}

func TestASubvolumeIsOneOfThePartitionAboveIt(t *testing.T) {
	long := "/srv/" + strings.Repeat("a", 40)
	lines, err := ParseLayout("f", "1 2G btrfs /data\n0 rest btrfs / @rootfs\n0 - btrfs /home @home\n1 rest btrfs /srv @srv\n1 - btrfs "+long+" @long\n")
	if err != nil || len(lines) != 5 {
		t.Fatalf("%v, %v", lines, err)
	}
	for i, want := range map[int]LayoutLine{
		1: {Line: 2, Filesystem: "btrfs", Folder: "/", Subvolume: "@rootfs"},
		2: {Line: 3, Filesystem: "btrfs", Folder: "/home", Subvolume: "@home", Of: 2},
		4: {Line: 5, Disk: 1, Filesystem: "btrfs", Folder: long, Subvolume: "@long", Of: 4},
	} {
		if lines[i] != want {
			t.Errorf("%+v, not %+v", lines[i], want)
		}
	}
	many := "0 rest btrfs / @\n"
	for i := range 20 {
		many += fmt.Sprintf("0 - btrfs /srv/%d @%[1]d\n", i)
	}
	if _, err := ParseLayout("f", many); err != nil { // there is a limit of partitions alone
		t.Error(err)
	}
}

func TestAnOSParameterNamesNoPathOfALayout(t *testing.T) {
	l := newLab(t)
	l.src.Params = map[string]string{"layout": "/etc/passwd"}
	l.refused("LAYOUT=")
	l.src.Params = map[string]string{"layout": "none"}
	l.env("LAYOUT=/etc/layout")
	if s := l.must(); s.Layout != "" {
		t.Error(s.Layout)
	}
	l.src.Params = nil
	if s := l.must(); s.Layout != "/etc/layout" {
		t.Error(s.Layout)
	}
}
