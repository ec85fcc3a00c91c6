package osapi

// options reads a request of OS API 5, Ganeti 1.2's getopt form: -i or -n the
// instance, -o its old name, -b the disk, -s the swap disk. As with getopt(1) a
// value may be attached (-iNAME), the last of two counts and "--" ends options.
func (p *parser) options(argv []string) {
	r := p.req
	r.InstanceName, r.OldInstanceName = "", ""
	targets := map[byte]*string{'i': &r.InstanceName, 'n': &r.InstanceName, 'o': &r.OldInstanceName, 'b': &r.BlockDev, 's': &r.SwapDev}
	const usage = "the options of OS API 5 are -i INSTANCE, -n NEW, -o OLD, -b DISK and -s SWAPDISK; from API 10 on, set OS_API_VERSION"
	for i := 0; i < len(argv); i++ {
		a := argv[i]
		switch {
		case a == "--":
			if rest := argv[i+1:]; len(rest) > 0 {
				p.fault("arguments %q: %s", rest, usage)
			}
			i = len(argv)
		case len(a) < 2 || a[0] != '-' || targets[a[1]] == nil:
			p.fault("argument %q: %s", a, usage)
		case len(a) > 2:
			*targets[a[1]] = a[2:]
		case i+1 == len(argv):
			p.fault("option %s: a value must follow", a)
		default:
			i++
			*targets[a[1]] = argv[i]
		}
	}
	p.checkOptions()
}

// checkOptions names each option that is missing or malformed.
func (p *parser) checkOptions() {
	r := p.req
	p.hostName("option -i (or -n)", r.InstanceName, "give the instance's full name, or set OS_API_VERSION if Ganeti is newer than 1.2")
	if p.verb == Rename {
		p.hostName("option -o", r.OldInstanceName, "give the name that the guest has now")
	}
	if r.BlockDev == "" {
		p.fault("option -b is not set: give the path of the instance's disk")
	} else {
		p.absolute("option -b", r.BlockDev)
		r.Disks = []Disk{{Path: r.BlockDev, Access: "rw"}}
	}
	switch {
	case r.SwapDev != "":
		p.absolute("option -s", r.SwapDev)
	case p.verb != Export:
		p.fault("option -s is not set: give the path of the instance's swap disk")
	}
}
