// Package ubuntu knows the order of Ubuntu's suites. A new one comes each April and October, and
// has its line here.
package ubuntu

import (
	"slices"
	"strings"
)

// suites are all, in their order.
var suites = strings.Fields("warty hoary breezy dapper edgy feisty gutsy hardy intrepid jaunty karmic lucid maverick natty oneiric precise quantal raring saucy trusty utopic vivid wily " +
	"xenial yakkety zesty artful bionic cosmic disco eoan focal groovy hirsute impish jammy kinetic lunar mantic noble oracular plucky questing resolute stonking tenacious")

// Knows tells whether it is a suite of Ubuntu that has its line here.
func Knows(suite string) bool { return slices.Contains(suites, suite) }

// Since tells whether a suite that is known is that one, or came after it.
func Since(suite, first string) bool {
	at := slices.Index(suites, suite)
	return at >= 0 && at >= slices.Index(suites, first)
}

// Before tells whether a suite that is known came before that one.
func Before(suite, first string) bool { return Knows(suite) && !Since(suite, first) }
