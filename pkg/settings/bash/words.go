package bash

import (
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"instance-debootstrap/pkg/pattern"
)

// wordKind is how a word is expanded.
type wordKind int

const (
	asFields wordKind = iota // split, globbed: a command's arguments
	asValue                  // one text: what is assigned
	asHdoc                   // a here-document
)

func (c *checker) fields(w *syntax.Word) {
	for i, p := range w.Parts {
		if l, ok := p.(*syntax.Lit); ok && (strings.Contains(l.Value, ":~") || strings.Contains(l.Value, "=~/")) && i >= 0 {
			c.refuse(l.Pos(), "a ~ within a word", "write the folder, or quote it")
		}
	}
	c.parts(w.Parts, asFields, false)
}

func (c *checker) value(w *syntax.Word) { c.parts(w.Parts, asValue, false) }

func (c *checker) parts(parts []syntax.WordPart, kind wordKind, quoted bool) {
	for i, p := range parts {
		switch p := p.(type) {
		case *syntax.Lit:
			if kind != asHdoc && !quoted {
				c.bareLit(p, kind, i == 0, len(parts) > 1)
			}
		case *syntax.SglQuoted:
			if p.Dollar && dollarEscapeRE().MatchString(p.Value) {
				c.refuse(p.Pos(), "this escape in $'…'", `use only \n, \t, \\, \', \" and octal ones`)
			}
		case *syntax.DblQuoted:
			if p.Dollar {
				c.refuse(p.Pos(), `$"…"`, `use "…"`)
			}
			for _, q := range p.Parts {
				if pe, ok := q.(*syntax.ParamExp); ok && kind == asFields && len(p.Parts) > 1 && allElements(pe) {
					c.refuse(pe.Pos(), "an array within a longer quoted word", "give it a word of its own")
				}
			}
			c.parts(p.Parts, kind, true)
		case *syntax.ParamExp:
			c.param(p, kind, quoted || kind == asHdoc)
		case *syntax.CmdSubst:
			c.subst(p)
		case *syntax.ArithmExp:
			if p.Bracket || p.Unsigned {
				c.refuse(p.Pos(), "this form of arithmetic", "use $(( ))")
				continue
			}
			c.arith(p.X)
		default:
			c.refuse(p.Pos(), "this kind of expansion", "use $NAME, ${NAME…}, $( ) and $(( ))")
		}
	}
}

// dollarEscapeRE matches escapes of $'…' that the interpreter reads otherwise.
var dollarEscapeRE = pattern.New(`(^|[^\\])(\\\\)*\\[^nt\\'"abefrvE0-7]|\\[4-7][0-7]{2}|\\0`)

// bracketRE is a bracket expression that both read the same way.
var bracketRE = pattern.New(`\[[!^]?[A-Za-z0-9_.,:/@%=+ ]+(-[A-Za-z0-9])?[A-Za-z0-9_.,:/@%=+-]*\]|\[[!^]?[A-Za-z0-9]-[A-Za-z0-9][A-Za-z0-9_.-]*\]|\[\[:[a-z]+:\]\]`)

// plainEscapeRE matches arguments whose escapes the interpreter gets right: no
// escaped pattern.
var plainEscapeRE = pattern.New(`^([^\\*?\[~{},]|\\[^*?\[\]~{},\\])*$`)

// bareLit checks an unquoted literal.
func (c *checker) bareLit(l *syntax.Lit, kind wordKind, first, more bool) {
	if strings.Contains(l.Value, `\`) && (kind != asFields || !plainEscapeRE().MatchString(l.Value)) {
		c.refuse(l.Pos(), `an unquoted \`, "quote the word")
	}
	if rest, ok := strings.CutPrefix(l.Value, "~"); ok && first {
		_, haveHome := c.shell.environ["HOME"]
		switch {
		case !haveHome && !c.assigns["HOME"]:
			c.refuse(l.Pos(), "~ (HOME is not set here)", "write the folder")
		case rest != "" && rest[0] != '/' || rest == "" && more:
			c.refuse(l.Pos(), "this use of ~", "write the folder, or quote it")
		}
	}
	if kind == asFields && strings.Contains(bracketRE().ReplaceAllString(l.Value, ""), "[") && l.Value != "[" {
		c.refuse(l.Pos(), "this bracket pattern", "quote it, or use letters, digits and ranges only")
	}
}

// allElements tells whether an expansion may give more than one word.
func allElements(pe *syntax.ParamExp) bool {
	if pe.Length || pe.Param == nil {
		return false
	}
	return pe.Param.Value == "@" || indexLit(pe) == "@"
}

func indexLit(pe *syntax.ParamExp) string {
	if w, ok := pe.Index.(*syntax.Word); ok {
		return w.Lit()
	}
	return ""
}

// subst checks $( ) and makes it run as bash would: without errexit and, in a
// default word such as ${X:-$(cmd)}, only when the default is needed.
func (c *checker) subst(cs *syntax.CmdSubst) {
	const use = "use $( … )"
	switch {
	case cs.TempFile || cs.ReplyVar:
		c.refuse(cs.Pos(), "this kind of command substitution", use)
		return
	case cs.Backquotes && c.inBacktick:
		c.refuse(cs.Pos(), "` within `", use)
		return
	case c.pure > 0:
		c.refuse(cs.Pos(), "$( ) on the right of && or || in [[ ]]", "use [[ … ]] && [[ … ]]")
	case len(cs.Stmts) == 1 && cs.Stmts[0].Cmd == nil:
		c.refuse(cs.Pos(), "$( ) without a command", "use $(cat FILE)")
		return
	case len(cs.Stmts) == 0:
		c.refuse(cs.Pos(), "an empty $( )", "leave it out")
		return
	}
	start := cs.Stmts[0].Pos()
	if cs.Backquotes && strings.Contains(c.source(cs), "\\") {
		c.refuse(cs.Pos(), "a \\ within ` `", use)
		return
	}
	outer := *c
	c.inSubst, c.inCond, c.conds, c.solePipe = c.inSubst+1, 0, nil, nil
	c.inBacktick = c.inBacktick || cs.Backquotes
	prefix := strings.Join(outer.conds, "")
	if c.needsNoErrexit(cs.Stmts) {
		prefix += "set +e;"
	}
	if prefix != "" {
		c.add(start, prefix)
	}
	if b, ok := cs.Stmts[0].Cmd.(*syntax.BinaryCmd); ok && len(cs.Stmts) == 1 {
		c.solePipe = b
	}
	c.noState(cs.Stmts)
	c.stmts(cs.Stmts, true)
	c.inSubst, c.inCond, c.conds, c.solePipe, c.inBacktick = outer.inSubst, outer.inCond, outer.conds, outer.solePipe, outer.inBacktick
}

// redirect checks a redirection.
func (c *checker) redirect(r *syntax.Redirect) {
	n := ""
	if r.N != nil {
		n = r.N.Value
	}
	ok := false
	switch r.Op {
	case syntax.RdrIn, syntax.WordHdoc, syntax.Hdoc:
		ok = n == "" || n == "0"
	case syntax.RdrOut, syntax.AppOut:
		ok = n == "" || n == "1" || n == "2"
	case syntax.RdrAll, syntax.AppAll:
		ok = n == ""
	case syntax.DplOut:
		ok = (n == "" || n == "1" || n == "2") && (r.Word.Lit() == "1" || r.Word.Lit() == "2")
	}
	if !ok {
		c.refuse(r.Pos(), "this redirection", "use <, <<, <<<, >, >>, 2>, &> and 2>&1")
		return
	}
	if r.Hdoc != nil {
		c.parts(r.Hdoc.Parts, asHdoc, false)
	} else {
		c.value(r.Word)
	}
}
