// Package proxy is an HTTP proxy of this process on loopback, which the tools that fetch
// packages are given: what an archive doesn't change under one address comes from the cache
// when it was fetched before, and goes into it. All else is only passed on, https as the tunnel
// that it is.
//
// The tools check what they get, by the archive's signatures, as if no proxy were there.
package proxy

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/pattern"
)

// Proxy serves the tools of one run.
type Proxy struct {
	// URL is for http_proxy. It has a password: other users of the node can reach the port.
	URL string

	packages  *cache.Packages
	via       *url.URL // the proxy that the network is reached by; nil is none
	dialer    *net.Dialer
	server    *http.Server
	transport *http.Transport
	forward   *httputil.ReverseProxy
	allowed   string // the header Proxy-Authorization

	mu     sync.Mutex
	given  map[string]bool // addresses of what this run was given that the cache has; true: it had it before
	counts Counts
}

// Counts say where what the tools have fetched came from, as numbers of files and bytes.
type Counts struct {
	Kept, Fetched           int
	KeptBytes, FetchedBytes int64
}

// user is the name in the proxy's URL.
const user = "run"

// Start listens until Close. upstream is the proxy that the network is reached by, "" is none;
// a password in it may be given to that proxy only.
func Start(packages *cache.Packages, upstream string) (*Proxy, error) {
	dialer := &net.Dialer{Timeout: connectTime}
	transport := &http.Transport{DialContext: dialer.DialContext, DisableCompression: true, MaxIdleConnsPerHost: 4, ResponseHeaderTimeout: 2 * time.Minute, IdleConnTimeout: time.Minute}
	var via *url.URL
	if upstream != "" {
		if !strings.Contains(upstream, "://") {
			upstream = "http://" + upstream
		}
		u, err := url.Parse(upstream)
		if err != nil {
			return nil, errors.New("the proxy's address can't be read")
		}
		transport.Proxy = http.ProxyURL(u)
		via = u
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		if listener, err = net.Listen("tcp", "[::1]:0"); err != nil {
			return nil, err
		}
	}
	secret := rand.Text()
	p := &Proxy{
		URL:      (&url.URL{Scheme: "http", User: url.UserPassword(user, secret), Host: listener.Addr().String()}).String() + "/",
		packages: packages, via: via, dialer: dialer, transport: transport, given: map[string]bool{},
		allowed: "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+secret)),
	}
	quiet := log.New(io.Discard, "", 0) // the tools say what they didn't get
	p.forward = &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, Transport: transport, ModifyResponse: p.keep, ErrorHandler: failed, ErrorLog: quiet}
	p.server = &http.Server{Handler: p, ErrorLog: quiet, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	go func() { _ = p.server.Serve(listener) }() // until Close
	return p, nil
}

// Close ends it, and whatever it is about to pass on.
func (p *Proxy) Close() error {
	defer p.transport.CloseIdleConnections()
	return p.server.Close()
}

// Counts tells what was served so far.
func (p *Proxy) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

// Distrust takes what this run was given out of the cache, and tells whether any of it was
// there before the run: of one that failed, it may be the reason.
func (p *Proxy) Distrust() (hadSome bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, before := range p.given {
		p.packages.Forget(address)
		hadSome = hadSome || before
	}
	return hadSome
}

// ServeHTTP is for http.Server.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case subtle.ConstantTimeCompare([]byte(r.Header.Get("Proxy-Authorization")), []byte(p.allowed)) != 1:
		w.Header().Set("Proxy-Authenticate", `Basic realm="instance-debootstrap"`)
		w.Header().Set("Connection", "close") // nobody else's stays open
		http.Error(w, "this proxy is for one run of instance-debootstrap", http.StatusProxyAuthRequired)
		return
	case r.Method == http.MethodConnect:
		p.tunnel(w, r)
		return
	case r.URL.Scheme != "http" || r.URL.Host == "":
		http.Error(w, "this proxy takes addresses that begin with http://", http.StatusBadRequest)
		return
	}
	if stays(r) && p.serveKept(w, r) {
		return
	}
	p.forward.ServeHTTP(w, r)
}

// stays tells whether what is asked for is whole, and always the same under its address:
// packages (Debian Policy 5.6.12), and lists that are named by their digests ("Debian
// Repository Format", Acquire-By-Hash). What needs a password isn't for other runs.
func stays(r *http.Request) bool {
	name := r.URL.Path
	return r.Method == http.MethodGet && r.URL.RawQuery == "" && r.Header.Get("Range") == "" && r.Header.Get("Authorization") == "" &&
		(path.Ext(name) == ".deb" || path.Ext(name) == ".udeb" || strings.Contains(name, "/by-hash/SHA"))
}

// moment is the folder of a snapshot in an archive's address.
var moment = pattern.New(`/[0-9]{8}T[0-9]{6}Z/`)

// keptAs is an address under which something is kept: of snapshots of one archive all have the
// same packages under one name.
func keptAs(u *url.URL) string { return moment().ReplaceAllString(u.String(), "/") }

// serveKept serves what the cache has. Who asks for a package twice didn't like the first.
func (p *Proxy) serveKept(w http.ResponseWriter, r *http.Request) bool {
	address := keptAs(r.URL)
	p.mu.Lock()
	_, again := p.given[address]
	p.mu.Unlock()
	if again {
		p.packages.Forget(address)
		return false
	}
	f := p.packages.Open(address)
	if f == nil {
		return false
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return false
	}
	p.mu.Lock()
	p.given[address] = true
	p.counts.Kept, p.counts.KeptBytes = p.counts.Kept+1, p.counts.KeptBytes+st.Size()
	p.mu.Unlock()
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, f)
	return true
}

// keep has the body of a response kept as it passes.
func (p *Proxy) keep(r *http.Response) error {
	if !stays(r.Request) || r.StatusCode != http.StatusOK || r.ContentLength <= 0 {
		return nil
	}
	address := keptAs(r.Request.URL)
	p.mu.Lock()
	if _, known := p.given[address]; !known {
		p.given[address] = false
	}
	p.counts.Fetched, p.counts.FetchedBytes = p.counts.Fetched+1, p.counts.FetchedBytes+r.ContentLength
	p.mu.Unlock()
	if to := p.packages.Create(address, r.ContentLength); to != nil {
		r.Body = &kept{ReadCloser: r.Body, to: to, left: r.ContentLength}
	}
	return nil
}

// kept is a body that is kept when all of it was read.
type kept struct {
	io.ReadCloser
	to   *cache.Fetched
	left int64 // bytes
	once sync.Once
}

func (k *kept) Read(b []byte) (int, error) {
	n, err := k.ReadCloser.Read(b)
	_, _ = k.to.Write(b[:n]) // which never fails
	k.left -= int64(n)
	if k.left == 0 { // before the last bytes are passed on, so that who has them finds it kept
		k.once.Do(func() { k.to.Keep(true) })
	}
	return n, err
}

func (k *kept) Close() error {
	k.once.Do(func() { k.to.Keep(false) })
	return k.ReadCloser.Close()
}

// connectTime is how long the addresses of a server have together for a connection.
const connectTime = 20 * time.Second

// tunnel passes https on, for tools that ask the proxy for it (RFC 9110, 9.3.6).
func (p *Proxy) tunnel(w http.ResponseWriter, r *http.Request) {
	address, greeting := r.Host, "HTTP/1.1 200 OK\r\n\r\n"
	if p.via != nil { // which answers itself
		if p.via.Scheme != "http" {
			failed(w, r, fmt.Errorf("no https by a proxy of %s", p.via.Scheme))
			return
		}
		address, greeting = p.via.Host, ""
		if p.via.Port() == "" {
			address = net.JoinHostPort(p.via.Hostname(), "80")
		}
	}
	server, err := p.dialer.DialContext(r.Context(), "tcp", address)
	if err != nil && p.via != nil {
		err = &net.OpError{Op: "proxyconnect", Net: "tcp", Err: err}
	}
	if err != nil {
		failed(w, r, err)
		return
	}
	defer server.Close()
	if p.via != nil {
		fmt.Fprintf(server, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n", r.Host)
		if login := p.via.User; login != nil {
			password, _ := login.Password()
			fmt.Fprintf(server, "Proxy-Authorization: Basic %s\r\n", base64.StdEncoding.EncodeToString([]byte(login.Username()+":"+password)))
		}
		fmt.Fprint(server, "\r\n")
	}
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	fmt.Fprint(client, greeting)
	go func() {
		_, _ = io.Copy(server, buffered)
		server.Close()
	}()
	_, _ = io.Copy(client, server)
}

// failed answers for an archive that doesn't. The tools print the reason.
func failed(w http.ResponseWriter, r *http.Request, err error) {
	status, why := http.StatusBadGateway, err
	var dns *net.DNSError
	var network *net.OpError
	switch {
	case errors.As(err, &network) && network.Op == "proxyconnect": // as net/http says
		why = fmt.Errorf("PROXY doesn't answer: %w", network.Err)
	case errors.Is(err, context.DeadlineExceeded):
		status = http.StatusGatewayTimeout
	case errors.As(err, &dns):
		why = fmt.Errorf("could not resolve '%s'", r.URL.Hostname())
	}
	text := strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f {
			return '?'
		}
		return c
	}, why.Error())
	text = text[:min(len(text), 200)]
	// The text is in the status line, which is what wget and apt show.
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		http.Error(w, text, status)
		return
	}
	conn, _, err := hijacker.Hijack()
	if err != nil {
		return
	}
	fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status, text)
	conn.Close()
}
