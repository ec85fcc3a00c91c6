package bash

import (
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// stmts checks a list of statements; valued says that the status of the last
// one is used (as a condition, or as what a function returns).
func (c *checker) stmts(list []*syntax.Stmt, valued bool) {
	for i, st := range list {
		c.stmt(st, valued && i == len(list)-1)
	}
}

func (c *checker) stmt(st *syntax.Stmt, valued bool) {
	if st.Background || st.Coprocess || st.Disown {
		c.refuse(st.Pos(), "a command in the background", "run it in the foreground")
	}
	if st.Negated {
		if c.inCond == 0 && c.inSubst == 0 && st.Cmd != nil && !c.plain(st) && !isTest(st.Cmd) {
			if call, ok := st.Cmd.(*syntax.CallExpr); !ok || len(call.Args) == 0 || c.shell.funcs[call.Args[0].Lit()] {
				c.refuse(st.Pos(), "! before more than one command", "use if")
			}
		}
		c.inCond++
		defer func() { c.inCond-- }()
		valued = true
	}
	for _, r := range st.Redirs {
		c.redirect(r)
	}
	if st.Cmd != nil {
		c.command(st.Cmd, valued)
	}
}

func isTest(cmd syntax.Command) bool {
	switch cmd.(type) {
	case *syntax.TestClause, *syntax.ArithmCmd:
		return true
	}
	return false
}

func (c *checker) command(cmd syntax.Command, valued bool) {
	switch cmd := cmd.(type) {
	case *syntax.CallExpr:
		c.call(cmd)
	case *syntax.Block:
		c.stmts(cmd.Stmts, valued)
		c.addTail(cmd.Stmts, cmd.Rbrace, valued)
	case *syntax.Subshell:
		c.subshell(cmd)
	case *syntax.BinaryCmd:
		c.binary(cmd, valued)
	case *syntax.IfClause:
		c.ifClause(cmd, valued)
	case *syntax.WhileClause:
		c.condition(cmd.Cond)
		c.stmts(cmd.Do, valued)
		c.addTail(cmd.Do, cmd.DonePos, valued)
	case *syntax.ForClause:
		c.forClause(cmd, valued)
	case *syntax.CaseClause:
		c.caseClause(cmd, valued)
	case *syntax.FuncDecl:
		c.function(cmd)
	case *syntax.TestClause:
		c.test(cmd.X)
	case *syntax.ArithmCmd:
		if cmd.Unsigned {
			c.refuse(cmd.Pos(), "unsigned arithmetic", "use (( ))")
		}
		c.arith(cmd.X)
	case *syntax.DeclClause:
		c.declare(cmd)
	default:
		c.refuse(cmd.Pos(), "this kind of command", "use simple commands, if, case, for and while")
	}
}

func (c *checker) condition(cond []*syntax.Stmt) {
	c.inCond++
	c.stmts(cond, true)
	c.inCond--
}

func (c *checker) ifClause(cmd *syntax.IfClause, valued bool) {
	for cl := cmd; cl != nil; cl = cl.Else {
		c.condition(cl.Cond)
		c.stmts(cl.Then, valued)
		end := cl.FiPos
		if cl.Else != nil {
			end = cl.Else.Position
		}
		c.addTail(cl.Then, end, valued)
	}
}

func (c *checker) forClause(cmd *syntax.ForClause, valued bool) {
	iter, ok := cmd.Loop.(*syntax.WordIter)
	if !ok || cmd.Select || cmd.Braces {
		c.refuse(cmd.Pos(), "this kind of loop", "use for NAME in WORDS; do …; done")
		return
	}
	c.assignedName(iter.Name.Pos(), iter.Name.Value)
	for _, w := range iter.Items {
		c.fields(w)
	}
	c.stmts(cmd.Do, valued)
	c.addTail(cmd.Do, cmd.DonePos, valued)
}

func (c *checker) caseClause(cmd *syntax.CaseClause, valued bool) {
	if cmd.Braces {
		c.refuse(cmd.Pos(), "case with braces", "use case … in … esac")
	}
	c.value(cmd.Word)
	for _, item := range cmd.Items {
		end := item.OpPos
		switch {
		case !end.IsValid():
			end = cmd.Esac
		case item.Op != syntax.Break:
			c.refuse(end, "case's "+item.Op.String(), "end each branch with ;;")
		}
		for _, w := range item.Patterns {
			c.pattern(w)
		}
		c.stmts(item.Stmts, valued)
		c.addTail(item.Stmts, end, valued)
	}
}

func (c *checker) function(cmd *syntax.FuncDecl) {
	if _, ok := cmd.Body.Cmd.(*syntax.Block); !ok || cmd.Name == nil {
		c.refuse(cmd.Pos(), "a function whose body isn't in braces", "write NAME() { …; }")
		return
	}
	if c.inFunc > 0 || c.inSubst > 0 {
		c.refuse(cmd.Pos(), "a function declared in another or in $( )", "declare it at the top")
	}
	cond := c.inCond
	c.inCond = 0
	c.inFunc++
	c.stmt(cmd.Body, true)
	c.inFunc--
	c.inCond = cond
}

// errexitUnsure tells whether errexit may be ignored where we are: in a
// condition, or in a function, which may be called as one. The interpreter
// forgets that in subshells.
func (c *checker) errexitUnsure() bool { return c.inSubst == 0 && (c.inCond > 0 || c.inFunc > 0) }

func (c *checker) subshell(cmd *syntax.Subshell) {
	if c.errexitUnsure() && (len(cmd.Stmts) != 1 || !c.plain(cmd.Stmts[0])) {
		c.refuse(cmd.Pos(), "a subshell of several commands in a condition or function", "use { …; }, or $( … )")
	}
	c.noState(cmd.Stmts)
	c.stmts(cmd.Stmts, true)
}

// noState refuses, in a subshell, commands that switch errexit: the interpreter
// forgets there that we are in a condition.
func (c *checker) noState(list []*syntax.Stmt) {
	for _, st := range list {
		syntax.Walk(st, func(n syntax.Node) bool {
			if call, ok := n.(*syntax.CallExpr); ok && len(call.Args) > 0 {
				switch name := call.Args[0].Lit(); name {
				case "set", "shopt":
					c.refuse(call.Pos(), name+" in a subshell or $( )", "use it outside")
				}
			}
			return true
		})
	}
}

func (c *checker) binary(cmd *syntax.BinaryCmd, valued bool) {
	switch cmd.Op {
	case syntax.AndStmt, syntax.OrStmt:
		c.inCond++
		c.stmt(cmd.X, true)
		c.inCond--
		c.stmt(cmd.Y, valued)
	case syntax.Pipe, syntax.PipeAll:
		if c.errexitUnsure() && !c.plain(cmd.X) && !isPipe(cmd.X) {
			c.refuse(cmd.X.Pos(), "more than a simple command before | in a condition or function", "use $( … )")
		}
		if cmd != c.solePipe && !c.keepsState(cmd.Y) {
			c.refuse(cmd.Y.Pos(), "this command after |", "use a command that isn't built in, or $( … ) with nothing but the pipe in it")
		}
		c.noState([]*syntax.Stmt{cmd.X, cmd.Y})
		c.stmt(cmd.X, true)
		c.stmt(cmd.Y, true)
	default:
		c.refuse(cmd.OpPos, "this operator", "use &&, || or |")
	}
}

func isPipe(st *syntax.Stmt) bool {
	b, ok := st.Cmd.(*syntax.BinaryCmd)
	return ok && !st.Negated && (b.Op == syntax.Pipe || b.Op == syntax.PipeAll)
}

// keepsState tells whether a command leaves the shell's state as it is: bash
// runs what follows | in a subshell, the interpreter doesn't.
func (c *checker) keepsState(st *syntax.Stmt) bool {
	call, ok := st.Cmd.(*syntax.CallExpr)
	if !ok || len(call.Args) == 0 || !c.plain(st) {
		return false
	}
	for _, w := range call.Args {
		keeps := true
		syntax.Walk(w, func(n syntax.Node) bool {
			if pe, ok := n.(*syntax.ParamExp); ok && pe.Exp != nil && (pe.Exp.Op == syntax.AssignUnset || pe.Exp.Op == syntax.AssignUnsetOrNull) {
				keeps = false
			}
			return keeps
		})
		if !keeps {
			return false
		}
	}
	switch call.Args[0].Lit() {
	case "read", "cd", "set", "unset", "shift", "exit", "return", "break", "continue", "shopt":
		return false
	}
	return true
}

// call checks a simple command, or assignments alone.
func (c *checker) call(cmd *syntax.CallExpr) {
	guards := len(c.inserts)
	for _, as := range cmd.Assigns {
		if len(cmd.Args) > 0 && (as.Array != nil || as.Append || as.Index != nil) {
			c.refuse(as.Pos(), "this assignment before a command", "assign in a line of its own")
		}
		if as.Name != nil && as.Name.Value == "IFS" && len(cmd.Args) > 0 && cmd.Args[0].Lit() == "read" {
			if as.Value != nil {
				c.value(as.Value)
			}
			continue // our read knows it
		}
		c.assign(as)
	}
	for _, w := range cmd.Args {
		c.fields(w)
	}
	if len(cmd.Args) == 0 {
		if len(c.inserts) > guards && c.substitutions(cmd) > 0 && c.checks(guards) {
			c.refuse(cmd.Pos(), "a checked value beside $( )", "assign them in two lines")
		}
		return
	}
	switch name := cmd.Args[0].Lit(); {
	case c.shell.funcs[name]:
	case name == "return" && c.inFunc == 0:
		c.refuse(cmd.Pos(), "return outside a function", "use if")
	case name == "read":
		for _, w := range cmd.Args[1:] {
			c.assignedName(w.Pos(), w.Lit())
		}
	}
}

// substitutions counts the command substitutions that a file itself has in n.
func (c *checker) substitutions(n syntax.Node) int {
	count := 0
	syntax.Walk(n, func(n syntax.Node) bool {
		if _, ok := n.(*syntax.CmdSubst); ok {
			count++
		}
		return true
	})
	return count
}

// checks tells whether a value check was inserted since there were n inserts.
func (c *checker) checks(n int) bool {
	for _, in := range c.inserts[n:] {
		if strings.HasPrefix(in.text, "$(: "+guardMark) {
			return true
		}
	}
	return false
}

// assignedName checks a name that is given a value.
func (c *checker) assignedName(pos syntax.Pos, name string) {
	switch name {
	case "IFS":
		c.refuse(pos, "a change of IFS", "split with ${NAME//,/ }, tr or cut")
	case "GID", "UID", "EUID", "PPID", "RANDOM", "SRANDOM", "SECONDS", "LINENO", "HISTCMD", "BASH_REMATCH", "CDPATH", "GLOBIGNORE", "BASH_COMPAT", "POSIXLY_CORRECT", "DIRSTACK", "FUNCNAME", "GROUPS", "BASHPID", "EPOCHSECONDS", "EPOCHREALTIME":
		c.refuse(pos, "an assignment to "+name, "use a name that isn't special to bash")
	}
}

// assign checks NAME=value, NAME+=value and NAME=(words).
func (c *checker) assign(as *syntax.Assign) {
	if as.Name == nil {
		c.refuse(as.Pos(), "a declaration of a name that is computed", "write the name")
		return
	}
	c.assignedName(as.Pos(), as.Name.Value)
	if as.Index != nil {
		c.refuse(as.Pos(), "an assignment to one element", "use NAME+=(word)")
	}
	if as.Value != nil {
		c.value(as.Value)
		c.tildes(as.Value)
	}
	if as.Array != nil {
		for _, e := range as.Array.Elems {
			if e.Index != nil {
				c.refuse(e.Pos(), "an array with indices", "use NAME=(words)")
			}
			if e.Value != nil {
				c.fields(e.Value)
			}
		}
	}
}

// tildes refuses "~" after a colon, which bash expands in assignments.
func (c *checker) tildes(w *syntax.Word) {
	for _, p := range w.Parts {
		if l, ok := p.(*syntax.Lit); ok && strings.Contains(l.Value, ":~") {
			c.refuse(l.Pos(), `":~"`, "write the folder, or quote it")
		}
	}
}
