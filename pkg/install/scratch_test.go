package install

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMemoryIsWhatTheNodeAndItsControlGroupsLeave(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	meminfo := write("meminfo", "MemTotal:       24684152 kB\nMemFree:          100000 kB\nMemAvailable:   8000000 kB\nBuffers: 1 kB\n")
	own := write("cgroup", "0::/system.slice/ganeti.service\n")
	for _, c := range []struct {
		what, meminfo, slice, service string
		want                          int64
	}{
		{"no limit", meminfo, "max\n", "max\n", 8000000 << 10},
		{"a limit of ours", meminfo, "max\n", "1073741824\n", 0},
		{"a limit above", meminfo, "1073741824\n", "max\n", 0},
		{"an old kernel", write("old", "MemTotal: 24684152 kB\nMemFree: 24684152 kB\n"), "max", "max", 0},
		{"no proc", dir + "/none", "max", "max", 0},
	} {
		write("groups/system.slice/memory.max", c.slice)
		write("groups/system.slice/ganeti.service/memory.max", c.service)
		if got := availableMemory(c.meminfo, own, dir+"/groups"); got != c.want {
			t.Errorf("%s: %d, not %d", c.what, got, c.want)
		}
	}
}
