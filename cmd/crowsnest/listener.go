package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

const (
	// drainTimeout is how long requests may go on after the end was asked for.
	drainTimeout = 4 * time.Second
	longestQuery = 2 * time.Minute
	// longestAnswer is above it. Streams lift it for themselves.
	longestAnswer = 3 * time.Minute
)

// listener is one address with its HTTP server. The handler can be changed while
// it serves.
type listener struct {
	net     net.Listener
	http    *http.Server
	tls     bool
	handler atomic.Pointer[http.Handler]
	// drain ends what does not end by itself, before requests are waited for.
	drain func()
}

// listen takes the address and loads the certificate, so that a wrong one is
// said at start.
func listen(addr, certFile, keyFile string, logger *slog.Logger) (*listener, error) {
	var config *tls.Config
	if certFile != "" {
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("load the TLS certificate: %w", err)
		}
		config = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w: give another address by --listen: %w", fault.ErrUnavailable, err)
	}
	l := &listener{net: ln, tls: config != nil, drain: func() {}}
	l.http = &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*l.handler.Load()).ServeHTTP(w, r) }),
		TLSConfig:         config,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       longestAnswer,
		WriteTimeout:      longestAnswer,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug), // what clients do wrong
	}
	l.serve(http.NotFoundHandler())
	return l, nil
}

// serve changes the handler.
func (l *listener) serve(h http.Handler) { l.handler.Store(&h) }

// url is where this machine reaches it.
func (l *listener) url() string {
	scheme := "http"
	if l.tls {
		scheme = "https"
	}
	addr := l.net.Addr().String()
	if tcp, ok := l.net.Addr().(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	return scheme + "://" + addr
}

// Run serves until ctx ends, and then until requests are answered or
// drainTimeout is over.
func (l *listener) Run(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() {
		if l.tls {
			ended <- l.http.ServeTLS(l.net, "", "")
			return
		}
		ended <- l.http.Serve(l.net)
	}()
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", l.net.Addr(), err)
	case <-ctx.Done():
	}
	l.drain()
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err := l.http.Shutdown(wait)
	if errors.Is(err, context.DeadlineExceeded) {
		err = l.http.Close() // somebody does not read his answer
	}
	<-ended
	return err
}

// close gives the address back when Run was never called.
func (l *listener) close() error {
	if err := l.net.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// profiling serves what helps to find where time and memory go. It must not be
// reachable by others: it shows memory.
func profiling() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
