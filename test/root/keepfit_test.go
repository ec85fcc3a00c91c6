//go:build root

package root

import (
	"os"
	"strings"
	"testing"
)

// A guest's users can make all of these on xfs; ext takes none.
func TestWhatTheNewFilesystemDoesNotTakeIsRefusedAndTheOldGuestStays(t *testing.T) {
	for name, c := range map[string]struct{ newtype, script, want string }{
		"an attribute of 60 KB": {"ext4", `python3 -c 'import os; open("f", "w"); os.setxattr("f", "user.a", b"x" * 60000)'`, "set METADATA_LOSS=warn"},
		"an ACL of 1000 users":  {"ext4", `touch f; setfacl -m $(seq -s, -f 'u:%.0f:r' 2000 2999) f`, "posix_acl_access"},
		"a file of 20 TiB":      {"ext4", `truncate -s 20T f`, "Cannot seek"},
		"a file of 3 TiB":       {"ext2", `truncate -s 3T f`, "Cannot seek"},
		"65,100 links": {"ext4", `mkdir d; touch f; python3 -c 'import os
for i in range(65100): os.link("f", "d/%d" % i)'`, "Too many links"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 900)
			l.env["OSP_FILESYSTEM"] = "xfs"
			l.keepsAs("/srv/app", func(tree string) {
				l.tool("bash", "-ec", "mkdir -p $0/srv/app; cd $0/srv/app; "+c.script, tree)
			})
			l.env["OSP_FILESYSTEM"] = c.newtype
			has(t, l.fails("the new guest's "+c.newtype+" doesn't take what is held of the old one"), c.want)
			l.holdsNothing()
			l.mounted(func(tree string) { l.tool("test", "-e", tree+"/srv/app/f") })
			if name == "65,100 links" {
				return // they take minutes
			}
			l.env["OSP_FILESYSTEM"] = "xfs"
			l.create()
			l.holdsNothing()
			l.mounted(func(tree string) { l.tool("test", "-e", tree+"/srv/app/f") })
		})
	}
}

func TestWhatTheNewFilesystemDoesNotTakeIsToldOnceWithMetadataLossWarn(t *testing.T) {
	l := newLab(t, 900)
	l.env["OSP_FILESYSTEM"] = "xfs"
	l.keepsAs("/srv/app", func(tree string) {
		l.tool("bash", "-ec", `mkdir -p $0/srv/app; cd $0/srv/app; python3 -c 'import os; open("f", "w"); os.setxattr("f", "user.a", b"x" * 60000)'`, tree)
	})
	l.env["OSP_FILESYSTEM"], l.env["OSP_METADATA_LOSS"] = "ext4", "warn"
	log, last, _ := strings.Cut(l.create(), "receipt=")
	if n := strings.Count(log, "is incomplete"); n != 1 {
		t.Errorf("it is told %d times:\n%s%s", n, log, last)
	}
}

func TestWhatAFolderOfTheLayoutDoesNotTakeOfTheOldGuestIsRefusedAndThatStays(t *testing.T) {
	for name, c := range map[string]struct{ layout, script, want string }{
		"too much for the partition": {"0 64M ext4 /srv\n0 rest ext4 /\n", "head -c 150M /dev/urandom >f", "layouts/server:1: /srv has 64 MiB, and its ext4 needs "},
		"an attribute":               {"0 200M ext4 /srv\n0 rest xfs /\n", `python3 -c 'import os; open("f", "w"); os.setxattr("f", "user.a", b"x" * 60000)'`, "the new guest's ext4 doesn't take"},
		"a link":                     {"0 200M ext4 /srv\n0 64M ext4 /srv/app/data\n0 rest ext4 /\n", "touch f; ln -s /root data", "layouts/server:2: folder /srv/app/data: /srv/app/data is a link"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 1200)
			l.env["OSP_FILESYSTEM"] = "xfs"
			l.keepsAs("/srv/app", func(tree string) {
				l.tool("bash", "-ec", "mkdir -p $0/srv/app; cd $0/srv/app; "+c.script, tree)
			})
			l.layout("server", c.layout)
			l.env["OSP_LAYOUT"] = "server"
			l.fails(c.want)
			l.holdsNothing()
			delete(l.env, "OSP_LAYOUT")
			l.mounted(func(tree string) { l.tool("test", "-e", tree+"/srv/app/f") })
		})
	}
}

func TestAPathThatIsALinkInTheNewTreeIsRefusedBeforeTheDiskIsTouched(t *testing.T) {
	l := newLab(t, 700)
	l.keepsAs("/srv/app/x /etc/passwd", func(tree string) { l.tool("sh", "-ec", "mkdir -p $0/srv/app/x", tree) })
	l.addToTree(func(tree string) { l.tool("sh", "-ec", "mkdir -p $0/srv; ln -s ../var $0/srv/app", tree) })
	l.fails("REINSTALL_KEEP: /srv/app/x can't be put back: /srv/app is a link, or no folder, in the new guest's tree")
	l.holdsNothing()
	l.mounted(func(tree string) { l.tool("test", "-d", tree+"/srv/app/x") })

	l.env["OSP_REINSTALL_KEEP"] = "none"
	l.layout("server", "0 80M ext4 /srv/app\n0 rest ext4 /\n")
	l.env["OSP_LAYOUT"] = "server"
	l.fails("layouts/server:1: folder /srv/app: /srv/app is a link, or no folder, in " + l.tar())
	l.mounted(func(tree string) {
		if _, err := os.Stat(tree + "/srv/app/x"); err != nil {
			t.Error(err)
		}
	})
}

// Files of a byte take twice as much of a filesystem as of a tar.
func TestANodeWithoutRoomToTryWhatIsKeptSaysSoAndTheOldGuestStays(t *testing.T) {
	l := newLab(t, 700)
	l.keepsAs("/srv/app", func(tree string) {
		l.tool("bash", "-ec", "mkdir -p $0/srv/app; cd $0/srv/app; for i in {1..8000}; do echo >$i; done", tree)
	})
	l.tool("mount", "-t", "tmpfs", "-o", "size=165M", "none", base+"/state")
	defer l.tool("umount", base+"/state")
	l.matches(l.fails("free some space there, or name less"), `to try whether ext4 takes what REINSTALL_KEEP keeps takes [0-9.]+ MiB more`)
	l.holdsNothing()
	l.mounted(func(tree string) { l.tool("test", "-e", tree+"/srv/app/8000") })
	l.tool("mount", "-o", "remount,size=400M", base+"/state")
	l.create()
}
