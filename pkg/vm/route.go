package vm

import (
	"context"
	"errors"
	"strings"
	"time"

	"instance-debootstrap/pkg/tell"
)

// agentStart is how long the agent of a guest that answers by ssh may take to start.
const agentStart = 30 * time.Second

// lookForGateway warns of a guest that answers, and that nothing leads out of: the node
// reaches it all the same.
func (v *making) lookForGateway(ctx context.Context) {
	if v.NICs[0].NoGateway {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, agentStart+10*time.Second, errors.New("its agent doesn't tell in time"))
	defer cancel()
	for deadline := time.Now().Add(agentStart); ; time.Sleep(time.Second) {
		routes, err := v.Virsh.InGuest(ctx, v.uuid, "ip", "-o", "route", "show", "default")
		if err == nil && strings.TrimSpace(routes) == "" {
			routes, err = v.Virsh.InGuest(ctx, v.uuid, "ip", "-6", "-o", "route", "show", "default")
		}
		switch {
		case err == nil && strings.TrimSpace(routes) == "":
			tell.Warn(ctx, "the guest %s answers, and has no gateway (ip route in it shows no default): it reaches its own network only; see --gateway, or the DHCP server", v.Guest)
			return
		case err == nil:
			return
		case ctx.Err() != nil || time.Now().After(deadline):
			tell.Warn(ctx, "whether the guest %s has a gateway isn't known: %v", v.Guest, err)
			return
		}
	}
}
