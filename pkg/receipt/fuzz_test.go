package receipt

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzReceipt: a guest's receipt that is taken is the same when it is written anew.
func FuzzReceipt(f *testing.F) {
	real, err := json.Marshal(Receipt{
		Format: 1, Tool: "instance-debootstrap 1.0", Instance: "web1.example", Nodes: &Nodes{Primary: "node1.example", Secondary: []string{"node2.example"}}, Suite: "trixie", Arch: "amd64", Tree: Tree{Source: "built", Key: "0123456789abcdef"},
		Disk: Disk{SizeBytes: 1 << 30, Style: "gpt", Partitions: []Partition{{1, 131072, 1900000, "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "root", ""}}, Root: Filesystem{Folder: "/", Type: "ext4"}},
		Boot: Boot{Loader: "grub", Firmware: []string{"bios", "uefi"}, Kernel: "6.1.0-50-cloud-amd64"},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(real)
	f.Add([]byte(`{"installed":"0000-01-01T00:00:00Z","disk":{"size_bytes":-1,"partitions":[{}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var r, again Receipt
		if json.Unmarshal(text, &r) != nil {
			return
		}
		written, err := json.Marshal(r)
		if err != nil {
			return // a time beyond the year 9999: inspect --json says so
		}
		if err := json.Unmarshal(written, &again); err != nil {
			t.Fatalf("written anew: %v\n%s", err, written)
		}
		if third, err := json.Marshal(again); err != nil || !bytes.Equal(third, written) {
			t.Errorf("%s became %s: %v", written, third, err)
		}
	})
}
