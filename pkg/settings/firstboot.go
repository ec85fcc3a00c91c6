package settings

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"slices"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"

	"instance-debootstrap/pkg/pattern"
)

// isPath tells whether a setting that is the path of a file, or the text itself, is a path.
func isPath(v string) bool { return strings.HasPrefix(v, "/") && !strings.Contains(v, "\n") }

// fileOrText takes the path of a file of the node's, or a text.
func fileOrText(check func(text string) error) func(string) error {
	return func(v string) error {
		if isPath(v) {
			return checkPath(v)
		}
		return check(v)
	}
}

// interpreter is a script's first line.
var interpreter = pattern.New(`^#! *(/[^ \t\r\n]+)([ \t][^\r\n]*)?(\n|$)`)

// Interpreter is the program that runs a script; "" is that its first line names none.
func Interpreter(script string) string {
	if m := interpreter().FindStringSubmatch(script); m != nil {
		return m[1]
	}
	return ""
}

// CheckScript fails where the kernel wouldn't run a text. A fault of it repeats none of it.
func CheckScript(text string) error {
	first, _, _ := strings.Cut(text, "\n")
	switch {
	case strings.HasPrefix(text, "#!") && strings.HasSuffix(first, "\r"):
		return errors.New("has the line ends of DOS: dos2unix FILE")
	case strings.ContainsRune(text, 0):
		return errors.New("is a program, not a script")
	case Interpreter(text) == "":
		return errors.New("must begin with #! and the path of the program that runs it, such as #!/bin/sh")
	}
	return nil
}

// userDataForms are the first lines of cloud-init's user-data, with what checks the rest.
var userDataForms = []struct {
	begin string
	check func(text string) error
}{
	{"#cloud-config-archive", func(text string) error { return checkYAML(text, yaml.SequenceNode) }},
	{"#cloud-config-jsonp", anything},
	{"#cloud-config", func(text string) error { return checkYAML(text, yaml.MappingNode) }},
	{"#!", CheckScript},
	{"#include-once", anything},
	{"#include", anything},
	{"#cloud-boothook", anything},
	{"#part-handler", anything},
	{"## template: jinja", anything}, // what it makes is known in the guest only
}

// CheckUserData fails where cloud-init wouldn't know what a text is, or couldn't read it. A
// fault repeats none of the text.
func CheckUserData(text string) error { return checkPart(text, 0) }

// maxNested is how deep messages may be in messages.
const maxNested = 5

func checkPart(text string, nested int) error {
	first, _, _ := strings.Cut(text, "\n")
	first = strings.TrimRight(first, " \t\r")
	for _, form := range userDataForms {
		if rest, ok := strings.CutPrefix(first, form.begin); ok && (form.begin == "#!" || strings.TrimLeft(rest, " \t") != rest || rest == "") {
			return form.check(text)
		}
	}
	header := strings.ToLower(first)
	if strings.HasPrefix(header, "content-type:") || strings.HasPrefix(header, "mime-version:") || strings.HasPrefix(header, "from ") {
		return checkMessage(text, nested)
	}
	return errors.New("its first line is none of cloud-init's: #cloud-config, #! with a program's path, or the Content-Type of a MIME message with several parts")
}

// checkYAML takes one document of the kind.
func checkYAML(text string, kind yaml.Kind) error {
	var doc yaml.Node
	if yaml.Unmarshal([]byte(text), &doc) != nil { // whose words may have a piece of the text in them
		return fmt.Errorf("is no YAML: line %d: correct its indentation, quotes, brackets or colons", faultLine(strings.SplitAfter(text, "\n")))
	}
	if len(doc.Content) == 0 {
		return errors.New("has nothing after its first line")
	}
	if doc.Content[0].Kind != kind {
		return fmt.Errorf("line %d: cloud-init expects %s", doc.Content[0].Line, map[yaml.Kind]string{yaml.MappingNode: "keys with values there, such as \"packages: [less]\"", yaml.SequenceNode: "a list there"}[kind])
	}
	return checkKeys(doc.Content[0])
}

// checkKeys refuses what YAML forbids and cloud-init takes: of a key that is there twice, the
// first is lost.
func checkKeys(top *yaml.Node) error {
	if top.Kind != yaml.MappingNode {
		return nil
	}
	var keys []string
	for i := 0; i < len(top.Content); i += 2 {
		key := top.Content[i]
		if slices.Contains(keys, key.Value) {
			return fmt.Errorf("line %d: a key that is there already, and cloud-init would forget the first", key.Line)
		}
		keys = append(keys, key.Value)
	}
	return nil
}

// mostOpen is how many lines a list or a text in quotes may reasonably have before its end.
const mostOpen = 50

// faultLine is the line up to which a text is YAML by itself. The library names another, in
// most cases the first line of what the fault is in, less one.
func faultLine(lines []string) int {
	isWhole := func(n int) bool {
		var doc yaml.Node
		return yaml.Unmarshal([]byte(strings.Join(lines[:n], "")), &doc) == nil
	}
	n := sort.Search(len(lines)-1, func(n int) bool { return !isWhole(n + 1) })
	for more := n + 1; more < len(lines) && more <= n+mostOpen; more++ { // what begins there may end
		if isWhole(more) {
			n = more
		}
	}
	return n + 1
}

// checkMessage takes a MIME message, each of its parts checked.
func checkMessage(text string, nested int) error {
	if nested > maxNested {
		return errors.New("a MIME message: too many messages within one another")
	}
	if from, rest, _ := strings.Cut(text, "\n"); strings.HasPrefix(strings.ToLower(from), "from ") {
		text = rest
	}
	message, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil {
		return errors.New("a MIME message: its head can't be read")
	}
	return checkBody(textproto.MIMEHeader(message.Header), message.Body, nested)
}

func checkBody(head textproto.MIMEHeader, body io.Reader, nested int) error {
	kind, words, err := mime.ParseMediaType(head.Get("Content-Type"))
	if err != nil {
		return errors.New("a MIME message: a Content-Type can't be read")
	}
	if !strings.HasPrefix(kind, "multipart/") {
		return checkContent(kind, head.Get("Content-Transfer-Encoding"), body, nested)
	}
	parts, n := multipart.NewReader(body, words["boundary"]), 0
	for ; ; n++ {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("a MIME message: part %d can't be read, or its last boundary is missing", n+1)
		}
		if nested >= maxNested {
			return errors.New("a MIME message: too many messages within one another")
		}
		if err := checkBody(part.Header, part, nested+1); err != nil {
			return fmt.Errorf("part %d: %w", n+1, err)
		}
	}
	if n == 0 {
		return errors.New("a MIME message: it has no part")
	}
	return nil
}

// checkContent takes one part's text, by its type. What cloud-init may have further types for
// is taken as it is.
func checkContent(kind, encoding string, body io.Reader, nested int) error {
	switch strings.ToLower(encoding) {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return errors.New("its content can't be read: it isn't encoded as its Content-Transfer-Encoding says, or the message's last boundary is missing")
	}
	switch kind {
	case "text/cloud-config":
		return checkYAML(string(text), yaml.MappingNode)
	case "text/x-shellscript":
		return CheckScript(string(text))
	case "text/plain", "text/x-not-multipart": // as the text alone
		return checkPart(strings.TrimLeft(string(text), " \t\r\n"), nested+1)
	}
	return nil
}
