package bash

import (
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// declareFlags are those that the interpreter knows and gets right.
var declareFlags = map[string]string{"declare": "-x -r -a -g", "local": "-r -a", "export": "", "readonly": ""}

// declare checks declare, local, export and readonly.
func (c *checker) declare(cmd *syntax.DeclClause) {
	name := cmd.Variant.Value
	flags, ok := declareFlags[name]
	if !ok {
		c.refuse(cmd.Pos(), name, "use declare, local, export or readonly")
		return
	}
	var set []string
	names, exports := 0, name == "export"
	for _, as := range cmd.Args {
		if as.Name == nil {
			f := ""
			if as.Value != nil {
				f = as.Value.Lit()
			}
			if names > 0 || f == "" || !strings.Contains(" "+flags+" ", " "+f+" ") {
				c.refuse(as.Pos(), name+" "+c.source(as), "of declare and local only -r and -a (and -x for declare), with names written out")
			}
			exports = exports || f == "-x"
			continue
		}
		names++
		syntax.Walk(as, func(n syntax.Node) bool {
			switch n := n.(type) {
			case *syntax.CmdSubst:
				if len(set) > 0 {
					c.refuse(as.Pos(), "$( ) in the second of several declarations", "declare them in two lines")
				}
			case *syntax.ParamExp:
				for _, s := range set {
					if n.Param != nil && n.Param.Value == s {
						c.refuse(as.Pos(), "$"+s+" in the same "+name+" that sets it", "declare them in two lines")
					}
				}
			}
			return true
		})
		set = append(set, as.Name.Value)
		c.assign(as)
	}
	if names == 0 {
		c.refuse(cmd.Pos(), name+" without a name", "give the names")
	}
	if exports {
		c.markExported(cmd, set)
	}
}

// markExported notes in variables which names a declaration exports: the
// interpreter forgets it when := or a loop gives them another value.
func (c *checker) markExported(cmd *syntax.DeclClause, names []string) {
	if c.inFunc > 0 && cmd.Variant.Value != "export" {
		c.refuse(cmd.Pos(), "declare -x in a function", "use export")
	}
	marks := ""
	for _, n := range names {
		if c.locals[n] {
			c.refuse(cmd.Pos(), "the export of a name that is local in a function", "use another name")
		}
		marks += exportMark + n + "=1 "
	}
	c.add(cmd.Pos(), "{ "+marks+";")
	c.add(cmd.End(), ";}")
}
