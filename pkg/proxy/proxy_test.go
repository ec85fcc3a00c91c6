package proxy

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"instance-debootstrap/pkg/cache"
)

// archive is a server that counts what it is asked for.
type archive struct {
	*httptest.Server
	asked atomic.Int32
	body  atomic.Value
}

func newArchive(t *testing.T) *archive {
	a := &archive{}
	a.body.Store("the package")
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.asked.Add(1)
		body := a.body.Load().(string)
		switch {
		case strings.Contains(r.URL.Path, "cut"):
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, body)
		case r.Header.Get("Range") != "":
			w.WriteHeader(http.StatusPartialContent)
			io.WriteString(w, body[4:])
		case strings.Contains(r.URL.Path, "missing"):
			http.NotFound(w, r)
		default:
			io.WriteString(w, body)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

func start(t *testing.T, store cache.Store, upstream string) *Proxy {
	t.Helper()
	packages, err := store.Packages(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	p, err := Start(packages, upstream)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// get fetches through a proxy, and says what comes: the body, or the status.
func get(t *testing.T, proxyURL, address string, header ...string) string {
	t.Helper()
	u, err := url.Parse(proxyURL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(u), DisableKeepAlives: true}
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(header) == 2 {
		req.Header.Set(header[0], header[1])
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err.Error()
	case resp.StatusCode >= 300:
		return resp.Status
	}
	return string(body)
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, not %q", what, got, want)
	}
}

func keptIn(t *testing.T, store cache.Store) (paths []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(store.Dir, "packages", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestAPackageIsFetchedOnceForAllRuns(t *testing.T) {
	a, store := newArchive(t), cache.Store{Dir: t.TempDir()}
	for _, name := range []string{"/pool/p_1_all.deb", "/dists/x/main/by-hash/SHA256/00ff"} {
		a.asked.Store(0)
		for run := range 3 {
			p := start(t, store, "")
			expect(t, fmt.Sprint(name, " in run ", run), get(t, p.URL, a.URL+name), "the package")
			if c := p.Counts(); c.Kept+c.Fetched != 1 || (c.Kept == 1) != (run > 0) {
				t.Errorf("counts of run %d: %+v", run, c)
			}
		}
		if n := a.asked.Load(); n != 1 {
			t.Errorf("%s was fetched %d times", name, n)
		}
	}
	a.Close()
	expect(t, "without the archive", get(t, start(t, store, "").URL, a.URL+"/pool/p_1_all.deb"), "the package")
}

func TestWhatMayChangeIsFetchedEachTime(t *testing.T) {
	a, store := newArchive(t), cache.Store{Dir: t.TempDir()}
	p := start(t, store, "")
	for i, name := range []string{"/dists/x/InRelease", "/dists/x/main/Packages.xz", "/pool/p.deb?signed=1"} {
		for range 2 {
			expect(t, name, get(t, p.URL, a.URL+name), "the package")
		}
		if n := a.asked.Load(); int(n) != 2*(i+1) {
			t.Errorf("%s: the archive was asked %d times in all", name, n)
		}
	}
	expect(t, "a part", get(t, p.URL, a.URL+"/pool/part.deb", "Range", "bytes=4-"), "package")
	expect(t, "the whole after it", get(t, p.URL, a.URL+"/pool/part.deb"), "the package")
	expect(t, "a missing one", get(t, p.URL, a.URL+"/pool/missing.deb"), "404 Not Found")
	if got := get(t, p.URL, a.URL+"/pool/cut.deb"); !strings.Contains(got, "EOF") {
		t.Errorf("a package that was cut off: %q", got)
	}
	if got := keptIn(t, store); len(got) != 1 || !strings.HasSuffix(got[0], "-part.deb") {
		t.Errorf("kept: %q", got)
	}
}

func TestADamagedPackageIsFetchedAnew(t *testing.T) {
	a, store := newArchive(t), cache.Store{Dir: t.TempDir()}
	get(t, start(t, store, "").URL, a.URL+"/pool/p.deb")
	if err := os.WriteFile(keptIn(t, store)[0], []byte("the qackage"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, "after the damage", get(t, start(t, store, "").URL, a.URL+"/pool/p.deb"), "the package")
}

// TestAPackageThatTheArchiveHasReplaced: the tool asks again, or its run fails and the next
// gets the archive's.
func TestAPackageThatTheArchiveHasReplaced(t *testing.T) {
	a, store := newArchive(t), cache.Store{Dir: t.TempDir()}
	get(t, start(t, store, "").URL, a.URL+"/pool/p.deb")
	a.body.Store("another one")
	p := start(t, store, "")
	expect(t, "at first", get(t, p.URL, a.URL+"/pool/p.deb"), "the package")
	expect(t, "asked again", get(t, p.URL, a.URL+"/pool/p.deb"), "another one")
	a.body.Store("a third")
	p = start(t, store, "")
	expect(t, "in the next run", get(t, p.URL, a.URL+"/pool/p.deb"), "another one")
	if !p.Distrust() {
		t.Error("nothing came from the cache")
	}
	expect(t, "after a failure", get(t, start(t, store, "").URL, a.URL+"/pool/p.deb"), "a third")
	if start(t, store, "").Distrust() {
		t.Error("a run that was given nothing distrusts something")
	}
}

// TestWhatAFailedRunFetchedIsForgotten: not only what the cache had before it.
func TestWhatAFailedRunFetchedIsForgotten(t *testing.T) {
	a, store := newArchive(t), cache.Store{Dir: t.TempDir()}
	p := start(t, store, "")
	get(t, p.URL, a.URL+"/pool/p.deb")
	if p.Distrust() {
		t.Error("something was there before the run")
	}
	if got := keptIn(t, store); len(got) > 0 {
		t.Errorf("kept: %q", got)
	}
}

func TestWhatNeedsAPasswordIsNotForOtherRuns(t *testing.T) {
	a, store := newArchive(t), cache.Store{Dir: t.TempDir()}
	expect(t, "with a password", get(t, start(t, store, "").URL, a.URL+"/pool/p.deb", "Authorization", "Basic eDp5"), "the package")
	if got := keptIn(t, store); len(got) > 0 {
		t.Errorf("kept: %q", got)
	}
}

// TestHTTPSIsPassedOn, as a tunnel: directly, and by the admin's proxy.
func TestHTTPSIsPassedOn(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "by https") }))
	defer server.Close()
	store := cache.Store{Dir: t.TempDir()}
	upstream := start(t, store, "")
	for what, via := range map[string]string{"directly": "", "by a proxy": upstream.URL} {
		u, err := url.Parse(start(t, store, via).URL)
		if err != nil {
			t.Fatal(err)
		}
		transport := server.Client().Transport.(*http.Transport).Clone()
		transport.Proxy, transport.DisableKeepAlives = http.ProxyURL(u), true
		resp, err := (&http.Client{Transport: transport}).Get(server.URL + "/pool/p.deb")
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != "by https" {
			t.Errorf("%s: %q, %v", what, body, err)
		}
	}
	if got := keptIn(t, store); len(got) > 0 {
		t.Errorf("kept: %q", got)
	}
}

// TestAptFetchesByHTTPS: apt takes http_proxy for https, too, unless it is told otherwise.
func TestAptFetchesByHTTPS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "by https") }))
	defer server.Close()
	p := start(t, cache.Store{Dir: t.TempDir()}, "")
	for _, env := range [][]string{{"http_proxy=" + p.URL}, {"http_proxy=" + p.URL, "https_proxy=" + p.URL}} {
		file := filepath.Join(t.TempDir(), "file")
		cmd := exec.Command("/usr/lib/apt/apt-helper", "-o", "Acquire::https::Verify-Peer=false", "-o", "Acquire::https::Verify-Host=false",
			"-o", "Acquire::Retries=0", "-o", "APT::Sandbox::User=root", "download-file", server.URL+"/pool/p.deb", file)
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}, env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%q: %v\n%s", env, err, out)
			continue
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != "by https" {
			t.Errorf("%q: %q, %v", env, got, err)
		}
	}
}

func TestOtherUsersOfTheNodeGetNothing(t *testing.T) {
	a, store := newArchive(t), cache.Store{Dir: t.TempDir()}
	p := start(t, store, "")
	u, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, login := range []*url.Userinfo{nil, url.UserPassword(user, ""), url.UserPassword(user, "guess")} {
		u.User = login
		expect(t, fmt.Sprint(login), get(t, u.String(), a.URL+"/pool/p.deb"), "407 Proxy Authentication Required")
	}
	if n := a.asked.Load(); n > 0 {
		t.Errorf("the archive was asked %d times", n)
	}
}

func TestTheNetworkIsReachedByTheAdminsProxy(t *testing.T) {
	var login, asked string
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		login, asked = r.Header.Get("Proxy-Authorization"), r.URL.String()
		io.WriteString(w, "by the proxy")
	}))
	defer upstream.Close()
	for _, address := range []string{strings.Replace(upstream.URL, "://", "://me:secret@", 1), "me:secret@" + strings.TrimPrefix(upstream.URL, "http://")} {
		p := start(t, cache.Store{Dir: t.TempDir()}, address)
		expect(t, address, get(t, p.URL, "http://archive.example/pool/p.deb"), "by the proxy")
		if login != "Basic bWU6c2VjcmV0" || asked != "http://archive.example/pool/p.deb" {
			t.Errorf("the proxy saw %q, %q", login, asked)
		}
	}
}

// TestAnArchiveThatDoesNotAnswer is told by the status line, which apt and wget show.
func TestAnArchiveThatDoesNotAnswer(t *testing.T) {
	a := newArchive(t)
	a.Close()
	got := get(t, start(t, cache.Store{Dir: t.TempDir()}, "").URL, a.URL+"/pool/p.deb")
	if !strings.HasPrefix(got, "502 ") || !strings.Contains(got, "connection refused") {
		t.Errorf("the tool is told %q", got)
	}
}

func TestAProxyOfTheAdminsThatDoesNotAnswerIsNamed(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	for via, want := range map[string]string{gone.URL: "connection refused", "http://proxy.invalid:3142": "lookup proxy.invalid"} {
		p := start(t, cache.Store{Dir: t.TempDir()}, via)
		for _, got := range []string{get(t, p.URL, "http://archive.example/pool/p.deb"), tunnelled(t, p.URL, "archive.example:443")} {
			if !strings.HasPrefix(got, "502 PROXY doesn't answer: ") || !strings.Contains(got, want) {
				t.Errorf("%s: the tool is told %q", via, got)
			}
		}
	}
}

// tunnelled asks for a connection, and says with which status that is answered.
func tunnelled(t *testing.T, proxyURL, address string) string {
	t.Helper()
	at, err := url.Parse(proxyURL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", at.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request := &http.Request{Method: http.MethodConnect, Host: address, URL: &url.URL{Opaque: address}, Header: http.Header{}}
	password, _ := at.User.Password()
	request.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(at.User.Username()+":"+password)))
	if err := request.Write(conn); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status
}

func TestAPackageIsFetchedOnceForAllSnapshots(t *testing.T) {
	a, store := newArchive(t), cache.Store{Dir: t.TempDir()}
	p := start(t, store, "")
	expect(t, "of a day", get(t, p.URL, a.URL+"/archive/debian/20260110T000000Z/pool/x_1_all.deb"), "the package")
	expect(t, "of another, in another run", get(t, start(t, store, "").URL, a.URL+"/archive/debian/20260120T000000Z/pool/x_1_all.deb"), "the package")
	expect(t, "of another archive", get(t, start(t, store, "").URL, a.URL+"/archive/debian-security/20260120T000000Z/pool/x_1_all.deb"), "the package")
	if n := a.asked.Load(); n != 2 {
		t.Errorf("the archives were asked %d times, not once each", n)
	}
}
