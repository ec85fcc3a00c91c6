package messages

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// The kinds of messages.
const (
	failure = "error" // of a run, or what one is made of
	warning = "warning"
	finding = "finding" // of doctor
)

// message is a text that an admin may read, and the place that makes it.
type message struct {
	dir, file, function string
	line                int
	kind                string
	text                string // a format
	when                string // the innermost condition that it is made under
}

func (m message) at() string { return fmt.Sprintf("%s/%s:%d", m.dir, m.file, m.line) }

// maker is a function that makes messages.
type maker struct {
	kind   string
	format int // the number of the argument
}

var commonMakers = map[string]maker{
	"fmt.Errorf": {failure, 0},
	"errors.New": {failure, 0},
	"tell.Warn":  {warning, 1},
}

// logged matches the functions that write to the log what isn't well.
var logged = regexp.MustCompile(`\.(Warn|Error)\(\)\..*Msgf?$`)

// harmless are functions that take a format for what is well.
var harmless = []string{"Info", "For", "leave", "note", "tell", "well"}

// room is one package's files, and what in them makes messages.
type room struct {
	dir    string
	names  []string
	files  []*ast.File
	set    *token.FileSet
	makers map[string]maker
	consts map[string]string
}

// source gives all messages of the program.
func source(t *testing.T) (all []message) {
	t.Helper()
	for _, top := range []string{"cmd", "os", "pkg"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				all = append(all, readRoom(t, path).messages()...)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func readRoom(t *testing.T, path string) *room {
	t.Helper()
	dir, _ := filepath.Rel(root, path)
	r := &room{dir: dir, set: token.NewFileSet(), makers: map[string]maker{}, consts: map[string]string{}}
	paths, _ := filepath.Glob(filepath.Join(path, "*.go"))
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(r.set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		r.names, r.files = append(r.names, filepath.Base(path)), append(r.files, file)
		r.learn(file)
	}
	return r
}

// learn finds a file's functions that take a format, and its texts that have names.
func (r *room) learn(file *ast.File) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			r.learnMaker(n.Name.Name, n.Type)
		case *ast.AssignStmt:
			if f, ok := n.Rhs[0].(*ast.FuncLit); ok {
				r.learnMaker(types.ExprString(n.Lhs[0]), f.Type)
			}
		case *ast.GenDecl:
			for _, spec := range n.Specs {
				if v, ok := spec.(*ast.ValueSpec); ok && n.Tok == token.CONST && len(v.Values) == len(v.Names) {
					for i, name := range v.Names {
						if s, whole := r.literal(v.Values[i]); whole {
							r.consts[name.Name] = s
						}
					}
				}
			}
		}
		return true
	})
}

func (r *room) learnMaker(name string, f *ast.FuncType) {
	var params []string
	for _, p := range f.Params.List {
		for _, name := range p.Names {
			params = append(params, name.Name)
		}
	}
	at := slices.Index(params, "format")
	if at < 0 || at != len(params)-2 || slices.Contains(harmless, name) {
		return
	}
	kind := failure
	switch {
	case r.dir == "pkg/doctor":
		kind = finding
	case strings.EqualFold(name, "warn"):
		kind = warning
	}
	r.makers[name] = maker{kind, at}
}

// messages are those of the room, in the order of its files.
func (r *room) messages() (all []message) {
	for i, file := range r.files {
		var above []ast.Node
		ast.Inspect(file, func(n ast.Node) bool {
			if n == nil {
				above = above[:len(above)-1]
				return true
			}
			if call, ok := n.(*ast.CallExpr); ok {
				if m, ok := r.ofCall(call, above); ok {
					m.dir, m.file, m.line = r.dir, r.names[i], r.set.Position(call.Pos()).Line
					m.function, m.when = place(append(above, call))
					all = append(all, m)
				}
			}
			above = append(above, n)
			return true
		})
	}
	return all
}

func (r *room) ofCall(call *ast.CallExpr, above []ast.Node) (m message, ok bool) {
	name := types.ExprString(call.Fun)
	made, ok := commonMakers[name]
	if !ok {
		made, ok = r.makers[name[strings.LastIndex(name, ".")+1:]]
	}
	if !ok && logged.MatchString(name) {
		made, ok = maker{warning, 0}, true
	}
	if !ok && name == "fmt.Sprintf" {
		made, ok = ofSprintf(above)
	}
	if !ok || len(call.Args) <= made.format || made.kind == finding && types.ExprString(call.Args[1]) == "OK" {
		return m, false
	}
	text, whole := r.literal(call.Args[made.format])
	if !whole && regexp.MustCompile(`^\{\w+\}$`).MatchString(text) {
		return m, false // it hands on a text, or a format, that is made elsewhere
	}
	return message{kind: made.kind, text: text}, true
}

// ofSprintf says what a text becomes: a typed error's, or one of several reasons.
func ofSprintf(above []ast.Node) (maker, bool) {
	if function, _ := place(above); function == "Error" {
		return maker{failure, 0}, true
	}
	if list, ok := above[len(above)-1].(*ast.CallExpr); ok && types.ExprString(list.Fun) == "append" {
		switch to := types.ExprString(list.Args[0]); to[strings.LastIndex(to, ".")+1:] {
		case "refused":
			return maker{failure, 0}, true
		case "warnings":
			return maker{warning, 0}, true
		}
	}
	return maker{}, false
}

// literal is what an expression of texts says; what else is in it reads {…}, and then it
// is not whole.
func (r *room) literal(e ast.Expr) (text string, whole bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil && e.Kind == token.STRING
	case *ast.Ident:
		if s, ok := r.consts[e.Name]; ok {
			return s, true
		}
	case *ast.BinaryExpr:
		x, one := r.literal(e.X)
		y, other := r.literal(e.Y)
		return x + y, one && other && e.Op == token.ADD
	}
	return "{" + types.ExprString(e) + "}", false
}

// place names the function around a node, the last of a path, and the condition that it
// stands under.
func place(path []ast.Node) (function, when string) {
	for i := len(path) - 2; i >= 0; i-- {
		switch n := path[i].(type) {
		case *ast.FuncDecl:
			return n.Name.Name, when
		case *ast.IfStmt:
			switch {
			case when != "":
			case path[i+1] == n.Body:
				when = "if " + cause(n, path[i-1]) + types.ExprString(n.Cond)
			case path[i+1] == n.Else:
				when = "unless " + cause(n, path[i-1]) + types.ExprString(n.Cond)
			}
		case *ast.CaseClause:
			if when == "" {
				when = "otherwise"
				var list []string
				for _, e := range n.List {
					list = append(list, types.ExprString(e))
				}
				if len(list) > 0 {
					when = "case " + strings.Join(list, ", ")
				}
			}
		}
	}
	return "", when
}

// cause is the call whose error a condition looks at.
func cause(n *ast.IfStmt, above ast.Node) string {
	if !regexp.MustCompile(`^err != nil`).MatchString(types.ExprString(n.Cond)) {
		return ""
	}
	before := n.Init
	if block, ok := above.(*ast.BlockStmt); ok && before == nil {
		if at := slices.Index(block.List, ast.Stmt(n)); at > 0 {
			before = block.List[at-1]
		}
	}
	if set, ok := before.(*ast.AssignStmt); ok && types.ExprString(set.Lhs[len(set.Lhs)-1]) == "err" {
		if call, ok := set.Rhs[0].(*ast.CallExpr); ok {
			return types.ExprString(call.Fun) + ": "
		}
	}
	return ""
}
