package debootstrap

// packages are what the tree has beside its base system and what it boots with.
func (j *Job) packages() []string { return j.Settings.ExtraPkgs }
