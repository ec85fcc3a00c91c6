package pattern

var userinfo = New(`://\S*@`)

// MaskUserinfo hides the user and password of URLs in a text (RFC 3986, 3.2.1), up
// to the last @, for passwords are not always escaped; in doubt it hides more.
func MaskUserinfo(text string) string { return userinfo().ReplaceAllString(text, "://***@") }
