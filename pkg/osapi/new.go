package osapi

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// New completes a request that Ganeti hasn't made, in the words of API 20. Settings files
// and hooks find it in its environment: base, which has nothing of Ganeti's, and what
// Ganeti would say. The error names what Ganeti wouldn't have said.
func New(r Request, base []string) (*Request, error) {
	r.APIVersion = 20
	r.Disks, r.NICs = slices.Clone(r.Disks), slices.Clone(r.NICs)
	for i := range r.Disks {
		r.Disks[i].Index = i
	}
	for i := range r.NICs {
		r.NICs[i].Index = i
	}
	for _, values := range []*map[string]string{&r.HV, &r.OSParams} {
		if *values == nil {
			*values = map[string]string{}
		}
	}
	p := parser{verb: r.Verb, req: &r}
	p.findRoot()
	p.checkVariant()
	p.check()
	r.Environ = append(slices.Clone(base), r.variables()...)
	return &r, errors.Join(p.faults...)
}

// variables are the request in Ganeti's words, as NAME=value; of disks, NICs and parameters
// what is "" is unset.
func (r *Request) variables() (list []string) {
	add := func(name, value string) { list = append(list, name+"="+value) }
	add("OS_API_VERSION", fmt.Sprint(r.APIVersion))
	add("OS_NAME", "debootstrap")
	add("OS_VARIANT", r.Variant)
	add("INSTANCE_OS", strings.TrimSuffix("debootstrap+"+r.Variant, "+"))
	add("INSTANCE_NAME", r.InstanceName)
	add("HYPERVISOR", r.Hypervisor)
	add("DEBUG_LEVEL", fmt.Sprint(r.DebugLevel))
	add("DISK_COUNT", fmt.Sprint(len(r.Disks)))
	for i, d := range r.Disks {
		addSet(add, fmt.Sprintf("DISK_%d_", i), [][2]string{{"PATH", d.Path}, {"URI", d.URI}, {"ACCESS", d.Access}, {"NAME", d.Name}})
	}
	add("NIC_COUNT", fmt.Sprint(len(r.NICs)))
	for i, n := range r.NICs {
		addSet(add, fmt.Sprintf("NIC_%d_", i), [][2]string{
			{"MAC", n.MAC}, {"MODE", n.Mode}, {"LINK", n.Link}, {"BRIDGE", n.Bridge}, {"IP", n.IP}, {"NETWORK_NAME", n.Network.Name},
			{"NETWORK_SUBNET", n.Network.Subnet}, {"NETWORK_GATEWAY", n.Network.Gateway},
			{"NETWORK_SUBNET6", n.Network.Subnet6}, {"NETWORK_GATEWAY6", n.Network.Gateway6},
		})
	}
	for _, name := range slices.Sorted(maps.Keys(r.HV)) {
		add("INSTANCE_HV_"+name, r.HV[name])
	}
	for _, name := range slices.Sorted(maps.Keys(r.OSParams)) {
		if value := r.OSParams[name]; value != "" {
			add("OSP_"+strings.ToUpper(name), value)
		}
	}
	return list
}

func addSet(add func(name, value string), prefix string, values [][2]string) {
	for _, v := range values {
		if v[1] != "" {
			add(prefix+v[0], v[1])
		}
	}
}
