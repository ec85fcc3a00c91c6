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
	if !readOnly {
		if err := inUse(s, o); err != nil {
			return err
		}
	}
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

// worksOn lists the disks that the verb works on, by their indexes.
func worksOn(o *install.Order) (list []int) {
	r := o.Request
	for i, d := range r.Disks {
		works := false
		switch r.Verb {
		case osapi.Create:
			works = i == r.Root || d.IsGuests() && (d.Name == "swap" || o.IsDataDisk(d.Name) || o.HasLayoutOn(i))
		case osapi.Rename:
			works = i == r.Root
		case osapi.Export, osapi.Import:
			works = i == r.IODisk
		}
		if works {
			list = append(list, i)
		}
	}
	return list
}

// byURI lists those of them that have a URI only.
func byURI(o *install.Order) []int {
	r := o.Request
	hasDevice := r.BlockDev != "" && (r.Verb == osapi.Export || r.Verb == osapi.Import)
	return slices.DeleteFunc(worksOn(o), func(i int) bool { return hasDevice || r.Disks[i].Path != "" || r.Disks[i].URI == "" })
}

// isOnlyRead tells whether no byte of a disk that the verb works on is written: the guest can't
// write to it either, and what serves it may well refuse.
func isOnlyRead(r *osapi.Request, i int) bool {
	return r.Verb == osapi.Create && i != r.Root && r.Disks[i].ReadOnly()
}

// inUse refuses the disks that guests of this node have by their URI, be there a path besides: by
// that it doesn't show. What an export is given may be a snapshot, and not the guest's disk.
func inUse(s *session.Session, o *install.Order) error {
	var errs []error
	r := o.Request
	for _, i := range worksOn(o) {
		if r.Disks[i].URI == "" || isOnlyRead(r, i) || r.Verb == osapi.Export && r.BlockDev != "" {
			continue
		}
		if source, err := userspace.Parse(r.Disks[i].URI, userspace.Raw); err == nil {
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
			} else if slices.ContainsFunc(sources[:n], source.IsSame) {
				err = fmt.Errorf("disk %s is another of the instance's disks, too: each must be a volume of its own", source.Name)
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
		var path string
		var err error
		if o.Request.Verb == osapi.Export && !readOnly {
			path, err = sources[n].OpenForReading(ctx, s)
		} else {
			path, err = sources[n].Open(ctx, s, readOnly || isOnlyRead(o.Request, i))
		}
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
