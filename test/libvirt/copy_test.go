//go:build root && slow

package libvirt

import (
	"strings"
	"testing"
	"time"
)

// TestACopiedDomainDoesNotPassForItsOrigin defines what virt-clone(1) does: the same
// domain, metadata and all, with a name and UUID of its own.
func TestACopiedDomainDoesNotPassForItsOrigin(t *testing.T) {
	l := newLab(t)
	l.vm(small("web1")...)
	xml := l.tool("virsh", "-q", "dumpxml", "web1")
	for _, says := range []string{`id="http://debian.org/debian/`, "<timer name='rtc' tickpolicy='catchup'/>", "<timer name='hpet' present='no'/>"} {
		if !strings.Contains(xml, says) {
			t.Errorf("the domain has no %s:\n%s", says, xml)
		}
	}
	uuid := strings.TrimSpace(l.tool("virsh", "-q", "domuuid", "web1"))
	copied := strings.Replace(xml, "<name>web1</name>", "<name>web2</name>", 1)
	copied = strings.Replace(copied, "<uuid>"+uuid+"</uuid>", "<uuid>0c0ffee0-0000-4000-8000-000000000002</uuid>", 1)
	l.write("/srv/copy.xml", copied)
	l.tool("virsh", "-q", "define", "/srv/copy.xml")
	l.fails("a copy of the domain "+uuid, program, "vm", "ssh", "web2", "true")
	if got := l.vm("show", "--json", "web2"); !strings.Contains(got, `"copy_of":"`+uuid+`"`) || strings.Contains(got, "ssh-ed25519") || strings.Contains(got, "127.0.0.1") {
		t.Errorf("the copy passes for its origin: %s", got)
	}
	l.tool("virsh", "-q", "undefine", "web2")
	l.vm("remove", "--yes", "web1")
	l.clean(5 * time.Second)
}
