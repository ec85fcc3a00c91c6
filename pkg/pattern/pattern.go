// Package pattern has regular expressions that are compiled when they are first
// used. A run needs few of those that the program has, and compiling all of them
// would take a third of its start.
package pattern

import (
	"regexp"
	"sync"
)

// New returns what compiles the expression once, and then returns it. It panics,
// when it is used, if that is none.
func New(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}
