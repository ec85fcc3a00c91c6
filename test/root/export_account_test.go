//go:build root

package root

import (
	"bytes"
	"strings"
	"testing"
)

// TestAnExtWhoseOwnAccountIsWrongIsExportedAsFiles has filesystems that mount and
// call themselves clean, whose files are all there, but whose bitmaps or counts, with
// right checksums, call something free that isn't.
func TestAnExtWhoseOwnAccountIsWrongIsExportedAsFiles(t *testing.T) {
	for name, c := range map[string]struct{ damage, reason string }{
		"blocks that are a file's are free": {`
			set -- $(debugfs -R "blocks /srv/large" "$0" 2>/dev/null)
			[ $# -gt 100 ]
			debugfs -w -R "freeb $1 100" "$0"`, "has faults; the first"},
		"inodes in use were never": {`
			n=$(dumpe2fs -h "$0" 2>/dev/null | sed -n 's/^Inodes per group: *//p')
			printf 'set_bg 0 itable_unused %s\nset_bg 0 checksum calc\n' $((n - 20)) | debugfs -w "$0"`, "has faults; the first"},
		"a bitmap has a wrong checksum": {`
			debugfs -w -R "set_bg 0 block_bitmap_csum 1" "$0"; debugfs -w -R "set_bg 0 checksum calc" "$0"`, "can't be trusted"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newMoveLab(t, 600)
			l.guest("none", "ext4")
			l.change(func(tree string) {
				l.tool("sh", "-e", "-c", "mkdir -p "+tree+"/srv; head -c 4000000 /dev/urandom > "+tree+"/srv/large; seq 100 | (cd "+tree+"/srv && xargs touch)")
			})
			want := ""
			l.change(func(tree string) {
				want = l.tool("sh", "-c", "cd "+tree+" && find srv etc | sort && sha256sum srv/large")
			})
			l.tool("sh", "-e", "-c", c.damage, l.disk)

			l.env["EXPORT_FORMAT"] = "image"
			var stream bytes.Buffer
			log, _, exit := l.exportTo(&stream, 0, l.disk)
			if last := (fed{log: log}).last(); exit != 1 || !strings.Contains(last, "can't be trusted") && !strings.Contains(last, "used blocks") {
				t.Errorf("EXPORT_FORMAT=image: exit status %d, %q", exit, last)
			}
			l.clean(0)

			l.env["EXPORT_FORMAT"] = "auto"
			stream.Reset()
			if log, _, exit = l.exportTo(&stream, 0, l.disk); exit != 0 || !strings.Contains(log, "is exported as files: ") {
				t.Fatalf("exit status %d\n%s", exit, log)
			}
			l.clean(0)
			l.target(600)
			l.imports(&stream, 0, l.disk)
			l.checkFilesystem("ext4")
			l.mounted(func(tree string) {
				if got := l.tool("sh", "-c", "cd "+tree+" && find srv etc | sort && sha256sum srv/large"); got != want {
					t.Errorf("the copy has\n%s\nthe guest had\n%s", got, want)
				}
			})
		})
	}
}

// TestADamagedXFSIsNotExportedAsAnImage, which no import would take.
func TestADamagedXFSIsNotExportedAsAnImage(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("none", "xfs")
	number := ""
	l.mounted(func(tree string) { number = l.tool("stat", "-c", "%i", tree+"/etc/passwd") })
	l.free(l.disk)
	l.tool("xfs_db", "-x", "-c", "inode "+number, "-c", "write core.nlinkv2 7", l.disk)
	l.env["EXPORT_FORMAT"] = "image"
	var stream bytes.Buffer
	log, _, exit := l.exportTo(&stream, 0, l.disk)
	if last := (fed{log: log}).last(); exit != 1 || !strings.Contains(last, "its xfs has faults") {
		t.Errorf("exit status %d, %q", exit, last)
	}
	l.clean(0)
}
