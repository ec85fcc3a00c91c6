package filesystem

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"instance-debootstrap/pkg/cell"
	"instance-debootstrap/pkg/pattern"
)

// xfsSwitches are the features that mkfs.xfs knows under various of its
// options, in some version: each is passed as on or off if this node's knows it.
// A version that doesn't know a switch doesn't make the feature.
var xfsSwitches = []string{
	"crc", "finobt", "rmapbt", "reflink", "inobtcount", "bigtime", "metadir",
	"sparse", "nrext64", "exchange", "parent", "verity",
}

// xfsLogMiB returns the log's size: xfsprogs's rule of size/2048, at least 64
// MiB, without the influence of the number of this node's CPUs.
func xfsLogMiB(sizeBytes int64) int64 { return min(max(64, sizeBytes>>20/2048), 1024) }

// xfsGroup finds an option and its suboptions in mkfs.xfs's usage text, e.g.
// "[-m crc=0|1,finobt=0|1,uuid=xxx]"; not all of them are closed.
var xfsGroup = pattern.New(`\[-([a-z]) ([^\]\[]*)`)

// xfsOption returns "-m finobt=1" and the like for every switch in the usage text.
func xfsOptions(usage, on string) []string {
	var args []string
	for _, group := range xfsGroup().FindAllStringSubmatch(usage, -1) {
		shown := strings.FieldsFunc(group[2], func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
		for _, name := range xfsSwitches {
			if !slices.ContainsFunc(shown, func(s string) bool { return strings.HasPrefix(s, name+"=") }) {
				continue
			}
			value := 0
			if strings.Contains(" "+on+" ", " "+name+" ") {
				value = 1
			}
			args = append(args, "-"+group[1], fmt.Sprintf("%s=%d", name, value))
		}
	}
	return args
}

func makeXFS(ctx context.Context, s Spec, uuid string) error {
	// Without arguments mkfs.xfs prints its usage and fails.
	usage, err := bothStreams(ctx, &cell.Place{}, "mkfs.xfs")
	if usage == "" && err != nil {
		return err
	}
	switches := xfsOptions(usage, lookup(s.Suite).xfs)
	if len(switches) == 0 {
		return cmp.Or(context.Cause(ctx), fmt.Errorf("mkfs.xfs prints %s, and no features: install the package xfsprogs again", pattern.Quote(usage)))
	}
	// The sectors are the guest's: see partition.SectorSize. The number of
	// allocation groups would otherwise depend on the CPUs of this node.
	data := fmt.Sprintf("size=%db", s.SizeBytes/blockBytes)
	if s.SizeBytes < 4<<40 {
		data += ",agcount=4"
	}
	args := []string{
		"mkfs.xfs", "-q", "-f", "-b", fmt.Sprintf("size=%d", blockBytes), "-s", "size=512",
		"-d", data, "-i", "size=512", "-l", fmt.Sprintf("size=%dm", xfsLogMiB(s.SizeBytes)), "-m", "uuid=" + uuid,
	}
	args = append(args, switches...)
	if s.Label != "" {
		args = append(args, "-L", s.Label)
	}
	out, err := bothStreams(ctx, writing(s.Device), append(args, s.Device)...)
	if err != nil {
		// The reason stands before the usage text, which mkfs.xfs always adds.
		reason, _, _ := strings.Cut(out, "Usage:")
		return fmt.Errorf("%s: %w", strings.Join(strings.Fields(reason), " "), err)
	}
	return nil
}
