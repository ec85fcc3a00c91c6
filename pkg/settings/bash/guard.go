package bash

import (
	"fmt"
	"regexp"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"instance-debootstrap/pkg/pattern"
)

// guardMark starts the first argument of ":" where it is a check of a value.
const guardMark = "@check-"

// guardKind is a check of a value that only shows at run time.
type guardKind string

const (
	guardInt        guardKind = "int"     // a plain decimal number, or nothing
	guardDivisor    guardKind = "divisor" // the same, but not 0
	guardPattern    guardKind = "pattern" // a simple pattern
	guardRegex      guardKind = "regex"   // a regular expression that both know
	guardRegexParts guardKind = "regexparts"
	guardName       guardKind = "name" // a variable's name
	guardOneLine    guardKind = "oneline"
	guardASCII      guardKind = "ascii" // no letters that take more than a byte
	guardNoAmp      guardKind = "noamp" // a replacement without & and \
)

// guard adds the check $(: MARK "value"), which expands to nothing, before pos.
func (c *checker) guard(pos syntax.Pos, kind guardKind, value string) {
	if strings.Contains(value, "$(") || strings.Contains(value, "`") || strings.Contains(value, ":=") {
		c.refuse(pos, value+" here", "put its value in a variable first")
		return
	}
	if c.inBacktick && strings.ContainsAny(value, "\\`") {
		c.refuse(pos, "this expansion within ` `", "use $( … )")
		return
	}
	c.add(pos, fmt.Sprintf(`$(: %s%s "%s")`, guardMark, kind, value))
}

// indirect makes sure that ${!NAME} follows a name. The check can't stand
// within the braces; it goes before them, in quotes or not.
func (c *checker) indirect(pe *syntax.ParamExp) {
	c.guard(pe.Pos(), guardName, "${"+pe.Param.Value+"-}")
}

// checkGuard checks the value of a guard.
func checkGuard(kind guardKind, value string) error {
	switch kind {
	case guardInt, guardDivisor:
		v := strings.TrimPrefix(value, "-")
		switch {
		case value == "" && kind == guardInt:
		case !decimalRE().MatchString(v) || value == "-0":
			return fmt.Errorf("%q isn't a plain decimal number, which arithmetic needs", value)
		case v == "0" && kind == guardDivisor:
			return fmt.Errorf("division by 0")
		}
	case guardPattern:
		if patternFault(value) || strings.Contains(value, `\`) {
			return fmt.Errorf("%q can't be used as a pattern: use *, ? and simple [ ]", value)
		}
	case guardRegex, guardRegexParts:
		if why := regexFault(value, kind == guardRegexParts); why != "" {
			return fmt.Errorf("%q can't be used as a regular expression (%s)", value, why)
		}
	case guardName:
		if !validName(value) {
			return fmt.Errorf("%q isn't a variable's name, which ${!NAME} needs", value)
		}
	case guardOneLine:
		if strings.Contains(value, "\n") {
			return fmt.Errorf("%% can't be used on a text of several lines")
		}
	case guardASCII:
		if strings.IndexFunc(value, func(r rune) bool { return r > 0x7f }) >= 0 {
			return fmt.Errorf("%q: letters that aren't ASCII can't be counted or changed: bash's result depends on the locale", value)
		}
	case guardNoAmp:
		if strings.ContainsAny(value, `&\`) {
			return fmt.Errorf("a replacement that holds & or \\ can't be used: its meaning differs between versions of bash")
		}
	default:
		return fmt.Errorf("check %q is unknown", kind)
	}
	return nil
}

var extGlobRE = pattern.New(`[?*+@!]\(`)

// patternFault tells whether the interpreter may read a pattern otherwise.
func patternFault(p string) bool {
	if extGlobRE().MatchString(p) || strings.HasSuffix(strings.ReplaceAll(p, `\\`, ""), `\`) {
		return true
	}
	return strings.Contains(bracketRE().ReplaceAllString(escapedRE().ReplaceAllString(p, ""), ""), "[")
}

var escapedRE = pattern.New(`\\.`)

var (
	regexBracketRE = pattern.New(`\[\^?\]?([^\]\[\\]|\[:[a-z]+:\])*\]`)
	regexOddRE     = pattern.New(`\\[^.*+?(){}|\[\]^$/-]|\\$|[*+?}][*+?{]|\(\?|(^|[(|^])[*+?{]`)
	regexPartsRE   = pattern.New(`\||\)[*+?{]`)
)

// regexFault returns why a regular expression may match otherwise than bash's
// POSIX ones, or "". With parts, what the groups matched is used too.
func regexFault(re string, parts bool) string {
	bare := regexBracketRE().ReplaceAllString(re, "x")
	switch {
	case strings.ContainsAny(strings.ReplaceAll(bare, `\[`, ""), "["):
		return "a bracket expression that isn't plain"
	case regexOddRE().MatchString(bare):
		return "an escape or repetition that POSIX doesn't define"
	case parts && regexPartsRE().MatchString(bare):
		return "alternatives or repeated groups together with BASH_REMATCH"
	}
	if _, err := regexp.Compile(re); err != nil {
		return err.Error()
	}
	return ""
}
