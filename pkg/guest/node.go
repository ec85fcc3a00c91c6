package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"
)

// maxConfig bounds, in bytes, every configuration file that is read whole.
const maxConfig = 1 << 20

// Node holds the contents of this node's files that its guests take over.
type Node struct {
	Hosts      []byte // /etc/hosts; nil leaves the guest's
	ResolvConf []byte // /etc/resolv.conf; nil leaves the guest's
}

// ReadNode reads the node's files, below root ("/" but in tests). A missing one
// is logged and left nil. Where the node asks a resolver on its own loopback
// address, which no guest can reach, the servers that systemd-resolved itself
// asks are taken instead (/run/systemd/resolve/resolv.conf).
func ReadNode(ctx context.Context, root string) (Node, error) {
	log := zerolog.Ctx(ctx)
	hosts, err := readNodeFile(ctx, filepath.Join(root, "etc/hosts"))
	if err != nil {
		return Node{}, err
	}
	resolv, err := readNodeFile(ctx, filepath.Join(root, "etc/resolv.conf"))
	if err != nil {
		return Node{}, err
	}
	if onlyLoopback(resolv) {
		uplink := filepath.Join(root, "run/systemd/resolve/resolv.conf")
		if data, err := readBounded(uplink); err == nil && !onlyLoopback(data) {
			resolv = data
		} else {
			log.Warn().Msg("the node's /etc/resolv.conf names loopback servers only: the guest gets it, but will not resolve names with it")
		}
	}
	return Node{Hosts: hosts, ResolvConf: resolv}, nil
}

func readNodeFile(ctx context.Context, name string) ([]byte, error) {
	data, err := readBounded(name)
	if errors.Is(err, fs.ErrNotExist) {
		zerolog.Ctx(ctx).Warn().Msg("the node has no " + name + ": the guest keeps its own")
		return nil, nil
	}
	return data, err
}

func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(data) > maxConfig {
		err = fmt.Errorf("read %s: more than %d bytes", name, maxConfig)
	}
	return data, err
}

// onlyLoopback tells whether a resolv.conf(5) names servers, all of them on a
// loopback address.
func onlyLoopback(conf []byte) bool {
	found := false
	for line := range bytes.Lines(conf) {
		f := bytes.Fields(line)
		if len(f) < 2 || string(f[0]) != "nameserver" {
			continue
		}
		addr, err := netip.ParseAddr(string(f[1]))
		if err != nil || !addr.IsLoopback() {
			return false
		}
		found = true
	}
	return found
}
