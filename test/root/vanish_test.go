//go:build root

package root

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestADiskThatIsRemovedMeanwhileIsNotSaidToBeInstalled(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	for what, script := range map[string]string{"removed": "rm " + l.disk, "replaced": "truncate -s 600M " + l.disk + ".new; mv " + l.disk + ".new " + l.disk} {
		l.hook("10-rm", script)
		if log := l.fails("disk " + l.disk + " was removed, or another file put in its place"); strings.Contains(log, " is installed on ") {
			t.Errorf("%s: %s", what, log)
		}
		must(t, exec.Command("truncate", "-s", "600M", l.disk).Run())
	}
	must(t, os.Remove(base+"/conf/hooks/10-rm"))
	l.create()
}
