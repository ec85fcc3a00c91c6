package guest

import "testing"

func TestTheRootsTypeInFstabIsWhatItsFilesystemIs(t *testing.T) {
	for text, want := range map[string]string{
		"# a\nUUID=a\t/  ext3 noatime,errors=remount-ro 0 1\nUUID=b /srv ext3 defaults 0 2\n": "# a\nUUID=a\t/  ext4 noatime,errors=remount-ro 0 1\nUUID=b /srv ext3 defaults 0 2\n",
		"UUID=a / btrfs subvol=@,compress 0 0\n":                                              "UUID=a / ext4 errors=remount-ro 0 0\n",
		"UUID=a / xfs defaults":                                                               "UUID=a / ext4 errors=remount-ro",
		"UUID=a / auto defaults 0 1\n":                                                        "UUID=a / auto defaults 0 1\n",
		"UUID=a / ext4 ro 0 1\r\n":                                                            "UUID=a / ext4 ro 0 1\r\n",
		"UUID=a / ext3\n":                                                                     "UUID=a / ext3\n",
	} {
		if got := string(EditRootType([]byte(text), "ext4", "errors=remount-ro")); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}
