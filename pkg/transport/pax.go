package transport

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// paxRecords is what an extended header (pax(1)) says that matters here.
type paxRecords struct {
	size       int64
	name, link string // path, linkpath
	named      bool
	linked     bool
	sparse     sparseMap
	sparseName string // GNU.sparse.name
	attributes bool
	acl        bool   // ACLs as text, which GNU tar leaves alone unless asked
	rawACL     bool   // ACLs as attributes
	seen       string // the types of the headers
}

// nextRecord cuts the first record off an extended header.
func nextRecord(b []byte) (key, value, rest []byte, err error) {
	digits, _, ok := bytes.Cut(b[:min(len(b), 24)], []byte(" "))
	n, err := strconv.Atoi(string(digits))
	if !ok || err != nil || n <= len(digits)+1 || n > len(b) || b[n-1] != '\n' {
		return nil, nil, nil, errors.New("an extended header that can't be read")
	}
	if key, value, ok = bytes.Cut(b[len(digits)+1:n-1], []byte("=")); !ok {
		return nil, nil, nil, errors.New("an extended header without a value")
	}
	return key, value, b[n:], nil
}

func (p *paxRecords) parse(b []byte) error {
	for other := 0; len(b) > 0; {
		key, value, rest, err := nextRecord(b)
		if err != nil {
			return err
		}
		b = rest
		name, isAttribute := strings.CutPrefix(string(key), "SCHILY.xattr.")
		if isAttribute {
			p.attributes = true
			p.rawACL = p.rawACL || strings.HasPrefix(name, "system.posix_acl_")
			continue
		}
		if other += len(value); other > maxOther {
			return fmt.Errorf("an extended header with more than %d bytes beside attributes", maxOther)
		}
		if err := p.set(string(key), value); err != nil {
			return err
		}
	}
	return nil
}

func (p *paxRecords) set(key string, value []byte) (err error) {
	switch key {
	case "path", "linkpath", "GNU.sparse.name":
		if len(value) == 0 || len(value) > MaxPath || hasNUL(value) {
			return fmt.Errorf("an extended header with a name of %d bytes: must be 1 to %d, none of them zero", len(value), MaxPath)
		}
	}
	switch key {
	case "size":
		if p.size, err = strconv.ParseInt(string(value), 10, 64); err != nil || p.size < 0 || p.size > maxBytes {
			return fmt.Errorf("an extended header with size %.40q", value)
		}
	case "path":
		p.name, p.named = string(value), true
		return refuseClimbing(p.name)
	case "linkpath":
		p.link, p.linked = string(value), true
	case "GNU.sparse.name":
		p.sparseName = string(value)
		p.sparse.any = true
		return refuseClimbing(p.sparseName)
	case "SCHILY.acl.access", "SCHILY.acl.default":
		p.acl = true
	default:
		if field, ok := strings.CutPrefix(key, "GNU.sparse."); ok {
			return p.sparse.set(field, string(value))
		}
	}
	return nil
}

// long takes a long name or link of GNU tar's older format. An extended header goes
// before, wherever it stands.
func (p *paxRecords) long(kind byte, text string, t *walker) error {
	if kind == 'K' {
		if !p.linked {
			p.link, p.linked = text, true
		}
		return nil
	}
	if !p.named {
		p.name, p.named = text, true
	}
	if err := refuseClimbing(text); err != nil {
		return t.fault(err)
	}
	return nil
}
