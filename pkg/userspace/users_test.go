package userspace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAHypervisorsArgumentsNameADisk as Ganeti, libvirt and people write them.
func TestAHypervisorsArgumentsNameADisk(t *testing.T) {
	for _, c := range []struct {
		disk, arg string
		want      bool
	}{
		{"rbd:pool/web1", "file=rbd:pool/web1:id=ganeti,format=raw,if=none,id=disk-1", true},
		{"rbd:pool/web1:id=admin", `{"driver":"rbd","pool":"pool","image":"web1","server":[{"host":"192.0.2.7","port":"6789"}],"user":"libvirt","node-name":"libvirt-1-storage"}`, true},
		{"rbd:pool/web1", "driver=raw,node-name=disk0,file.driver=rbd,file.pool=pool,file.image=web1", true},
		{"rbd:pool/web1", "file=rbd:pool/web10:id=ganeti", false},
		{"rbd:pool/web1", "file=rbd:pool/other/web1", false},
		{"rbd:pool/web1", "file=rbd:pool/web1@monday", false},
		{`rbd:pool/a\,b`, "file=rbd:pool/a,,b,format=raw", true},
		{"nbd://Server.example/disk", "file=nbd:server.example:10809:exportname=disk,if=virtio", true},
		{"nbd://server.example/disk", "file=nbd:server.example:10810:exportname=disk,if=virtio", false},
		{"nbd+unix:///?socket=/run/a", "driver=raw,file.driver=nbd,file.server.type=unix,file.server.path=/run/a", true},
		{"nbd+unix:///?socket=/run/a", "nbd:unix:/run/a", true},
		{"nbd+unix:///?socket=/run/a", `file=json:{"driver":"raw",,"file":{"driver":"nbd",,"server":{"type":"unix",,"path":"/run/a"}}}`, true},
		{"nbd+unix:///?socket=/run/a", `json:{"driver":"raw","file":{"driver":"nbd","server":{"type":"unix","path":"/run/b"}}}`, false},
		{"gluster://g1.example/vol/dir/disk", `{"driver":"gluster","volume":"vol","path":"dir/disk","server":[{"type":"inet","host":"g1.example","port":"24007"}],"debug":4}`, true},
		{"gluster://g1.example/vol/dir/disk", "driver=raw,file.driver=gluster,file.volume=vol,file.path=dir/disk,file.server.0.type=inet,file.server.0.host=g1.example,file.server.0.port=24007", true},
		{"gluster://g1.example/vol/disk", "file=gluster://g2.example/vol/disk", false},
		{"gluster://g1.example/vol/dir/disk", "file=gluster://g1.example/vol//dir/./disk", true},
		{"nbd+unix:///?socket=/run/A", "nbd:unix:/run/a", false},
		{"nbd+unix:///?socket=/run/a", `{"driver":"quorum","children":[{"driver":"file","filename":"/srv/b"},{"driver":"nbd","server":{"type":"unix","path":"/run/a"}}]}`, true},
		{"nbd://server.example/disk", "-drive", false},
		{"nbd://server.example/disk", `{"driver":`, false},
		{"nbd://server.example/disk", `{"driver":"nbd","server":7}`, false},
		{"nbd://server.example/disk", "file.server=x,file.server.host=y,=,.,", false},
	} {
		d, err := Parse(c.disk, "")
		if err != nil {
			t.Fatal(err)
		}
		if got := contains(c.arg, place(d.protocol)); got != c.want {
			t.Errorf("%s in %s: %v", c.disk, c.arg, got)
		}
	}
}

// TestNoArgumentsOfAHypervisorTakeLongToRead: any user may start a QEMU, whose name
// (-name guest=) may be any text, and each run on a disk with a URI reads it.
func TestNoArgumentsOfAHypervisorTakeLongToRead(t *testing.T) {
	const most = 128 << 10 // the kernel's MAX_ARG_STRLEN
	for name, arg := range map[string]string{
		"descriptions in each other": "guest=" + strings.Repeat("json:a=", most/7),
		"prefixes":                   strings.Repeat("json:", most/5),
		"names in each other":        strings.Repeat("a.", most/2) + "driver=nbd",
		"lists in each other":        `{"a":` + strings.Repeat("[", most/2) + strings.Repeat("]", most/2-10) + "}",
		"objects in each other":      "json:" + strings.Repeat(`{"0":`, 9000) + "1" + strings.Repeat("}", 9000),
		"servers in each other":      "driver=nbd,server" + strings.Repeat(".0", most/3) + ".host=x",
		"options":                    strings.Repeat("a=nbd:unix:/x,", most/14),
	} {
		began := time.Now()
		contains(arg, `{"driver":"nbd","server":"/run/a"}`)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: %v", name, took)
		}
	}
}

// A socket in /run is in /var/run as well.
func TestAServersSocketIsTheSameThroughALink(t *testing.T) {
	dir := t.TempDir()
	link, socket := filepath.Join(dir, "link"), filepath.Join(dir, "run/socket")
	for _, err := range []error{os.Mkdir(filepath.Dir(socket), 0o700), os.WriteFile(socket, nil, 0o600), os.Symlink("run", link)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	d, err := Parse("nbd:unix:"+link+"/socket", "")
	if err != nil {
		t.Fatal(err)
	}
	if !contains("file=nbd+unix:///?socket="+socket, place(d.protocol)) {
		t.Errorf("%s is another disk than that of %s/socket", socket, link)
	}
}

func TestADaemonWhoseHolesNeedNotBeZeroIsRefused(t *testing.T) {
	for said, want := range map[string]bool{
		"qemu-storage-daemon version 6.2.0 (Debian 1:6.2+dfsg-2ubuntu6.22)\nCopyright": false,
		"qemu-storage-daemon version 7.0.0":                                            false,
		"qemu-storage-daemon version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)":            true,
		"qemu-storage-daemon version 10.0.2":                                           true,
		"":                                                                             false,
	} {
		if got := isKnown(said); got != want {
			t.Errorf("%s: %v", said, got)
		}
	}
}
