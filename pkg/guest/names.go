package guest

// WriteHostname writes /etc/hostname: the instance's name, as Ganeti has it.
func WriteHostname(r *Root, name string) error {
	return r.WriteFile("/etc/hostname", []byte(name+"\n"), 0o644, Reset)
}

// WriteMailname writes /etc/mailname, the domain of mail sent from the guest.
func WriteMailname(r *Root, name string) error {
	return r.WriteFile("/etc/mailname", []byte(name+"\n"), 0o644, Reset)
}

// WriteHosts gives the guest this node's /etc/hosts; nil leaves the guest's own.
func WriteHosts(r *Root, content []byte) error {
	if content == nil {
		return nil
	}
	return r.WriteFile("/etc/hosts", content, 0o644, Reset)
}
