package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/session"
)

func (p *program) cacheSyncCommand() *cli.Command {
	return &cli.Command{
		Name: "sync", Usage: "bring entries to the caches of other nodes, by ssh", ArgsUsage: "NODE [NODE]...",
		Description: "Of a tree that a NODE has in an older version, only what has changed is sent. An entry appears\n" +
			"there when all of it is there. One that is cut off goes on where it ended. What was edited on\n" +
			"NODE, or is newer or read-only there, stays. NODE must have this program, and let root in by ssh\n" +
			"without a question.",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "key", Usage: "the entry with this `KEY`, as for cache show, may be given more than once; all that aren't past their age unless given"},
			sshOptionFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return usagef("cache sync: expected NODE, or several; see %s --help", c.Command.HelpName)
			}
			for _, node := range c.Args().Slice() {
				if !nodeName().MatchString(node) {
					return usagef("cache sync: %s is no node's name or address", pattern.Quote(node))
				}
			}
			ctx, stop := session.WithSignals(c.Context)
			defer stop()
			c.Context = ctx
			return session.BecauseOf(ctx, p.cacheSync(c))
		},
	}
}

func sshOptionFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "ssh-option", Usage: "`OPTION` for ssh's -o, such as Port=2222, may be given more than once"}
}

func (p *program) cacheReceiveCommand() *cli.Command {
	return &cli.Command{
		Name: "receive", Usage: "take an entry from stdin, as another node's cache sync calls it",
		Action: func(c *cli.Context) error {
			ctx, stop := session.WithSignals(c.Context)
			defer stop()
			c.Context = ctx
			store, _, err := p.store(c)
			if err == nil {
				err = store.Receive(ctx, "", os.Stdin, os.Stdout)
			}
			return session.BecauseOf(ctx, err)
		},
	}
}

func (p *program) cachePullCommand() *cli.Command {
	return &cli.Command{
		Name: "pull", Usage: "bring entries from another node's cache, by ssh", ArgsUsage: "NODE KEY [KEY]...",
		Description: "As cache sync, which NODE does then. KEY is a name that cache list shows there,\nor the beginning of the key in it, before .tar.",
		Flags:       []cli.Flag{sshOptionFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() < 2 {
				return usagef("cache pull: expected NODE and KEY, or several; see %s --help", c.Command.HelpName)
			}
			words := c.Args().Slice()
			for _, word := range words { // a key is one as well
				if !nodeName().MatchString(word) {
					return usagef("cache pull: %s is no node's name or address, and no key", pattern.Quote(word))
				}
			}
			ctx, stop := session.WithSignals(c.Context)
			defer stop()
			store, _, err := p.store(c)
			for _, key := range words[1:] {
				if err == nil {
					err = p.watch(words[0]+": "+key+": ", func() error { return pullFrom(ctx, words[0], c.StringSlice("ssh-option"), key, store) })
				}
				if err == nil {
					fmt.Printf("%s: %s: it is here\n", words[0], key)
				}
			}
			return session.BecauseOf(ctx, err)
		},
	}
}

func (p *program) cacheSendCommand() *cli.Command {
	return &cli.Command{
		Name: "send", Usage: "send an entry to stdout, as another node's cache pull calls it", ArgsUsage: "KEY",
		Action: func(c *cli.Context) error {
			ctx, stop := session.WithSignals(c.Context)
			defer stop()
			store, _, err := p.store(c)
			if err != nil {
				return err
			}
			tree, err := store.Send(ctx, c.Args().First())
			if err != nil {
				return err
			}
			defer tree.Close()
			_, err = tree.To(ctx, os.Stdin, os.Stdout)
			return session.BecauseOf(ctx, err)
		},
	}
}

// nodeName is the name or address of a node: none that ssh takes for an option.
var nodeName = pattern.New(`^[A-Za-z0-9_][A-Za-z0-9._:-]*$`)

func (p *program) cacheSync(c *cli.Context) error {
	store, _, err := p.store(c)
	if err != nil {
		return err
	}
	keys := c.StringSlice("key")
	if len(keys) == 0 {
		if keys, err = freshKeys(store); err != nil {
			return err
		}
	}
	trees := make([]*cache.Sending, len(keys))
	defer func() {
		for _, tree := range trees {
			if tree != nil {
				tree.Close()
			}
		}
	}()
	var faults []error
	for _, node := range c.Args().Slice() {
		for i, key := range keys {
			if trees[i] == nil { // read when its turn comes: a node that isn't reached is known by then
				err := p.watch("entry "+key+": ", func() (err error) { trees[i], err = store.Send(c.Context, key); return err })
				if err != nil {
					return errors.Join(append(faults, err)...)
				}
			}
			tree, name := trees[i], filepath.Base(trees[i].Path)
			var sent cache.Sent
			err := p.watch(node+": "+name+": ", func() (err error) {
				sent, err = sendTo(c.Context, node, c.StringSlice("ssh-option"), tree)
				return err
			})
			if command.ExitStatus(err) == sshFailed && context.Cause(c.Context) == nil {
				faults = append(faults, fmt.Errorf("node %s: %w", node, err))
				break // nor does it get the others
			}
			switch {
			case context.Cause(c.Context) != nil:
				return context.Cause(c.Context)
			case err != nil:
				faults = append(faults, fmt.Errorf("node %s: %s: %w", node, name, err))
			case sent.Has:
				fmt.Printf("%s: %s: it has it\n", node, name)
			default:
				fmt.Printf("%s: %s: of %.1f MiB it had all but %.1f, %.1f MiB went over the wire\n", node, name, mib(tree.Size), mib(sent.Parts), mib(sent.Wire+sent.Answered))
			}
		}
	}
	return errors.Join(faults...)
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// freshKeys are the keys of the entries that aren't past their age.
func freshKeys(store cache.Store) (keys []string, err error) {
	list, err := store.List()
	for _, l := range list {
		if l.Key != "" && l.Inputs != nil && !l.Expired && l.State == cache.StateOK {
			keys = append(keys, l.Key)
		}
	}
	if err == nil && len(keys) == 0 {
		err = fmt.Errorf("the cache %s has no entry to bring anywhere: `cache warm` makes one", store.Dir)
	}
	return keys, err
}

// Where Ganeti has the host keys of its nodes, which all go by the cluster's name.
const (
	ganetiKnownHosts = "/var/lib/ganeti/known_hosts"
	ganetiCluster    = "/var/lib/ganeti/ssconf_cluster_name"
)

// sshTo are the arguments of ssh to a node. The first value of an option counts.
func sshTo(node string, options []string, command ...string) []string {
	args := []string{"ssh"}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	args = append(args, "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4", "-T")
	if name, err := os.ReadFile(ganetiCluster); err == nil && exists(ganetiKnownHosts) {
		args = append(args, "-o", "HostKeyAlias="+strings.TrimSpace(string(name)), "-o", "GlobalKnownHostsFile="+ganetiKnownHosts)
	}
	return append(append(args, "-l", "root", "--", node, "instance-debootstrap", "cache"), command...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// sendTo brings a tree to a node.
func sendTo(ctx context.Context, node string, options []string, tree *cache.Sending) (sent cache.Sent, err error) {
	err = withNode(ctx, node, sshTo(node, options, "receive"), cache.ErrNoAnswer, func(in io.Reader, out io.Writer) (err error) {
		sent, err = tree.To(ctx, in, out)
		return err
	})
	return sent, err
}

// pullFrom brings a tree from a node.
func pullFrom(ctx context.Context, node string, options []string, key string, store cache.Store) error {
	err := withNode(ctx, node, sshTo(node, options, "send", key), cache.ErrNothingComes, func(in io.Reader, out io.Writer) error {
		return store.Receive(ctx, key, in, out)
	})
	if err != nil {
		return fmt.Errorf("node %s: %s: %w", node, key, err)
	}
	return nil
}

// withNode talks to this program on another node. silent is the error of a node that says
// nothing: then what ssh says is told.
func withNode(ctx context.Context, node string, ssh []string, silent error, talk func(in io.Reader, out io.Writer) error) error {
	fromNode, sshOut, err := os.Pipe()
	if err != nil {
		return err
	}
	defer fromNode.Close()
	sshIn, toNode, err := os.Pipe()
	if err != nil {
		return errors.Join(err, sshOut.Close())
	}
	defer toNode.Close()
	ended := make(chan error, 1)
	go func() { // files, so that nobody waits for who has ended
		ended <- command.Run(ctx, command.Cmd{Args: ssh, Stdin: sshIn, Stdout: sshOut, Quiet: true})
		sshIn.Close()
		sshOut.Close() // only now talk sees the end
	}()
	err = talk(fromNode, toNode)
	var sshErr error
	isReason := err == nil || errors.Is(err, silent)
	select {
	case sshErr = <-ended:
		isReason = isReason || command.ExitStatus(sshErr) == sshFailed
	default: // what it still has to say or to send, nobody reads any more
		toNode.Close()
		fromNode.Close()
		sshErr = <-ended
	}
	if isReason {
		err = cmp.Or(sshErr, err)
	}
	if command.ExitStatus(err) == sshFailed && context.Cause(ctx) == nil {
		err = fmt.Errorf("%w: have `ssh root@%s true` work without a question", err, node)
	}
	return err
}

// sshFailed is how ssh exits when it isn't the program there that has failed.
const sshFailed = 255
