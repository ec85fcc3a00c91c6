// Package layers holds the tests of the house rules: who imports whom, who
// reads the environment, how long a function or a file may be.
package layers

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "instance-debootstrap/"

// imports lists, from the bottom up, what each room may import of ours. A room
// stands below all that import it, so there can be no circle.
var imports = []struct {
	room string
	may  string
}{
	{"pkg/paths", ""},
	{"pkg/lock", ""},
	{"pkg/pattern", ""},
	{"pkg/mounts", ""},
	{"pkg/trust", ""},
	{"pkg/cell", ""},
	{"pkg/dpkg", ""},
	{"pkg/ubuntu", ""},
	{"pkg/command", "cell"},
	{"pkg/tell", ""},
	{"pkg/partition", "tell"},
	{"pkg/network", "pattern"},
	{"pkg/guest", "dpkg network pattern"},
	{"pkg/osapi", "pattern"},
	{"pkg/settings/bash", "command pattern"},
	{"pkg/settings", "paths settings/bash pattern trust"},
	{"pkg/session", "paths mounts cell"},
	{"pkg/blockdev", "lock tell command pattern paths mounts"},
	{"pkg/filesystem", "cell command pattern tell mounts"},
	{"pkg/hooks", "command pattern trust"},
	{"pkg/node", "command pattern"},
	{"pkg/libvirt", "command pattern"},
	{"pkg/bootstrap", "command filesystem guest pattern ubuntu"},
	{"pkg/transport", "partition cell command pattern tell"},
	{"pkg/image", "blockdev tell"},
	{"pkg/cache", "lock dpkg paths tell transport image pattern trust filesystem"},
	{"pkg/qemu", "command pattern"},
	{"pkg/userspace", "paths cell command pattern session blockdev tell"},
	{"pkg/boot", "cell command partition guest filesystem pattern ubuntu"},
	{"pkg/receipt", "dpkg guest partition filesystem"},
	{"pkg/guestdisk", "dpkg paths tell pattern partition guest session blockdev filesystem boot qemu receipt"},
	{"pkg/backup", "paths tell cell command pattern partition guest osapi settings session blockdev filesystem transport boot guestdisk"},
	{"pkg/kept", "paths tell pattern guest filesystem transport"},
	{"pkg/metrics", "lock"},
	{"pkg/proxy", "cache pattern"},
	{"pkg/install", "metrics kept dpkg lock proxy paths tell command pattern partition network guest osapi settings session blockdev filesystem hooks bootstrap transport image cache boot guestdisk qemu trust receipt"},
	{"os/debootstrap", "paths receipt userspace transport tell guest network osapi session guestdisk backup install settings"},
	{"pkg/vm", "dpkg lock paths tell command pattern partition network guest session blockdev filesystem transport boot qemu node libvirt guestdisk backup install"},
	{"pkg/doctor", "kept userspace paths mounts tell cell command hooks blockdev cache libvirt osapi session install vm filesystem settings"},
	{"cmd/instance-debootstrap", "metrics dpkg userspace os/debootstrap install guestdisk receipt vm doctor tell paths command osapi settings session cache qemu node libvirt pattern blockdev"},
	{"test/summary", ""},
}

// A library that only one floor, or room, may use: pkg/ knows nothing of the CLI.
var libraries = map[string]string{
	"github.com/urfave/cli/v2":             "cmd/",
	"github.com/kelseyhightower/envconfig": "cmd/",
	"go.yaml.in/yaml/v3":                   "pkg/settings",
}

// The packages of pkg/ that may read the process's environment; session only to
// hand it unread to the process it starts itself anew as.
var readsEnvironment = []string{"pkg/settings", "pkg/session"}

// What may start a process by itself; all else does so by pkg/command, which puts
// the tools that read a guest's bytes into a cell. Hooks and settings are the
// admin's, run by bash, and session starts this program; ssh and virsh take the
// terminal.
var startsProcesses = []string{"pkg/command", "pkg/cell", "pkg/hooks", "pkg/settings/bash", "pkg/session", "pkg/vm"}

const (
	maxFunctionLines = 60
	maxFileLines     = 400
)

type goPackage struct {
	ImportPath string
	Imports    []string
}

func goList(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = "../.."
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, said.String())
	}
	var list []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p goPackage
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

func TestARoomImportsOnlyRoomsThatDoLess(t *testing.T) {
	may := map[string][]string{}
	for _, room := range imports {
		for _, below := range strings.Fields(room.may) {
			if !strings.HasPrefix(below, "os/") {
				below = "pkg/" + below
			}
			if _, known := may[below]; !known {
				t.Errorf("%s may import %s, which stands above it in the table", room.room, below)
			}
			may[room.room] = append(may[room.room], below)
		}
		if may[room.room] == nil {
			may[room.room] = []string{}
		}
	}
	for _, p := range goList(t) {
		room := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasPrefix(room, "test/") && may[room] == nil {
			continue // a test's helper may use what it tests
		}
		if may[room] == nil {
			t.Errorf("%s is a new room: give it a line in the table of %s", room, "test/layers")
			continue
		}
		for _, below := range may[room] {
			if !slices.Contains(p.Imports, module+below) {
				t.Errorf("%s may import %s, and doesn't: take it out of the table of test/layers", room, below)
			}
		}
		for _, path := range p.Imports {
			below, ours := strings.CutPrefix(path, module)
			if ours && !slices.Contains(may[room], below) {
				t.Errorf("%s imports %s, which the table of test/layers does not let it", room, below)
			}
			for library, home := range libraries {
				if (path == library || strings.HasPrefix(path, library+"/")) && !strings.HasPrefix(room, home) {
					t.Errorf("%s imports %s, which only %s may", room, path, home)
				}
			}
		}
	}
}

func TestTheDesignNamesEachRoom(t *testing.T) {
	design, err := os.ReadFile("../../docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(string(design), -1) {
		for i, name := range strings.Split(row[1], ", ") {
			name = strings.Trim(name, "`")
			if i > 0 {
				name = "pkg/" + name
			}
			named = append(named, name)
		}
	}
	for _, r := range imports {
		if !strings.HasPrefix(r.room, "test/") && !slices.Contains(named, r.room) {
			t.Errorf("docs/design.md's table of rooms lacks %s", r.room)
		}
		named = slices.DeleteFunc(named, func(name string) bool { return name == r.room })
	}
	if len(named) > 0 {
		t.Errorf("docs/design.md's table has rooms that don't exist: %s", named)
	}
}

// goFiles calls see for every Go file of the product, tests left out.
func goFiles(t *testing.T, see func(path string, set *token.FileSet, file *ast.File)) {
	t.Helper()
	for _, root := range []string{"cmd", "os", "pkg", "test"} {
		err := filepath.WalkDir("../../"+root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			see(strings.TrimPrefix(path, "../../"), set, file)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestOnlyOneRoomStartsTools(t *testing.T) {
	for _, p := range goList(t) {
		room := strings.TrimPrefix(p.ImportPath, module)
		if slices.Contains(p.Imports, "os/exec") && !strings.HasPrefix(room, "test/") && !slices.Contains(startsProcesses, room) {
			t.Errorf("%s imports os/exec: start tools by pkg/command", room)
		}
	}
}

func TestOnlyTheInterfaceAndTheSettingsReadTheEnvironment(t *testing.T) {
	readers := []string{"Getenv", "Environ", "LookupEnv", "ExpandEnv"}
	goFiles(t, func(path string, set *token.FileSet, file *ast.File) {
		if !strings.HasPrefix(path, "pkg/") || slices.Contains(readsEnvironment, filepath.Dir(path)) {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || !slices.Contains(readers, sel.Sel.Name) {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && (x.Name == "os" || x.Name == "syscall" || x.Name == "unix") {
				t.Errorf("%s: %s.%s: take the value as an argument", set.Position(n.Pos()), x.Name, sel.Sel.Name)
			}
			return true
		})
	})
}

func TestFunctionsAndFilesAreShort(t *testing.T) {
	goFiles(t, func(path string, set *token.FileSet, file *ast.File) {
		if lines := set.Position(file.FileEnd).Line; lines > maxFileLines {
			t.Errorf("%s has %d lines, the limit is %d", path, lines, maxFileLines)
		}
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			first, last := set.Position(fn.Pos()).Line, set.Position(fn.End()).Line
			if lines := last - first + 1; lines > maxFunctionLines {
				t.Errorf("%s:%d: %s has %d lines, the limit is %d", path, first, fn.Name.Name, lines, maxFunctionLines)
			}
		}
	})
}
