package doctor

import "instance-debootstrap/pkg/kept"

// keptFiles tells of what reinstalls hold that didn't come to their end.
func (d *diagnosis) keptFiles() {
	const subject = "kept files"
	held, unfinished, err := kept.All()
	d.fails(subject, Warning, err)
	for _, h := range held {
		d.add(subject, Warning, "held are %v: unless a reinstall is at work, repeat it, which puts them back; a guest that has them needs them no longer: remove the folder", h)
	}
	for _, dir := range unfinished {
		d.add(subject, Warning, "%s is what a reinstall didn't read to its end: the old guest has it all; unless one is at work, remove the folder", dir)
	}
}
