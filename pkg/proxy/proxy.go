// Package proxy is an HTTP proxy of this process on loopback, which the tools that fetch
// packages are given: what an archive doesn't change under one address comes from the cache
// when it was fetched before, and goes into it. All else, and https, is only passed on.
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
)

// Proxy serves the tools of one run.
type Proxy struct {
	// URL is for http_proxy. It has a password: other users of the node can reach the port.
	URL string

	packages  *cache.Packages
	server    *http.Server
	transport *http.Transport
	forward   *httputil.ReverseProxy
	allowed   string // the header Proxy-Authorization

	mu     sync.Mutex
	served map[string]bool // addresses whose content came from the cache
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
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 4, ResponseHeaderTimeout: 2 * time.Minute, IdleConnTimeout: time.Minute}
	if upstream != "" {
		if !strings.Contains(upstream, "://") {
			upstream = "http://" + upstream
		}
		u, err := url.Parse(upstream)
		if err != nil {
			return nil, errors.New("the proxy's address can't be read")
		}
		transport.Proxy = http.ProxyURL(u)
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
		packages: packages, transport: transport, served: map[string]bool{},
		allowed: "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+secret)),
	}
	quiet := log.New(io.Discard, "", 0) // the tools say what they didn't get
	p.forward = &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, Transport: transport, ModifyResponse: p.keep, ErrorHandler: failed, ErrorLog: quiet}
	p.server = &http.Server{Handler: p, ErrorLog: quiet, ReadHeaderTimeout: time.Minute}
	go func() { _ = p.server.Serve(listener) }() // until Close
	return p, nil
}

// Close ends it, and whatever it is about to pass on.
func (p *Proxy) Close() error {
	p.transport.CloseIdleConnections()
	return p.server.Close()
}

// Counts tells what was served so far.
func (p *Proxy) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

// Distrust takes what this run was given from the cache out of it, and tells whether that was
// anything: of a run that failed, it may be the reason.
func (p *Proxy) Distrust() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for address := range p.served {
		p.packages.Forget(address)
	}
	return len(p.served) > 0
}

// ServeHTTP is for http.Server.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case subtle.ConstantTimeCompare([]byte(r.Header.Get("Proxy-Authorization")), []byte(p.allowed)) != 1:
		w.Header().Set("Proxy-Authenticate", `Basic realm="instance-debootstrap"`)
		http.Error(w, "this proxy is for one run of instance-debootstrap", http.StatusProxyAuthRequired)
		return
	case r.URL.Scheme != "http" || r.URL.Host == "":
		http.Error(w, "this proxy is for http only", http.StatusBadRequest)
		return
	}
	if stays(r) && p.serveKept(w, r) {
		return
	}
	p.forward.ServeHTTP(w, r)
}

// stays tells whether what is asked for is whole, and always the same under its address:
// packages (Debian Policy 5.6.12), and lists that are named by their digests ("Debian
// Repository Format", Acquire-By-Hash).
func stays(r *http.Request) bool {
	name := r.URL.Path
	return r.Method == http.MethodGet && r.URL.RawQuery == "" && r.Header.Get("Range") == "" &&
		(path.Ext(name) == ".deb" || path.Ext(name) == ".udeb" || strings.Contains(name, "/by-hash/SHA"))
}

// serveKept serves what the cache has. Who asks for a package twice didn't like the first.
func (p *Proxy) serveKept(w http.ResponseWriter, r *http.Request) bool {
	address := r.URL.String()
	p.mu.Lock()
	again := p.served[address] && !strings.Contains(address, "/by-hash/")
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
	p.served[address] = true
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
	p.mu.Lock()
	p.counts.Fetched, p.counts.FetchedBytes = p.counts.Fetched+1, p.counts.FetchedBytes+r.ContentLength
	p.mu.Unlock()
	if to := p.packages.Create(r.Request.URL.String()); to != nil {
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

// failed answers for an archive that doesn't. The tools print the reason.
func failed(w http.ResponseWriter, r *http.Request, err error) {
	status, why := http.StatusBadGateway, err
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		status = http.StatusGatewayTimeout
	case errors.As(err, &dns):
		why = fmt.Errorf("could not resolve '%s'", r.URL.Hostname())
	}
	text := strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return -1
		}
		return c
	}, why.Error())
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
