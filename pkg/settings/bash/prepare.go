package bash

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// insert is a text to add before the byte at offset. It holds no newline, so
// that all lines keep their numbers.
type insert struct {
	offset uint
	text   string
}

// checker goes through a file's syntax tree. What the interpreter evaluates
// otherwise than bash becomes a fault, or a check that is added to the text.
type checker struct {
	shell   *Shell
	src     []byte
	file    string
	faults  []error
	inserts []insert

	assigns    map[string]bool // names that the file assigns somewhere
	locals     map[string]bool // names that are local in some function
	rematch    bool            // BASH_REMATCH is used: which part of a text matched matters
	statusPos  syntax.Pos      // where $? is used outside functions and substitutions
	tailAdded  bool            // a compound command's status was made 0
	inSubst    int             // depth of $( ): errexit is off there
	inBacktick bool
	solePipe   *syntax.BinaryCmd // the pipe that a $( ) consists of: what its end sets is lost in bash too
	inFunc     int
	inCond     int      // depth of conditions: errexit is ignored there
	pure       int      // depth of words that are expanded though bash might not: they must have no effects
	conds      []string // when bash would expand the default word that we are in
}

// prepare parses and checks the text of a file, and returns its tree with the
// checks added. The text of eval or source runs in a context that isn't known
// (in a function, as a condition), which nested says.
func (s *Shell) prepare(name string, src []byte, nested bool) (*syntax.File, error) {
	text, err := s.check(name, src, nested)
	if err != nil {
		return nil, err
	}
	return parse(name, text)
}

func parse(name string, src []byte) (*syntax.File, error) {
	f, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(bytes.NewReader(src), name)
	var pe syntax.ParseError
	var le syntax.LangError
	switch {
	case errors.As(err, &pe):
		return nil, &Error{File: name, Line: pe.Pos.Line(), Msg: "syntax error: " + pe.Text}
	case errors.As(err, &le):
		return nil, &Error{File: name, Line: le.Pos.Line(), Msg: "not bash: " + le.Feature}
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

// check returns the text with the checks added, or all its faults.
func (s *Shell) check(name string, src []byte, nested bool) ([]byte, error) {
	src, err := checkText(name, src)
	if err != nil {
		return nil, err
	}
	f, err := parse(name, src)
	if err != nil {
		return nil, err
	}
	c := &checker{shell: s, src: src, file: name, assigns: map[string]bool{}, locals: map[string]bool{}}
	c.survey(f)
	if nested {
		c.inFunc++
	}
	c.stmts(f.Stmts, nested)
	if c.tailAdded && c.statusPos.IsValid() {
		c.refuse(c.statusPos, "$? beside a compound command", "keep the status in a variable within the if, for or case")
	}
	if len(c.faults) > 0 {
		return nil, errors.Join(c.faults...)
	}
	return c.splice(), nil
}

// survey collects the names that a file declares and assigns.
func (c *checker) survey(f *syntax.File) {
	c.shell.mu.Lock()
	defer c.shell.mu.Unlock()
	syntax.Walk(f, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.FuncDecl:
			if n.Name != nil {
				c.shell.funcs[n.Name.Value] = true
			}
		case *syntax.Assign:
			if n.Name != nil {
				c.assigns[n.Name.Value] = true
			}
		case *syntax.DeclClause:
			for _, as := range n.Args {
				if as.Name != nil && n.Variant.Value == "local" {
					c.locals[as.Name.Value] = true
				}
			}
		case *syntax.ParamExp:
			if n.Param != nil && n.Param.Value == "BASH_REMATCH" {
				c.rematch = true
			}
		}
		return true
	})
}

// splice returns the text with everything inserted.
func (c *checker) splice() []byte {
	slices.SortStableFunc(c.inserts, func(a, b insert) int { return int(a.offset) - int(b.offset) })
	var out bytes.Buffer
	last := uint(0)
	for _, in := range c.inserts {
		out.Write(c.src[last:in.offset])
		out.WriteString(in.text)
		last = in.offset
	}
	out.Write(c.src[last:])
	return out.Bytes()
}

// refuse records that something isn't supported, with what to write instead.
func (c *checker) refuse(pos syntax.Pos, what, remedy string) {
	e := &Error{File: c.file, Line: pos.Line(), Msg: fmt.Sprintf("%s can't be evaluated as bash would: %s", what, remedy)}
	for _, f := range c.faults {
		if f.Error() == e.Error() {
			return
		}
	}
	c.faults = append(c.faults, e)
}

// add inserts a text before the byte at pos.
func (c *checker) add(pos syntax.Pos, text string) {
	c.inserts = append(c.inserts, insert{pos.Offset(), text})
}

// source returns a node as it was written.
func (c *checker) source(n syntax.Node) string {
	return string(c.src[n.Pos().Offset():n.End().Offset()])
}

// addTail makes the status of a compound command 0 when its last command is a
// list such as "[ -f /x ] && Y=1": errexit spares that, but the interpreter
// would take the compound command itself for a failed one. end is where the
// closing word (fi, done, …) stands.
func (c *checker) addTail(body []*syntax.Stmt, end syntax.Pos, valued bool) {
	if valued || c.inSubst > 0 || c.inCond > 0 || len(body) == 0 {
		return
	}
	last := body[len(body)-1]
	b, isList := last.Cmd.(*syntax.BinaryCmd)
	isList = isList && (b.Op == syntax.AndStmt || b.Op == syntax.OrStmt)
	if !isList && !last.Negated {
		return
	}
	c.tailAdded = true
	before := bytes.TrimRight(c.src[:end.Offset()], " \t")
	switch {
	case bytes.HasPrefix(c.src[end.Offset():], []byte(";;")) && !bytes.HasSuffix(before, []byte("\n")):
		c.add(end, "; : ")
	case bytes.HasPrefix(c.src[end.Offset():], []byte(";;")):
		c.add(end, ": ")
	default:
		c.add(end, ":;")
	}
}

// plain tells whether a statement is one simple command that is no function and
// runs no text: whether errexit is on makes no difference to it.
func (c *checker) plain(st *syntax.Stmt) bool {
	call, ok := st.Cmd.(*syntax.CallExpr)
	if !ok || st.Negated {
		return false
	}
	if len(call.Args) == 0 {
		return true
	}
	name := call.Args[0].Lit()
	switch name {
	case "", "eval", "source", ".", "command", "builtin":
		return name == "command" && len(call.Args) > 1 && call.Args[1].Lit() == "-v"
	}
	return !c.shell.funcs[name]
}

// needsNoErrexit tells whether a command substitution must turn errexit off, as
// bash does in each: not when it is a pipeline of simple commands, or one.
func (c *checker) needsNoErrexit(stmts []*syntax.Stmt) bool {
	if len(stmts) != 1 {
		return true
	}
	st := stmts[0]
	if b, ok := st.Cmd.(*syntax.BinaryCmd); ok && !st.Negated && (b.Op == syntax.Pipe || b.Op == syntax.PipeAll) {
		return c.needsNoErrexit([]*syntax.Stmt{b.X}) || c.needsNoErrexit([]*syntax.Stmt{b.Y})
	}
	return !c.plain(st)
}

// validName tells whether a text is a variable's name.
func validName(s string) bool { return syntax.ValidName(s) && !strings.HasPrefix(s, exportMark) }
