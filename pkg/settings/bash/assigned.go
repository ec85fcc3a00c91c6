package bash

import (
	"maps"
	"slices"
)

// Assigned returns, sorted, the names that the files gave a value.
func (s *Shell) Assigned() []string { return slices.Sorted(maps.Keys(s.assigned)) }
