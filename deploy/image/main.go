// Command image makes the container images of Crowsnest as one archive, without
// a Docker daemon and without a registry:
//
//	go run ./deploy/image --out crowsnest.tar --tag dev
//	ctr -n k8s.io images import crowsnest.tar      # or: docker load -i crowsnest.tar
//
// The archive holds two images, REPOSITORY/crowsnest and
// REPOSITORY/crowsnest-collector, each one static program on nothing else than
// the host's CA certificates and a user. The same programs give the same bytes.
package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// nonroot is the user that distroless images have made known.
const nonroot = 65532

// programs are the images, each named after its only program.
var programs = []string{"crowsnest", "crowsnest-collector"}

// caBundles are where Linux distributions keep their CA certificates.
var caBundles = []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"}

type options struct {
	Out        string
	Repository string // what stands before the images' names
	Tag        string
	Bin        string // folder of ready static programs; empty builds them
	Arch       string
}

func main() {
	var opts options
	flag.StringVar(&opts.Out, "out", "crowsnest.tar", "the archive to write")
	flag.StringVar(&opts.Repository, "repository", "localhost", "what stands before the images' names")
	flag.StringVar(&opts.Tag, "tag", "dev", "the images' tag")
	flag.StringVar(&opts.Bin, "bin", "", "folder that holds the programs, built static (CGO_ENABLED=0) for --arch; left out, they are built")
	flag.StringVar(&opts.Arch, "arch", runtime.GOARCH, "amd64 or arm64")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "image: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	if err := run(opts, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// run builds what is needed and writes the archive. Progress goes to log.
func run(opts options, log io.Writer) error {
	if opts.Bin == "" {
		dir, err := os.MkdirTemp("", "crowsnest-image-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if err := build(dir, opts.Arch, log); err != nil {
			return err
		}
		opts.Bin = dir
	}
	ca, err := caCertificates()
	if err != nil {
		return err
	}
	if ca == nil {
		fmt.Fprintln(log, "no CA certificates on this machine: the images will trust only what they are told to by flags")
	}
	images := make(map[name.Tag]v1.Image, len(programs))
	for _, program := range programs {
		tag, err := name.NewTag(opts.Repository + "/" + program + ":" + opts.Tag)
		if err != nil {
			return err
		}
		binary, err := os.ReadFile(filepath.Join(opts.Bin, program))
		if err != nil {
			return err
		}
		if images[tag], err = image(program, binary, ca, opts.Arch); err != nil {
			return fmt.Errorf("image %s: %w", program, err)
		}
		fmt.Fprintf(log, "%s (%.1f MB)\n", tag.Name(), float64(len(binary))/1e6)
	}
	return write(opts.Out, images)
}

func build(dir, arch string, log io.Writer) error {
	for _, program := range programs {
		fmt.Fprintln(log, "building", program)
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, program), "./cmd/"+program)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build %s: %w", program, err)
		}
	}
	return nil
}

// caCertificates gives the host's bundle, nil when it has none.
func caCertificates() ([]byte, error) {
	for _, path := range caBundles {
		bundle, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return bundle, err
	}
	return nil, nil
}

// image puts the program and what it stands on into two layers, so that a new
// version moves only the program's.
func image(program string, binary, ca []byte, arch string) (v1.Image, error) {
	base := []file{
		{Name: "etc/", Mode: 0o755},
		{Name: "etc/passwd", Mode: 0o644, Body: fmt.Appendf(nil, "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:%[1]d:%[1]d:nonroot:/:/sbin/nologin\n", nonroot)},
		{Name: "etc/group", Mode: 0o644, Body: fmt.Appendf(nil, "root:x:0:\nnonroot:x:%d:\n", nonroot)},
		{Name: "tmp/", Mode: 0o1777},
		{Name: "data/", Mode: 0o755, Owner: nonroot},
	}
	if ca != nil {
		base = append(base, file{Name: "etc/ssl/", Mode: 0o755}, file{Name: "etc/ssl/certs/", Mode: 0o755},
			file{Name: "etc/ssl/certs/ca-certificates.crt", Mode: 0o644, Body: ca})
	}
	img := empty.Image
	for _, files := range [][]file{base, {{Name: program, Mode: 0o755, Body: binary}}} {
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return archive(files) })
		if err != nil {
			return nil, err
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			return nil, err
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	config.Config = v1.Config{
		Entrypoint: []string{"/" + program},
		User:       fmt.Sprintf("%d:%d", nonroot, nonroot),
		WorkingDir: "/",
		Env:        []string{"PATH=/", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
		Labels: map[string]string{
			"org.opencontainers.image.title":    program,
			"org.opencontainers.image.licenses": "Apache-2.0",
			"org.opencontainers.image.source":   "https://github.com/crowsnest-dev/crowsnest",
		},
	}
	if ca == nil {
		config.Config.Env = config.Config.Env[:1]
	}
	return mutate.ConfigFile(img, config)
}

// file is an entry of a layer; a folder's name ends in a slash.
type file struct {
	Name  string
	Mode  int64
	Owner int
	Body  []byte
}

// archive gives the files as a tar. Its times are fixed: the layer's digest
// depends on nothing but the content.
func archive(files []file) (io.ReadCloser, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Mode: f.Mode, Uid: f.Owner, Gid: f.Owner, Size: int64(len(f.Body)), ModTime: time.Unix(0, 0)}
		if strings.HasSuffix(f.Name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Body); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return io.NopCloser(&buf), nil
}

// write makes the archive beside its place and moves it there when it is whole.
func write(path string, images map[name.Tag]v1.Image) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".image-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	var unordered bytes.Buffer
	if err = tarball.MultiWrite(images, &unordered); err == nil {
		err = inOrder(tmp, &unordered)
	}
	if err := errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(tmp.Name(), path)
}

// inOrder writes the entries of a tar by name: the library goes through a map,
// and the same images must give the same archive.
func inOrder(to io.Writer, from io.Reader) error {
	type entry struct {
		header *tar.Header
		body   []byte
	}
	var entries []entry
	for in := tar.NewReader(from); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		body, err := io.ReadAll(in)
		if err != nil {
			return err
		}
		entries = append(entries, entry{h, body})
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.header.Name, b.header.Name) })
	out := tar.NewWriter(to)
	for _, e := range entries {
		if err := out.WriteHeader(e.header); err != nil {
			return err
		}
		if _, err := out.Write(e.body); err != nil {
			return err
		}
	}
	return out.Close()
}
