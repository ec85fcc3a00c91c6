package debootstrap

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"instance-debootstrap/pkg/install"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/userspace"
)

// onDisks runs a recipe for an order whose disks all have paths. Those that have a URI
// only are opened before it, and ended after it: what the recipe has written is on them
// when this returns without an error. readOnly is for a recipe that is only looked at.
func onDisks(ctx context.Context, s *session.Session, o *install.Order, readOnly bool, recipe func(*install.Order) error) error {
	wanted := byURI(o)
	if len(wanted) == 0 {
		return recipe(o)
	}
	mark := s.Mark()
	reached, err := reach(ctx, s, o, wanted, readOnly)
	if err == nil {
		err = recipe(reached)
	}
	return errors.Join(err, s.UndoTo(ctx, mark))
}

// byURI lists the disks that the verb works on and that have a URI only, by their indexes.
func byURI(o *install.Order) (wanted []int) {
	r := o.Request
	for i, d := range r.Disks {
		works := false
		switch r.Verb {
		case osapi.Create:
			works = i == r.Root || d.IsGuests() && (d.Name == "swap" || o.IsDataDisk(d.Name))
		case osapi.Rename:
			works = i == r.Root
		case osapi.Export, osapi.Import:
			works = i == r.IODisk && r.BlockDev == ""
		}
		if works && d.Path == "" && d.URI != "" {
			wanted = append(wanted, i)
		}
	}
	return wanted
}

// inUse refuses the disks with a URI only that guests of this node have, for a plan, which
// only looks at them; a verb is refused them when it opens them.
func inUse(s *session.Session, o *install.Order) error {
	var errs []error
	for _, i := range byURI(o) {
		if source, err := userspace.Parse(o.Request.Disks[i].URI, userspace.Raw); err == nil {
			errs = append(errs, source.InUse(s.HostProc))
		}
	}
	return errors.Join(errs...)
}

// reach opens disks, and returns an order in which they have paths.
func reach(ctx context.Context, s *session.Session, o *install.Order, wanted []int, readOnly bool) (*install.Order, error) {
	sources := make([]userspace.Source, len(wanted))
	var errs []error
	for n, i := range wanted {
		source, err := userspace.Parse(o.Request.Disks[i].URI, userspace.Raw)
		if err == nil {
			if err = source.Missing(ctx); err != nil {
				err = fmt.Errorf("disk %s: %w", source.Name, err)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("DISK_%d_URI: %w", i, err))
		}
		sources[n] = source
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	order, req := *o, *o.Request
	order.Request, req.Disks = &req, slices.Clone(req.Disks)
	for n, i := range wanted {
		path, err := sources[n].Open(ctx, s, readOnly)
		if err != nil {
			return nil, err
		}
		req.Disks[i].Path = path
		if req.BlockDev == "" { // the disk that the verb is for comes first
			req.BlockDev, order.DiskName = path, sources[n].Name
		}
	}
	return &order, nil
}
