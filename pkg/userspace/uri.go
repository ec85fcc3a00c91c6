package userspace

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"instance-debootstrap/pkg/pattern"
)

// The formats of what a disk's bytes are stored in. Which it is is said, and never told
// from the bytes: a guest may write the head of a qcow2 to its raw disk.
const (
	Raw   = "raw"
	Qcow2 = "qcow2"
)

// Source says where QEMU finds a disk.
type Source struct {
	Name   string // as it was given
	Format string // Raw or Qcow2
	Path   string // a file or block device of this node; "" is one that the kernel doesn't see

	protocol map[string]any // BlockdevOptions of QEMU's qapi/block-core.json; of a path nil
	socket   string         // by which it is reached, instead of the network
	config   string         // a folder of the node that the protocol's library reads
	shared   bool           // only glanced at
	kept     bool           // for others, who may use it when the run is interrupted

	orReadOnly bool // OpenForReading
}

// schemes are what a URI begins with, each with its reader. QEMU knows more; these are
// the ones that need no secret in the URI.
var schemes = []struct {
	begin string
	read  func(*Source, string) error
}{
	{"file:", (*Source).readFile},
	{"rbd:", (*Source).readRBD},
	{"nbd:unix:", (*Source).readNBDUnix},
	{"nbd+unix://", (*Source).readNBDURL}, {"nbd+tcp://", (*Source).readNBDURL}, {"nbd://", (*Source).readNBDURL},
	{"nbd:", (*Source).readNBD},
	{"gluster+unix://", (*Source).readGluster}, {"gluster+tcp://", (*Source).readGluster}, {"gluster://", (*Source).readGluster},
}

// IsURI tells whether a disk is named by a URI that is known, rather than by a path.
func IsURI(disk string) bool {
	for _, s := range schemes {
		if strings.HasPrefix(disk, s.begin) {
			return true
		}
	}
	return false
}

// Parse reads how a disk is reached: a path, or a URI as Ganeti hands it to KVM
// (DISK_n_URI), in QEMU's syntax (qemu-block-drivers(7)), of which the options that are not
// known are refused. format is Raw or Qcow2; "" is Raw.
func Parse(disk, format string) (Source, error) {
	s := Source{Name: safeName(disk), Format: format}
	switch format {
	case "":
		s.Format = Raw
	case Raw, Qcow2:
	default:
		return s, fmt.Errorf("format %q: must be %s or %s", format, Raw, Qcow2)
	}
	if strings.ContainsFunc(disk, unicode.IsControl) {
		return s, fmt.Errorf("disk %q: it has a control character in it", s.Name)
	}
	if filepath.IsAbs(disk) {
		s.Path = disk
		return s, nil
	}
	for _, scheme := range schemes {
		if strings.HasPrefix(disk, scheme.begin) {
			if err := scheme.read(&s, disk); err != nil {
				return s, fmt.Errorf("disk %s: %w", s.Name, err)
			}
			s.Name = pattern.MaskUserinfo(disk)
			if s.Format == Qcow2 && s.Path == "" {
				return s, fmt.Errorf("disk %s: a qcow2 can only be a file or a block device of this node", s.Name)
			}
			return s, nil
		}
	}
	scheme, _, _ := strings.Cut(s.Name, ":") // what follows may have a password
	return s, fmt.Errorf("disk %q: not a known kind of URI (file:, nbd:, rbd:, gluster:): set the disk's access parameter to kernelspace", scheme)
}

// safeName is what a message calls a disk whose URI can't be read: all but where a secret
// may stand, in options and before an @.
func safeName(disk string) string {
	if filepath.IsAbs(disk) {
		return disk
	}
	scheme, rest, _ := strings.Cut(disk, ":")
	if scheme == "rbd" {
		rest, _, _ = cutEscaped(rest, ':')
	} else if at := strings.LastIndex(rest, "@"); at >= 0 {
		rest = "…" + rest[at:]
	}
	rest, _, _ = strings.Cut(rest, "?")
	return scheme + ":" + rest
}

func (s *Source) readFile(uri string) error {
	path := strings.TrimPrefix(strings.TrimPrefix(uri, "file:"), "//")
	if !strings.HasPrefix(path, "/") {
		return errors.New("a file: URI needs an absolute path, such as file:/srv/disk")
	}
	s.Path = path
	return nil
}

// readRBD reads rbd:POOL[/NAMESPACE]/IMAGE[@SNAPSHOT][:OPTION=VALUE...], where a backslash
// takes a character as it is. Ganeti has the option id.
func (s *Source) readRBD(uri string) error {
	s.config = "/etc/ceph"
	words := splitEscaped(strings.TrimPrefix(uri, "rbd:"), ':')
	image, snapshot, hasSnapshot := cutEscaped(words[0], '@')
	path := splitEscaped(image, '/')
	if len(path) < 2 || len(path) > 3 || slices.Contains(path, "") || hasSnapshot && snapshot == "" {
		return errors.New("write it as rbd:POOL/IMAGE, or rbd:POOL/NAMESPACE/IMAGE")
	}
	for i := range path {
		path[i] = unescape(path[i])
	}
	s.protocol = map[string]any{"driver": "rbd", "pool": path[0], "image": path[len(path)-1]}
	if len(path) == 3 {
		s.protocol["namespace"] = path[1]
	}
	if hasSnapshot {
		s.protocol["snapshot"] = unescape(snapshot)
	}
	for _, word := range words[1:] {
		name, value, ok := cutEscaped(word, '=')
		value = unescape(value)
		switch {
		case value == "" && (name == "id" || name == "conf"):
			return fmt.Errorf("option %q has no value", name)
		case !ok:
			return errors.New("one of its options has no value")
		case name == "id":
			s.protocol["user"] = value
		case name == "conf" && strings.HasPrefix(value, s.config+"/") && filepath.Clean(value) == value:
			s.protocol["conf"] = value
		case name == "conf":
			return fmt.Errorf("conf=%s: must be a file in %s", value, s.config)
		default:
			return fmt.Errorf("option %q is not known, only id and conf are: put whatever else a client needs into %s", unescape(name), s.config)
		}
	}
	return nil
}

// splitEscaped cuts a text at a character before which there is no backslash.
func splitEscaped(text string, at byte) []string {
	var words []string
	for {
		word, rest, found := cutEscaped(text, at)
		words = append(words, word)
		if !found {
			return words
		}
		text = rest
	}
}

func cutEscaped(text string, at byte) (before, after string, found bool) {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case at:
			return text[:i], text[i+1:], true
		}
	}
	return text, "", false
}

func unescape(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+1 < len(text) {
			i++
		}
		out.WriteByte(text[i])
	}
	return out.String()
}

// Of a server that is given without a port (nbd(1), and QEMU's block/gluster.c).
const (
	nbdPort     = "10809"
	glusterPort = "24007"
)

// readNBDUnix reads nbd:unix:PATH[:exportname=NAME].
func (s *Source) readNBDUnix(uri string) error {
	path, export, err := cutExport(strings.TrimPrefix(uri, "nbd:unix:"))
	if err != nil {
		return err
	}
	return s.nbdOverSocket(path, export)
}

// readNBD reads nbd:HOST:PORT[:exportname=NAME].
func (s *Source) readNBD(uri string) error {
	where, export, err := cutExport(strings.TrimPrefix(uri, "nbd:"))
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(where)
	if err != nil || host == "" || port == "" {
		return errors.New("write it as nbd:HOST:PORT[:exportname=NAME]")
	}
	s.nbd(inet(host, port), export)
	return nil
}

// cutExport takes the one option that the older syntax has from its end.
func cutExport(text string) (where, export string, err error) {
	where, option, has := strings.Cut(text, ":exportname=")
	if has && option == "" {
		err = errors.New("exportname has no value")
	}
	return where, option, err
}

func (s *Source) readNBDURL(uri string) error {
	u, socket, err := s.readURL(uri)
	if err != nil {
		return err
	}
	export := strings.TrimPrefix(u.Path, "/")
	if u.Scheme == "nbd+unix" {
		return s.nbdOverSocket(socket, export)
	}
	s.nbd(inet(u.Hostname(), cmp.Or(u.Port(), nbdPort)), export)
	return nil
}

func (s *Source) nbdOverSocket(path, export string) error {
	if err := checkSocket(path); err != nil {
		return err
	}
	s.socket = path
	s.nbd(map[string]any{"type": "unix", "path": path}, export)
	return nil
}

// checkSocket refuses a path with ".." in it, which would lead out of the daemon's root.
func checkSocket(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return errors.New("the server's socket must be an absolute path without . and .. in it")
	}
	return nil
}

func (s *Source) nbd(server map[string]any, export string) {
	s.protocol = map[string]any{"driver": "nbd", "server": server}
	if export != "" {
		s.protocol["export"] = export
	}
}

// readGluster reads gluster[+tcp]://HOST[:PORT]/VOLUME/PATH, which Ganeti has, and
// gluster+unix:///VOLUME/PATH?socket=PATH.
func (s *Source) readGluster(uri string) error {
	u, socket, err := s.readURL(uri)
	if err != nil {
		return err
	}
	volume, path, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if volume == "" || path == "" {
		return errors.New("write it as gluster://HOST[:PORT]/VOLUME/PATH")
	}
	server := inet(u.Hostname(), cmp.Or(u.Port(), glusterPort))
	if u.Scheme == "gluster+unix" {
		if err := checkSocket(socket); err != nil {
			return err
		}
		s.socket, server = socket, map[string]any{"type": "unix", "path": socket}
	}
	s.protocol = map[string]any{"driver": "gluster", "volume": volume, "path": path, "server": []any{server}}
	return nil
}

// readURL takes a URL apart, whose one option may be the server's socket.
func (s *Source) readURL(uri string) (u *url.URL, socket string, err error) {
	u, err = url.Parse(uri)
	if err != nil {
		return nil, "", errors.New("not a URL that can be read")
	}
	if u.User != nil {
		return nil, "", errors.New("it has a user or password in it, which every user of the node could see: leave them out")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, "", errors.New("its options can't be read")
	}
	overSocket := strings.HasSuffix(u.Scheme, "+unix")
	for name := range query {
		if name != "socket" || !overSocket {
			return nil, "", fmt.Errorf("option %q is not known", name)
		}
	}
	if u.Fragment != "" || overSocket == (u.Host != "") {
		return nil, "", fmt.Errorf("write it as SCHEME://HOST[:PORT]/... or SCHEME+unix:///...?socket=PATH")
	}
	return u, query.Get("socket"), nil
}

func inet(host, port string) map[string]any {
	return map[string]any{"type": "inet", "host": strings.Trim(host, "[]"), "port": port}
}
