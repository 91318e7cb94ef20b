package world

import (
	"context"
	"io"
	"path/filepath"
	"sync"

	"github.com/crowsnest-dev/crowsnest/collector/kube"
	"github.com/crowsnest-dev/crowsnest/collector/kubestate"
	"github.com/crowsnest-dev/crowsnest/collector/nodeexporter"
	"github.com/crowsnest-dev/crowsnest/collector/raw"
)

// hostExporter opens node_exporter's collectors when they are first asked.
type hostExporter struct {
	o Options

	mu     sync.Mutex
	opened *nodeexporter.Exporter
}

func (h *hostExporter) Write(ctx context.Context, into io.Writer) error {
	h.mu.Lock()
	if h.opened == nil {
		e, err := nodeexporter.New(nodeexporter.Options{Node: h.o.Node, Proc: h.o.HostProc, Sys: h.o.HostSys, Root: h.o.HostRoot, Dir: filepath.Join(h.o.Dir, "node-exporter")})
		if err != nil {
			h.mu.Unlock()
			return err
		}
		h.opened = e
	}
	e := h.opened
	h.mu.Unlock()
	return e.Write(ctx, into)
}

// kubeObjects shows the watches' objects to kube-state-metrics' families while
// they are wanted.
type kubeObjects struct {
	source *kube.Source

	mu    sync.Mutex
	state *kubestate.State // nil while not wanted
}

var _ raw.Objects = (*kubeObjects)(nil)

// Watch implements raw.Objects.
func (k *kubeObjects) Watch(on bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case on == (k.state != nil):
	case on:
		s, err := kubestate.New()
		if err != nil {
			return err
		}
		k.state = s
		k.source.Show(s, kubestate.Watches())
	default:
		k.source.Hide(k.state)
		k.state = nil
	}
	return nil
}

func (k *kubeObjects) now() *kubestate.State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state
}

// Parts implements raw.Objects.
func (k *kubeObjects) Parts() int {
	if s := k.now(); s != nil {
		return s.Parts()
	}
	return 1
}

// Write implements raw.Objects.
func (k *kubeObjects) Write(ctx context.Context, part, parts int, into io.Writer) error {
	if s := k.now(); s != nil {
		return s.Write(ctx, part, parts, into)
	}
	return nil
}

// Troubles implements raw.Objects.
func (k *kubeObjects) Troubles() []string { return k.source.Extra() }
