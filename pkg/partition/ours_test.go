package partition

import "testing"

func TestWhyADisksTableIsNoneOfOursIsTold(t *testing.T) {
	linux := Partition{Number: 1, StartSector: 4096, Sectors: 4096, Type: linuxTypes[0]}
	boot := func(number int, kind string) Partition {
		return Partition{Number: number, StartSector: 2048, Sectors: 1024, Type: kind}
	}
	for want, l := range map[string]Layout{
		"it has 0 partitions":                                    {Style: StyleMSDOS},
		"its partition is of type 8e":                            {Style: StyleMSDOS, Partitions: []Partition{{Number: 1, Type: "8e"}}},
		"its one partition has the number 2":                     {Style: StyleMSDOS, Partitions: []Partition{{Number: 2, Type: typeLinux}}},
		"partition 1 is of type X":                               {Style: StyleGPT, Partitions: []Partition{boot(1, "X")}},
		"it has no Linux partition":                              {Style: StyleGPT, Partitions: []Partition{boot(14, typeESP)}},
		"it has several partitions to boot from":                 {Style: StyleGPT, Partitions: []Partition{boot(14, typeESP), boot(15, typeESP), linux}},
		"partition 14 lies behind partition 1":                   {Style: StyleGPT, Partitions: []Partition{linux, {Number: 14, StartSector: 8192, Sectors: 1, Type: typeBIOSBoot}}},
		"its gpt has an MBR with partitions of its own (hybrid)": {Style: StyleGPT, HybridMBR: true, Partitions: []Partition{linux}},
	} {
		if _, err := l.RootPartition(); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
