package userspace

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// TestTheDaemonIsToldWhereADiskIs: what Ganeti hands to KVM, as the daemon's own options.
func TestTheDaemonIsToldWhereADiskIs(t *testing.T) {
	for uri, want := range map[string]string{
		"rbd:pool/volume":                                   `"driver":"rbd","image":"volume","node-name":"storage","pool":"pool","read-only":false}`,
		"rbd:pool/volume:id=ganeti":                         `"driver":"rbd","image":"volume","node-name":"storage","pool":"pool","read-only":false,"user":"ganeti"}`,
		"rbd:pool/ns/volume:id=a:conf=/etc/ceph/other.conf": `"conf":"/etc/ceph/other.conf","discard":"unmap","driver":"rbd","image":"volume","namespace":"ns","node-name":"storage","pool":"pool","read-only":false,"user":"a"}`,
		`rbd:po\:ol/vol\@u\/me@snap\=1`:                     `"driver":"rbd","image":"vol@u/me","node-name":"storage","pool":"po:ol","read-only":false,"snapshot":"snap=1"}`,
		"gluster://192.0.2.1:24007/vol/a/b.0":               `"driver":"gluster","node-name":"storage","path":"a/b.0","read-only":false,"server":[{"host":"192.0.2.1","port":"24007","type":"inet"}],"volume":"vol"}`,
		"gluster+tcp://[2001:db8::1]/vol/x":                 `"server":[{"host":"2001:db8::1","port":"24007","type":"inet"}],"volume":"vol"}`,
		"gluster+unix:///vol/x?socket=/run/g":               `"server":[{"path":"/run/g","type":"unix"}],"volume":"vol"}`,
		"nbd://nbd.example/disk":                            `"driver":"nbd","export":"disk","node-name":"storage","read-only":false,"server":{"host":"nbd.example","port":"10809","type":"inet"}}`,
		"nbd:192.0.2.1:10810:exportname=a b":                `"driver":"nbd","export":"a b","node-name":"storage","read-only":false,"server":{"host":"192.0.2.1","port":"10810","type":"inet"}}`,
		"nbd:[2001:db8::1]:10810":                           `"server":{"host":"2001:db8::1","port":"10810","type":"inet"}}`,
		"nbd:unix:/run/nbd.sock":                            `"server":{"path":"/run/nbd.sock","type":"unix"}}`,
		"nbd+unix:///x?socket=/run/nbd.sock":                `"export":"x","node-name":"storage","read-only":false,"server":{"path":"/run/nbd.sock","type":"unix"}}`,
	} {
		d, err := Parse(uri, "")
		if err != nil {
			t.Errorf("%s: %v", uri, err)
			continue
		}
		args := strings.Join(d.args("", false), " ")
		if !strings.Contains(args, want) || !strings.HasPrefix(args, `qemu-storage-daemon --blockdev {"detect-zeroes":"off","discard":"unmap","driver":"raw","file":{`) {
			t.Errorf("%s: %s\nwithout %s", uri, args, want)
		}
		if !strings.Contains(strings.Join(d.args("", true), " "), `"read-only":true}`) {
			t.Errorf("%s can be written to when it is only looked at", uri)
		}
	}
	for disk, want := range map[string]string{"/srv/disk": "/srv/disk", "file:/srv/disk": "/srv/disk", "file:///srv/disk": "/srv/disk"} {
		if d, err := Parse(disk, Raw); err != nil || d.Path != want {
			t.Errorf("%s: %+v, %v", disk, d, err)
		}
	}
}

func TestAURIThatIsNotKnownWholeIsRefused(t *testing.T) {
	for uri, want := range map[string]string{
		"rbd:volume":                          "rbd:POOL/IMAGE",
		"rbd:pool/":                           "rbd:POOL/IMAGE",
		"rbd:a/b/c/d":                         "rbd:POOL/IMAGE",
		"rbd:pool/volume:key=secret":          `option "key" is not known`,
		"rbd:pool/volume:mon_host=192.0.2.1":  `option "mon_host" is not known`,
		"rbd:pool/volume:id=":                 `option "id" has no value`,
		"rbd:pool/volume:conf=/tmp/mine":      "must be a file in /etc/ceph",
		"rbd:pool/volume:conf=/etc/ceph/../x": "must be a file in /etc/ceph",
		"nbd://user:password@host/x":          "leave them out",
		"nbd://host/x?tls-creds=y":            `option "tls-creds" is not known`,
		"nbd:host":                            "nbd:HOST:PORT",
		"nbd:unix:socket":                     "absolute path",
		"nbd+unix:///x":                       "absolute path",
		"nbd:unix:/../etc/passwd":             "without . and ..",
		"nbd+unix:///x?socket=/../etc/passwd": "without . and ..",
		"gluster+unix:///v/p?socket=/a/../b":  "without . and ..",
		"nbd+unix://host/x?socket=/a":         "SCHEME",
		"gluster://host/volume":               "VOLUME/PATH",
		"gluster://host/volume/x?debug=9":     `option "debug" is not known`,
		"file:relative":                       "absolute path",
		"iscsi://user%secret@host/target/1":   "not a known kind of URI",
		`json:{"driver":"file"}`:              "not a known kind of URI",
		"relative":                            "not a known kind of URI",
		"":                                    "not a known kind of URI",
		"rbd:pool/vol\nume":                   "control character",
		"http://host/image":                   "not a known kind of URI",
	} {
		_, err := Parse(uri, Raw)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "password") && !strings.Contains(want, "password") && strings.Contains(err.Error(), ":password@") {
			t.Errorf("%s: %v, want %q", uri, err, want)
		}
	}
	for _, bad := range []struct{ disk, format, want string }{{"/x", "vmdk", "must be raw or qcow2"}, {"rbd:pool/volume", Qcow2, "a file or a block device of this node"}} {
		if _, err := Parse(bad.disk, bad.format); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestTwoNamesOfOneDiskAreOneLock(t *testing.T) {
	a, err := Parse("rbd:pool/volume:id=a", "")
	b, berr := Parse("rbd:pool/volume:id=b:conf=/etc/ceph/x.conf", "")
	c, cerr := Parse("rbd:pool/other:id=a", "")
	if err != nil || berr != nil || cerr != nil || place(a.protocol) != place(b.protocol) || place(a.protocol) == place(c.protocol) {
		t.Errorf("%s, %s, %s", place(a.protocol), place(b.protocol), place(c.protocol))
	}
}

// TestAQcow2ThatNamesOtherFilesIsRefused, before QEMU reads any of it.
func TestAQcow2ThatNamesOtherFilesIsRefused(t *testing.T) {
	check := func(change func([]byte)) error {
		head := make([]byte, 104)
		binary.BigEndian.PutUint32(head, qcow2Magic)
		binary.BigEndian.PutUint32(head[qcow2Version:], 3)
		change(head)
		return checkQcow2(bytes.NewReader(head))
	}
	for want, change := range map[string]func([]byte){
		"":                func([]byte) {},
		"backing file":    func(b []byte) { b[qcow2Backing+7] = 112 },
		"in another file": func(b []byte) { b[qcow2Incompatible+7] = qcow2ExternalData },
		"corrupt":         func(b []byte) { b[qcow2Incompatible+7] = qcow2Corrupt },
		"0x80":            func(b []byte) { b[qcow2Incompatible+7] = 0x80 },
		"encrypted":       func(b []byte) { b[qcow2Encryption+3] = 1 },
		"of version 4":    func(b []byte) { b[qcow2Version+3] = 4 },
		"not a qcow2":     func(b []byte) { b[0] = 0 },
	} {
		err := check(change)
		if want == "" && err != nil || want != "" && !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := check(func(b []byte) { b[qcow2Version+3], b[qcow2Incompatible+7] = 2, 0x80 }); err != nil {
		t.Errorf("one of version 2, which has no features: %v", err)
	}
	if err := checkQcow2(strings.NewReader("QFI\xfb")); err == nil || !strings.Contains(err.Error(), "its header can't be read") {
		t.Errorf("a file that is too short: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, uri := range []string{"rbd:pool/volume:id=a", `rbd:a\:b/c@d:conf=/etc/ceph/x`, "nbd:host:1:exportname=x", "nbd+unix:///x?socket=/y", "gluster://h/v/p", "file:/x"} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		d, err := Parse(uri, "")
		if err == nil && d.Path == "" && d.protocol == nil {
			t.Errorf("%q leads nowhere", uri)
		}
	})
}

func TestNoErrorOfAURIShowsASecret(t *testing.T) {
	for _, uri := range []string{
		"rbd:image:key=canary", "rbd:p/i:id=:key=canary", "rbd:p/i:conf=/tmp/x:key=canary", "rbd:p/i:canary", "rbd:p/i:key=canary", "rbd:p/i:key=canary\n",
		"nbd://h/x?password=canary%zz", "nbd://h/x?canary=1", "nbd:user:canary@host:10809", "nbd:canary@", "nbd://user:canary@host", "gluster://user:canary@h/v/p", "ftp://u:canary@h/",
	} {
		if _, err := Parse(uri, ""); err == nil || strings.Contains(strings.ReplaceAll(err.Error(), `option "canary"`, ""), "canary") {
			t.Errorf("%q: %v", uri, err)
		}
	}
}
