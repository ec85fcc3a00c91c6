package partition

import "strings"

// typeNames are what people call the types that guests' disks have.
var typeNames = map[string]string{
	"83": "Linux", "82": "Linux swap", "8e": "Linux LVM", "fd": "Linux RAID", "5": "extended", "f": "extended", "85": "extended", "7": "NTFS", "b": "FAT32", "c": "FAT32", "ef": "EFI system",
	typeLinuxFilesystem: "Linux", typeBIOSBoot: "BIOS boot", typeESP: "EFI system",
	typeSwap:                               "Linux swap",
	"E6D6D379-F507-44C2-A23C-238F2A3DF928": "Linux LVM",
	"A19D880F-05FC-4D3B-A006-743F0F84911E": "Linux RAID",
	"BC13C2FF-59E6-4262-A352-B275FD6F7172": "Linux boot",
	"EBD0A0A2-B9E5-4433-87C0-68B6B72699C7": "Microsoft data",
}

// TypeName is what people call the partition's type, or the type itself.
func (p Partition) TypeName() string {
	kind := strings.ToUpper(p.Type)
	if len(kind) <= 2 {
		kind = strings.ToLower(kind)
	}
	if name, ok := typeNames[kind]; ok {
		return name
	}
	for _, root := range rootTypes {
		if kind == root {
			return "Linux root"
		}
	}
	for folder, of := range folderTypes {
		if kind == of {
			return "Linux " + folder
		}
	}
	return p.Type
}
