package bash

import (
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"instance-debootstrap/pkg/pattern"
)

// decimalRE is a number that both read alike: no octal or hexadecimal one.
var decimalRE = pattern.New(`^(0|[1-9][0-9]{0,17})$`)

// arith checks an arithmetic expression: operators on plain numbers. The
// interpreter takes any text for a number, so that variables are checked when
// the expression is evaluated.
func (c *checker) arith(e syntax.ArithmExpr) {
	switch e := e.(type) {
	case *syntax.Word:
		c.operand(e, guardInt)
	case *syntax.ParenArithm:
		c.arith(e.X)
	case *syntax.UnaryArithm:
		if e.Op != syntax.Not && e.Op != syntax.Minus && e.Op != syntax.Plus && e.Op != syntax.BitNegation {
			c.refuse(e.Pos(), "this arithmetic operator", "use NAME=$((NAME + 1))")
			return
		}
		c.arith(e.X)
	case *syntax.BinaryArithm:
		c.binaryArith(e)
	default:
		line := syntax.Pos{}
		if e != nil {
			line = e.Pos()
		}
		c.refuse(line, "this arithmetic", "use plain numbers and variables")
	}
}

func (c *checker) binaryArith(e *syntax.BinaryArithm) {
	kind := guardInt
	switch e.Op {
	case syntax.Add, syntax.Sub, syntax.Mul, syntax.Eql, syntax.Neq, syntax.Lss, syntax.Gtr, syntax.Leq, syntax.Geq,
		syntax.And, syntax.Or, syntax.Xor, syntax.AndArit, syntax.OrArit:
	case syntax.Quo, syntax.Rem:
		kind = guardDivisor
	case syntax.Shl, syntax.Shr, syntax.Pow:
		w, ok := e.Y.(*syntax.Word)
		if !ok || !decimalRE().MatchString(w.Lit()) || len(w.Lit()) > 2 || len(w.Lit()) == 2 && w.Lit() > "62" {
			c.refuse(e.OpPos, "this use of "+e.Op.String(), "use a plain number up to 62 after it")
		}
	default:
		c.refuse(e.OpPos, "the arithmetic operator "+e.Op.String(), "use if, or NAME=$((…))")
		return
	}
	c.arith(e.X)
	if kind == guardInt {
		c.arith(e.Y)
		return
	}
	w, ok := e.Y.(*syntax.Word)
	if !ok || w.Lit() == "0" {
		c.refuse(e.OpPos, "this division", "divide by a number or a variable")
		return
	}
	c.operand(w, kind)
}

// operand checks a number or variable.
func (c *checker) operand(w *syntax.Word, kind guardKind) {
	if len(w.Parts) == 1 {
		switch p := w.Parts[0].(type) {
		case *syntax.Lit:
			if validName(p.Value) {
				pe := &syntax.ParamExp{Param: p, Dollar: p.Pos(), Short: true}
				if c.paramName(pe) {
					c.guard(p.Pos(), kind, "${"+p.Value+"-}")
				}
				return
			}
			if decimalRE().MatchString(p.Value) {
				return
			}
		case *syntax.ParamExp:
			c.param(p, asValue, true)
			c.guard(p.Pos(), kind, c.source(p))
			return
		}
	}
	c.refuse(w.Pos(), "the arithmetic operand "+strings.TrimSpace(c.source(w)), "use a decimal number or a variable")
}

// test checks what stands in [[ ]].
func (c *checker) test(e syntax.TestExpr) {
	switch e := e.(type) {
	case *syntax.Word:
		c.value(e)
	case *syntax.ParenTest:
		c.test(e.X)
	case *syntax.UnaryTest:
		c.unaryTest(e)
	case *syntax.BinaryTest:
		c.binaryTest(e)
	default:
		c.refuse(e.Pos(), "this test", "use [ ]")
	}
}

func (c *checker) unaryTest(e *syntax.UnaryTest) {
	switch e.Op {
	case syntax.TsVarSet:
		if w, ok := e.X.(*syntax.Word); !ok || !validName(w.Lit()) {
			c.refuse(e.Pos(), "this use of -v", "use it on a plain variable")
		}
	case syntax.TsNot:
		if b, ok := e.X.(*syntax.BinaryTest); ok && (b.Op == syntax.AndTest || b.Op == syntax.OrTest) {
			c.refuse(e.Pos(), "! before && or || in [[ ]]", "use parentheses, or [[ ! … ]] && [[ … ]]")
		}
		c.test(e.X)
	case syntax.TsExists, syntax.TsRegFile, syntax.TsDirect, syntax.TsCharSp, syntax.TsBlckSp, syntax.TsNmPipe,
		syntax.TsSocket, syntax.TsSmbLink, syntax.TsRead, syntax.TsWrite, syntax.TsExec, syntax.TsNoEmpty, syntax.TsEmpStr, syntax.TsNempStr:
		c.test(e.X)
	default:
		c.refuse(e.Pos(), "the test "+e.Op.String(), "use another test")
	}
}

func (c *checker) binaryTest(e *syntax.BinaryTest) {
	x, xWord := e.X.(*syntax.Word)
	y, yWord := e.Y.(*syntax.Word)
	switch e.Op {
	case syntax.AndTest, syntax.OrTest:
		for _, side := range []syntax.TestExpr{e.X, e.Y} {
			if b, ok := side.(*syntax.BinaryTest); ok && b.Op != e.Op && (b.Op == syntax.AndTest || b.Op == syntax.OrTest) {
				c.refuse(e.Pos(), "&& beside || in [[ ]]", "use parentheses")
			}
		}
		c.test(e.X)
		c.pure++
		c.test(e.Y)
		c.pure--
		return
	case syntax.TsMatchShort, syntax.TsMatch, syntax.TsNoMatch:
		if xWord && yWord {
			c.value(x)
			c.pattern(y)
			return
		}
	case syntax.TsReMatch:
		if xWord && yWord {
			c.value(x)
			c.regex(y)
			return
		}
	case syntax.TsBefore, syntax.TsAfter:
		if xWord && yWord {
			c.value(x)
			c.value(y)
			return
		}
	case syntax.TsEql, syntax.TsNeq, syntax.TsLss, syntax.TsLeq, syntax.TsGtr, syntax.TsGeq:
		if xWord && yWord {
			c.numberInTest(x)
			c.numberInTest(y)
			return
		}
	}
	c.refuse(e.Pos(), "the test "+e.Op.String()+" in [[ ]]", "use [ ]")
}

// numberInTest checks an operand of -eq and the like in [[ ]], which is an
// arithmetic expression there.
func (c *checker) numberInTest(w *syntax.Word) {
	if len(w.Parts) == 1 {
		p := w.Parts[0]
		if q, ok := p.(*syntax.DblQuoted); ok && len(q.Parts) == 1 && !q.Dollar {
			p = q.Parts[0]
		}
		switch p := p.(type) {
		case *syntax.Lit:
			if decimalRE().MatchString(strings.TrimPrefix(p.Value, "-")) {
				return
			}
		case *syntax.ParamExp:
			c.param(p, asValue, true)
			c.guard(w.Pos(), guardInt, c.source(p))
			return
		case *syntax.ArithmExp:
			c.arith(p.X)
			return
		}
	}
	c.refuse(w.Pos(), "the number "+c.source(w)+" in [[ ]]", "use a decimal number or a variable, or [ ]")
}

// regex checks the right side of =~.
func (c *checker) regex(w *syntax.Word) {
	for _, p := range w.Parts {
		switch p := p.(type) {
		case *syntax.Lit:
		case *syntax.ParamExp:
			c.param(p, asValue, true)
			if len(w.Parts) > 1 {
				c.refuse(p.Pos(), "a regular expression made of parts", "put all of it in one variable")
				return
			}
			kind := guardRegex
			if c.rematch {
				kind = guardRegexParts
			}
			c.guard(p.Pos(), kind, c.source(p))
			return
		default:
			c.refuse(p.Pos(), "this regular expression", "put it in a variable, and use it unquoted")
			return
		}
	}
	if why := regexFault(w.Lit(), c.rematch); why != "" {
		c.refuse(w.Pos(), "the regular expression "+w.Lit()+" ("+why+")", "use a simpler one, or grep")
	}
}
