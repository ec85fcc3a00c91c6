package bash

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/interp"
)

// test evaluates test and [ by bash's rules: POSIX's by the number of arguments
// up to four, and -a before -o beyond. The interpreter knows neither.
func (s *Shell) test(hc interp.HandlerContext, args []string) ([]string, error) {
	t := tester{dir: hc.Dir, isSet: func(name string) bool { return hc.Env.Get(name).IsSet() }}
	ok, err := t.eval(args)
	switch {
	case errors.Is(err, errUnsupportedTest):
		return s.unsupported(hc.Pos, "[ "+strings.Join(args, " ")+" ]", "use another test")
	case err != nil:
		fmt.Fprintf(hc.Stderr, "[: %v\n", err)
		return []string{status2}, nil
	case ok:
		return []string{"true"}, nil
	}
	return []string{"false"}, nil
}

// errUnsupportedTest is for tests that bash has and we have not.
var errUnsupportedTest = errors.New("unsupported test")

type tester struct {
	dir   string
	isSet func(string) bool
	args  []string // not yet read, beyond four arguments
}

func (t *tester) eval(a []string) (bool, error) {
	switch len(a) {
	case 0:
		return false, nil
	case 1:
		return a[0] != "", nil
	case 2:
		if a[0] == "!" {
			return a[1] == "", nil
		}
		return t.unary(a[0], a[1])
	case 3:
		switch {
		case isBinary(a[1]):
			return t.binary(a[0], a[1], a[2])
		case a[1] == "-a":
			return a[0] != "" && a[2] != "", nil
		case a[1] == "-o":
			return a[0] != "" || a[2] != "", nil
		case a[0] == "!":
			ok, err := t.eval(a[1:])
			return !ok, err
		case a[0] == "(" && a[2] == ")":
			return a[1] != "", nil
		}
		return false, fmt.Errorf("%s: a binary operator is expected", a[1])
	case 4:
		if a[0] == "!" {
			ok, err := t.eval(a[1:])
			return !ok, err
		}
		if a[0] == "(" && a[3] == ")" {
			return t.eval(a[1:3])
		}
	}
	t.args = a
	ok, err := t.or()
	if err == nil && len(t.args) > 0 {
		err = fmt.Errorf("too many arguments")
	}
	return ok, err
}

func (t *tester) next() string {
	a := t.args[0]
	t.args = t.args[1:]
	return a
}

func (t *tester) or() (bool, error) {
	ok, err := t.and()
	for err == nil && len(t.args) > 0 && t.args[0] == "-o" {
		t.next()
		var right bool
		right, err = t.and()
		ok = ok || right
	}
	return ok, err
}

func (t *tester) and() (bool, error) {
	ok, err := t.term()
	for err == nil && len(t.args) > 0 && t.args[0] == "-a" {
		t.next()
		var right bool
		right, err = t.term()
		ok = ok && right
	}
	return ok, err
}

func (t *tester) term() (bool, error) {
	switch {
	case len(t.args) == 0:
		return false, fmt.Errorf("an argument is expected")
	case t.args[0] == "!":
		t.next()
		ok, err := t.term()
		return !ok, err
	case t.args[0] == "(":
		t.next()
		ok, err := t.or()
		if err == nil && (len(t.args) == 0 || t.next() != ")") {
			err = fmt.Errorf(") is expected")
		}
		return ok, err
	case len(t.args) >= 3 && isBinary(t.args[1]):
		return t.binary(t.next(), t.next(), t.next())
	case len(t.args) >= 2 && isUnary(t.args[0]):
		return t.unary(t.next(), t.next())
	}
	return t.next() != "", nil
}

func isBinary(op string) bool {
	switch op {
	case "=", "==", "!=", "<", ">", "-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-nt", "-ot", "-ef":
		return true
	}
	return false
}

func (t *tester) binary(x, op, y string) (bool, error) {
	switch op {
	case "=", "==":
		return x == y, nil
	case "!=":
		return x != y, nil
	case "<":
		return x < y, nil
	case ">":
		return x > y, nil
	case "-nt", "-ot":
		a, errA := t.stat(x)
		b, errB := t.stat(y)
		if op == "-ot" {
			a, errA, b, errB = b, errB, a, errA
		}
		return errA == nil && (errB != nil || a.ModTime().After(b.ModTime())), nil
	case "-ef":
		a, errA := t.stat(x)
		b, errB := t.stat(y)
		return errA == nil && errB == nil && os.SameFile(a, b), nil
	}
	a, err := integer(x)
	if err != nil {
		return false, err
	}
	b, err := integer(y)
	if err != nil {
		return false, err
	}
	switch op {
	case "-eq":
		return a == b, nil
	case "-ne":
		return a != b, nil
	case "-lt":
		return a < b, nil
	case "-le":
		return a <= b, nil
	case "-gt":
		return a > b, nil
	}
	return a >= b, nil
}

func integer(text string) (int64, error) {
	n, err := strconv.ParseInt(strings.Trim(text, " \t"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: a decimal number is expected", text)
	}
	return n, nil
}

func isUnary(op string) bool {
	return len(op) == 2 && op[0] == '-' && strings.ContainsRune("abcdefghkLnprsSuvwxz", rune(op[1]))
}

func (t *tester) unary(op, arg string) (bool, error) {
	if !isUnary(op) {
		if len(op) == 2 && op[0] == '-' && strings.ContainsRune("GNORot", rune(op[1])) {
			return false, errUnsupportedTest
		}
		return false, fmt.Errorf("%s: a unary operator is expected", op)
	}
	switch op[1] {
	case 'n':
		return arg != "", nil
	case 'z':
		return arg == "", nil
	case 'v':
		if !validName(arg) {
			return false, errUnsupportedTest
		}
		return t.isSet(arg), nil
	case 'L', 'h':
		st, err := os.Lstat(t.path(arg))
		return err == nil && st.Mode()&os.ModeSymlink != 0, nil
	case 'r', 'w', 'x':
		bits := map[byte]uint32{'r': unix.R_OK, 'w': unix.W_OK, 'x': unix.X_OK}
		return arg != "" && unix.Faccessat(unix.AT_FDCWD, t.path(arg), bits[op[1]], unix.AT_EACCESS) == nil, nil
	}
	st, err := t.stat(arg)
	if err != nil {
		return false, nil
	}
	m := st.Mode()
	switch op[1] {
	case 'a', 'e':
		return true, nil
	case 'f':
		return m.IsRegular(), nil
	case 'd':
		return m.IsDir(), nil
	case 's':
		return st.Size() > 0, nil
	}
	kind := map[byte]bool{
		'b': m&os.ModeDevice != 0 && m&os.ModeCharDevice == 0, 'c': m&os.ModeCharDevice != 0, 'p': m&os.ModeNamedPipe != 0,
		'S': m&os.ModeSocket != 0, 'u': m&os.ModeSetuid != 0, 'g': m&os.ModeSetgid != 0, 'k': m&os.ModeSticky != 0,
	}
	return kind[op[1]], nil
}

func (t *tester) path(name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	return t.dir + "/" + name
}

func (t *tester) stat(name string) (os.FileInfo, error) {
	if name == "" {
		return nil, os.ErrNotExist
	}
	return os.Stat(t.path(name))
}
