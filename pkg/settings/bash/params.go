package bash

import (
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"instance-debootstrap/pkg/pattern"
)

// param checks one ${ }. quoted says that it stands in double quotes or in a
// here-document.
func (c *checker) param(pe *syntax.ParamExp, kind wordKind, quoted bool) {
	if pe.Flags != nil || pe.Width || pe.IsSet || pe.NestedParam != nil || len(pe.Modifiers) > 0 || pe.Param == nil {
		c.refuse(pe.Pos(), c.source(pe), "use a plain ${NAME}")
		return
	}
	if !c.paramName(pe) {
		return
	}
	all := pe.Param.Value == "@" || pe.Param.Value == "*"
	if pe.Index != nil {
		switch i := indexLit(pe); {
		case i == "@" || i == "*":
			all = true
		case !decimalRE().MatchString(i):
			c.refuse(pe.Pos(), c.source(pe), "use a number, @ or * as index")
		}
	}
	operators := 0
	for _, has := range []bool{pe.Length, pe.Excl, pe.Slice != nil, pe.Repl != nil, pe.Exp != nil} {
		if has {
			operators++
		}
	}
	if operators > 1 || pe.Names != 0 || all && (pe.Repl != nil || pe.Exp != nil || pe.Excl) {
		c.refuse(pe.Pos(), c.source(pe), "use one operator on one value")
		return
	}
	if (pe.Length || pe.Slice != nil || pe.Exp != nil && pe.Exp.Op >= syntax.UpperFirst && pe.Exp.Op <= syntax.LowerAll) && !all && pe.Index == nil {
		c.guard(pe.Pos(), guardASCII, "${"+pe.Param.Value+"-}")
	}
	switch {
	case pe.Excl:
		if pe.Index != nil || !validName(pe.Param.Value) {
			c.refuse(pe.Pos(), c.source(pe), "use ${!NAME}")
			return
		}
		c.indirect(pe)
	case pe.Slice != nil:
		c.slice(pe)
	case pe.Repl != nil:
		c.replace(pe)
	case pe.Exp != nil:
		c.expansion(pe, kind, quoted)
	}
}

// ownVariables are variables that bash sets and the interpreter doesn't.
var ownVariables = pattern.New(`^(BASH.*|COMP_.*|FUNCNAME|GROUPS|GID|HOSTTYPE|MACHTYPE|OSTYPE|PIPESTATUS|SECONDS|EPOCHSECONDS|EPOCHREALTIME|SHELLOPTS|SHLVL|DIRSTACK|OPTERR|OPTARG|OPTIND|HISTCMD|COLUMNS|LINES|PS4|MAPFILE|COPROC|RANDOM|SRANDOM)$`)

// paramName checks which parameter is expanded.
func (c *checker) paramName(pe *syntax.ParamExp) bool {
	name := pe.Param.Value
	switch {
	case name == "BASH_REMATCH" && decimalRE().MatchString(indexLit(pe)):
		return true
	case name == "?":
		if c.inSubst > 0 {
			c.refuse(pe.Pos(), "$? within $( )", "keep the status in a variable before")
		}
		c.statusPos = pe.Pos()
		return true
	case name == "$" || name == "#" || name == "@" || name == "*":
		return true
	case len(name) == 1 && name >= "1" && name <= "9":
		return true
	case !validName(name) || name == "_":
		c.refuse(pe.Pos(), c.source(pe), "use a named variable")
		return false
	case ownVariables().MatchString(name) && !c.assigns[name] && !c.inEnviron(name):
		c.refuse(pe.Pos(), "$"+name, "it is a variable of bash's own; find its value by other means")
		return false
	}
	return true
}

func (c *checker) inEnviron(name string) bool {
	_, ok := c.shell.environ[name]
	return ok
}

// slice allows ${NAME:2:3} and ${NAME: -3} with plain numbers.
func (c *checker) slice(pe *syntax.ParamExp) {
	plainNumber := func(e syntax.ArithmExpr, negative bool) bool {
		if p, ok := e.(*syntax.ParenArithm); ok {
			e = p.X
		}
		if u, ok := e.(*syntax.UnaryArithm); ok && u.Op == syntax.Minus && negative {
			e = u.X
		}
		w, ok := e.(*syntax.Word)
		return ok && decimalRE().MatchString(w.Lit())
	}
	if pe.Slice.Offset != nil && !plainNumber(pe.Slice.Offset, true) || pe.Slice.Length != nil && !plainNumber(pe.Slice.Length, false) {
		c.refuse(pe.Pos(), c.source(pe), "use plain numbers")
	}
}

// replace checks ${NAME/pattern/text}.
func (c *checker) replace(pe *syntax.ParamExp) {
	if w := pe.Repl.Orig; w != nil && len(w.Parts) > 0 {
		if l, ok := w.Parts[0].(*syntax.Lit); ok && (strings.HasPrefix(l.Value, "#") || strings.HasPrefix(l.Value, "%")) {
			c.refuse(pe.Pos(), "${NAME/#…} and ${NAME/%…}", "use ${NAME#…} or ${NAME%…}")
		}
		c.pattern(w)
	}
	if w := pe.Repl.With; w != nil {
		for _, p := range w.Parts {
			switch p := p.(type) {
			case *syntax.Lit:
				if strings.ContainsAny(p.Value, `&\~`) {
					c.refuse(pe.Pos(), `&, ~ or \ in the replacement`, "use sed")
				}
			case *syntax.ParamExp:
				c.guard(p.Pos(), guardNoAmp, c.source(p))
				c.param(p, asValue, true)
			default:
				c.refuse(pe.Pos(), "this replacement", "use plain text or $NAME")
			}
		}
	}
}

// expansion checks ${NAME:-word} and the like.
func (c *checker) expansion(pe *syntax.ParamExp, kind wordKind, quoted bool) {
	w := pe.Exp.Word
	switch pe.Exp.Op {
	case syntax.AlternateUnset, syntax.AlternateUnsetOrNull, syntax.DefaultUnset, syntax.DefaultUnsetOrNull,
		syntax.ErrorUnset, syntax.ErrorUnsetOrNull, syntax.AssignUnset, syntax.AssignUnsetOrNull:
		c.defaultWord(pe, kind, quoted)
	case syntax.RemSmallPrefix, syntax.RemLargePrefix, syntax.RemSmallSuffix, syntax.RemLargeSuffix:
		c.removal(pe)
	case syntax.UpperFirst, syntax.UpperAll, syntax.LowerFirst, syntax.LowerAll:
		if w != nil && len(w.Parts) > 0 {
			c.refuse(pe.Pos(), c.source(pe), "use it without a pattern")
		}
	default:
		c.refuse(pe.Pos(), c.source(pe), "use quotes, or printf")
	}
}

// defaultWord checks the word of ${NAME:-word}, which the interpreter expands
// even when it isn't needed.
func (c *checker) defaultWord(pe *syntax.ParamExp, kind wordKind, quoted bool) {
	op, w := pe.Exp.Op, pe.Exp.Word
	effects := op != syntax.AlternateUnset && op != syntax.AlternateUnsetOrNull && op != syntax.DefaultUnset && op != syntax.DefaultUnsetOrNull
	assigns := op == syntax.AssignUnset || op == syntax.AssignUnsetOrNull
	name := pe.Param.Value
	if effects && (len(c.conds) > 0 || c.pure > 0) {
		c.refuse(pe.Pos(), c.source(pe)+" within another expansion", "write it in a line of its own")
	}
	if assigns {
		c.assignedName(pe.Pos(), name)
	}
	if pe.Index != nil || effects && !validName(name) || name == "?" || name == "#" || name == "$" {
		c.refuse(pe.Pos(), c.source(pe), "use it on a plain variable")
		return
	}
	if w == nil {
		return
	}
	for i, p := range w.Parts {
		switch p := p.(type) {
		case *syntax.SglQuoted:
			if quoted || kind == asFields {
				c.refuse(pe.Pos(), "quotes in "+c.source(pe), "quote the whole, and nothing in it")
			}
		case *syntax.DblQuoted:
			if kind == asFields && !quoted || kind == asHdoc {
				c.refuse(pe.Pos(), "quotes in "+c.source(pe), "quote the whole, and nothing in it")
			}
		case *syntax.Lit:
			if strings.Contains(p.Value, `\`) || quoted && i == 0 && strings.HasPrefix(p.Value, "~") {
				c.refuse(pe.Pos(), `\ or ~ in `+c.source(pe), "put the text in a variable first")
			}
		case *syntax.ParamExp:
			if allElements(p) {
				c.refuse(pe.Pos(), "an array in "+c.source(pe), "use if")
			}
		}
	}
	saved := c.conds
	c.conds = append(slices.Clone(c.conds), unneeded(name, op))
	c.parts(w.Parts, asValue, quoted)
	c.conds = saved
}

// unneeded returns a command that leaves $( ) when bash would not expand the
// word of the operator.
func unneeded(name string, op syntax.ParExpOperator) string {
	switch op {
	case syntax.AlternateUnset:
		return "[ ${" + name + "+1} ]||exit 0;"
	case syntax.AlternateUnsetOrNull:
		return "[ ${" + name + ":+1} ]||exit 0;"
	case syntax.DefaultUnset, syntax.AssignUnset, syntax.ErrorUnset:
		return "[ ${" + name + "+1} ]&&exit 0;"
	}
	return "[ ${" + name + ":+1} ]&&exit 0;"
}

// removal checks the pattern of ${NAME#pattern}, where the interpreter takes
// quoted characters for special ones.
func (c *checker) removal(pe *syntax.ParamExp) {
	w := pe.Exp.Word
	if w == nil {
		return
	}
	if pe.Exp.Op == syntax.RemSmallSuffix && len(w.Parts) > 0 {
		c.guard(w.Pos(), guardOneLine, "${"+pe.Param.Value+"-}")
	}
	for _, p := range w.Parts {
		text := ""
		switch p := p.(type) {
		case *syntax.Lit:
			if patternFault(p.Value) || strings.ContainsAny(p.Value, `\~`) {
				c.refuse(pe.Pos(), c.source(pe), "use a simpler pattern")
			}
		case *syntax.ParamExp:
			c.guard(p.Pos(), guardPattern, c.source(p))
			c.param(p, asValue, false)
		case *syntax.SglQuoted:
			text = p.Value
			if p.Dollar {
				text = "*"
			}
		case *syntax.DblQuoted:
			text = "*"
			if len(p.Parts) == 1 {
				if l, ok := p.Parts[0].(*syntax.Lit); ok {
					text = l.Value
				}
			}
		default:
			text = "*"
		}
		if strings.ContainsAny(text, `*?[\`) {
			c.refuse(pe.Pos(), c.source(pe), "quote nothing in the pattern, or use sed")
		}
	}
}

// pattern checks a pattern of case, [[ == ]] or ${NAME/pattern/}.
func (c *checker) pattern(w *syntax.Word) {
	for _, p := range w.Parts {
		switch p := p.(type) {
		case *syntax.Lit:
			if patternFault(p.Value) || strings.HasPrefix(p.Value, "~") {
				c.refuse(p.Pos(), "the pattern "+p.Value, "use *, ? and simple [ ]")
			}
		case *syntax.ParamExp:
			c.guard(p.Pos(), guardPattern, c.source(p))
			c.param(p, asValue, false)
		case *syntax.SglQuoted, *syntax.DblQuoted:
			c.parts([]syntax.WordPart{p}, asValue, false)
		default:
			c.refuse(p.Pos(), "this pattern", "put it in a variable first")
		}
	}
}
