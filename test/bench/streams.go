package main

import (
	"errors"
	"os"
	"path/filepath"
)

// A guest of the shell provider's, on an ext4 that its mke2fs made, is what both
// export.

// exportFormats are ours: the default, which is an image of an ext4, and files.
var exportFormats = []string{"auto", "tar"}

func (b *bench) guestToExport() (tar, disk string, err error) {
	if tar, err = b.tree(plain...); err != nil {
		return "", "", err
	}
	disk = b.disk("guest")
	c := b.shellCreates(creation{disks: []string{disk}, tar: tar, fresh: true})
	if err := c.before(); err != nil {
		return "", "", err
	}
	return tar, disk, c.op()
}

func (b *bench) export(r row) error {
	tar, disk, err := b.guestToExport()
	if err != nil {
		return err
	}
	exports := func(p provider, name string, settings ...string) contender {
		return contender{name: name, dir: b.work, before: func() error { return p.settings(append(b.common(p), settings...)...) }, op: func() error {
			cmd := p.command("export", disk)
			cmd.Stdout = &discard{}
			return p.run(cmd)
		}}
	}
	contenders := []contender{exports(b.shell, "shell")}
	for i, format := range exportFormats {
		contenders = append(contenders, exports(b.ours, []string{"ours", "ours, " + format}[i], "EXPORT_FORMAT="+format))
	}
	contenders = append(contenders, contender{name: "limit", dir: b.work, op: func() error {
		_, err := tool("dd", "if="+tar, "of=/dev/null", "bs=4M", "iflag=direct", "status=none")
		return err
	}})
	return b.compete(r, b.runs, contenders...)
}

func (b *bench) imports(r row) error {
	tar, disk, err := b.guestToExport()
	if err != nil {
		return err
	}
	// stream makes a backup of the guest, for the imports to read.
	stream := func(p provider, name string, settings ...string) (string, error) {
		path := b.disk(name + ".stream")
		f, err := os.Create(path)
		if err != nil {
			return "", err
		}
		cmd := p.command("export", disk)
		cmd.Stdout = f
		return path, errors.Join(p.settings(append(b.common(p), settings...)...), p.run(cmd), f.Close())
	}
	imports := func(p provider, name, path string) contender {
		target := b.disk("imported")
		return contender{name: name, dir: filepath.Dir(target),
			before: func() error { return errors.Join(p.settings(b.common(p)...), newDisk(target, b.diskGiB<<30)) },
			op: func() error {
				f, err := os.Open(path)
				if err != nil {
					return err
				}
				defer f.Close()
				cmd := p.command("import", target)
				cmd.Stdin = struct{ *os.File }{f} // not a file to os/exec: so the script gets a pipe
				return errors.Join(p.run(cmd), syncFile(target))
			}}
	}
	path, err := stream(b.shell, "shell")
	if err != nil {
		return err
	}
	contenders := []contender{imports(b.shell, "shell", path)}
	for i, format := range exportFormats {
		path, err := stream(b.ours, format, "EXPORT_FORMAT="+format)
		if err != nil {
			return err
		}
		contenders = append(contenders, imports(b.ours, []string{"ours", "ours, " + format}[i], path))
	}
	return b.compete(r, b.runs, append(contenders, b.limit(tar, true, b.disk("limit")))...)
}
