//go:build root

package root

import (
	"maps"
	"strings"
	"testing"
)

// blkid says the same of a filesystem whose superblock it can't read as of nothing.
func TestADiskThatCannotBeReadIsNotToldToHoldNothing(t *testing.T) {
	l := newMoveLab(t, powerMiB)
	env := maps.Clone(l.env)
	disk := used("msdos", "ext4")(l)
	for name, run := range map[string]func(disk string) (string, int){
		"rename": func(disk string) (string, int) {
			l.env["DISK_0_PATH"], l.env["OLD_INSTANCE_NAME"] = disk, "old.example"
			return l.run("rename")
		},
		"grow":    func(disk string) (string, int) { return l.byHand("grow", disk) },
		"inspect": func(disk string) (string, int) { return l.byHand("inspect", disk) },
	} {
		t.Run(name, func(t *testing.T) {
			defer l.within(t)()
			l.env = maps.Clone(env)
			l.failing(disk, badSector, 2048+2, func(disk string) {
				log, exit := run(disk)
				if (exit == 0) != (name == "inspect") || !strings.Contains(strings.ToLower(log), "input/output error") || strings.Contains(log, "nothing") {
					t.Errorf("exit status %d\n%s", exit, log)
				}
			})
		})
	}
}
