package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
	"time"
)

// slowBytes is what a slow mirror gives in a second: 50 Mbit.
const slowBytes = 50e6 / 8

// coldSlowly is cold from a mirror that gives 50 Mbit/s to all connections together.
func (b *bench) coldSlowly(r row) error {
	mirror, err := url.Parse(b.mirror)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	line := &line{}
	server := &http.Server{Handler: &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: mirror.Scheme, Host: mirror.Host})
		},
		ModifyResponse: func(answer *http.Response) error {
			answer.Body = slowed{answer.Body, line}
			return nil
		},
	}}
	go func() { _ = server.Serve(listener) }() // until Close
	defer server.Close()
	return b.coldCreates(r, []string{"MIRROR=http://" + listener.Addr().String() + mirror.Path}, os.RemoveAll)
}

// line is what all connections share.
type line struct {
	mu   sync.Mutex
	free time.Time // when all that was sent has gone through
}

// send waits until so many bytes have gone through.
func (l *line) send(bytes int) {
	l.mu.Lock()
	if now := time.Now(); l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(bytes) / slowBytes * float64(time.Second)))
	until := l.free
	l.mu.Unlock()
	time.Sleep(time.Until(until))
}

// slowed is an answer on the line.
type slowed struct {
	io.ReadCloser
	line *line
}

func (s slowed) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p[:min(len(p), 16<<10)])
	s.line.send(n)
	return n, err
}
