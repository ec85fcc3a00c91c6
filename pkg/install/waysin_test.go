package install

import (
	"slices"
	"testing"

	"instance-debootstrap/pkg/receipt"
	"instance-debootstrap/pkg/settings"
)

func TestAGuestByDHCPIsReachedAtTheAddressThatItGets(t *testing.T) {
	r := Report{Receipt: receipt.Receipt{SSHServer: true}, settings: &settings.Settings{RootPassword: "$6$x", SSHAuthorizedKeys: "/k", Network: "dhcp"}}
	want := []string{"Its console lets root in with the password that was set.", "Its ssh server lets root in with the keys that were given, at the address that it gets by DHCP."}
	if got := r.WaysIn(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
