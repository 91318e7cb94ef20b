// Package testbed brings up what tests and measurements of the whole product run
// on: the real cluster of test/e2e/cluster, the shipped manifests on it,
// processes of our programs outside it, a client of the server and a webhook
// target. It must not know what is asserted or measured.
package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Address is this machine as the test cluster's pods reach it.
const Address = "198.18.0.1"

// Node is the name of the test cluster's only node.
const Node = "testnode"

// Root is the project's root folder, found from the working directory.
func Root() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the project's root: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Cluster is the running test cluster.
type Cluster struct {
	Root       string // of the project
	State      string // folder of the cluster's state
	Kubeconfig string // of its admin
	started    bool   // by us
}

// Up attaches to the test cluster that runs, or starts one. Progress and what
// the scripts say go to log.
func Up(ctx context.Context, log io.Writer) (*Cluster, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	c := &Cluster{Root: root, State: os.Getenv("TESTCLUSTER_STATE")}
	if c.State == "" {
		c.State = "/var/tmp/testcluster"
	}
	c.Kubeconfig = filepath.Join(c.State, "admin.kubeconfig")
	if _, err := c.Kubectl(ctx, "", "get", "--raw", "/readyz"); err == nil {
		return c, nil
	}
	fmt.Fprintln(log, "starting the test cluster")
	if err := c.script(ctx, log, "up.sh", c.State); err != nil {
		return nil, err
	}
	c.started = true
	return c, nil
}

// Start starts what of the cluster does not run.
func (c *Cluster) Start(ctx context.Context, log io.Writer) error {
	return c.script(ctx, log, "up.sh", c.State)
}

// Down stops the cluster if Up started it.
func (c *Cluster) Down(ctx context.Context, log io.Writer) error {
	if !c.started {
		return nil
	}
	return c.script(ctx, log, "down.sh", c.State)
}

func (c *Cluster) script(ctx context.Context, log io.Writer, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(c.Root, "test/e2e/cluster", name), args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w (its daemons' logs are in %s/log)", name, err, c.State)
	}
	return nil
}

// CacheDir is where what takes long to build is kept, as the scripts have it.
func CacheDir() string {
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return dir
	}
	return filepath.Join(os.Getenv("HOME"), ".cache")
}

func binDir() string {
	if dir := os.Getenv("TESTCLUSTER_BIN"); dir != "" {
		return dir
	}
	return filepath.Join(CacheDir(), "testcluster/bin")
}

// Kubectl runs kubectl as the cluster's admin and gives what it printed.
func (c *Cluster) Kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	return Command(ctx, stdin, filepath.Join(binDir(), "kubectl"), append([]string{"--kubeconfig", c.Kubeconfig}, args...)...)
}

// Get reads one object, or a list, into out.
func (c *Cluster) Get(ctx context.Context, out any, args ...string) error {
	raw, err := c.Kubectl(ctx, "", append([]string{"get", "-o", "json"}, args...)...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(raw), out)
}

// Apply applies manifests.
func (c *Cluster) Apply(ctx context.Context, manifests string) error {
	_, err := c.Kubectl(ctx, manifests, "apply", "-f", "-")
	return err
}

// DeleteNamespaces removes namespaces with all that is in them, and waits until
// they are gone.
func (c *Cluster) DeleteNamespaces(ctx context.Context, names ...string) error {
	_, err := c.Kubectl(ctx, "", append([]string{"delete", "namespace", "--ignore-not-found", "--timeout=180s"}, names...)...)
	return err
}

// ImportImages makes the product's images of the programs in bin/ and hands them
// to the cluster's container runtime.
func (c *Cluster) ImportImages(ctx context.Context, tag string) error {
	archive := filepath.Join(os.TempDir(), fmt.Sprintf("crowsnest-images-%d.tar", os.Getpid()))
	defer os.Remove(archive)
	cmd := exec.CommandContext(ctx, "go", "run", "./deploy/image", "--bin", "bin", "--tag", tag, "--out", archive)
	cmd.Dir = c.Root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make images: %w: %s", err, out)
	}
	_, err := Command(ctx, "", "ctr", "-a", filepath.Join(c.State, "containerd/containerd.sock"), "-n", "k8s.io", "images", "import", archive)
	return err
}

// Tokens of an installation.
type Tokens struct{ API, Ingest string }

// Install puts the shipped manifests, with the changes that the test cluster
// needs (test/testbed/overlay), on the cluster.
func (c *Cluster) Install(ctx context.Context, tokens Tokens) error {
	secret := func(name, token string) string {
		raw, _ := json.Marshal(map[string]any{
			"apiVersion": "v1", "kind": "Secret", "metadata": map[string]string{"name": name, "namespace": "crowsnest"},
			"stringData": map[string]string{"token": token},
		})
		return string(raw)
	}
	for _, manifest := range []string{
		`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "crowsnest"}}`,
		secret("crowsnest-api-token", tokens.API), secret("crowsnest-ingest-token", tokens.Ingest),
	} {
		if err := c.Apply(ctx, manifest); err != nil {
			return err
		}
	}
	_, err := c.Kubectl(ctx, "", "apply", "-k", filepath.Join(c.Root, "test/testbed/overlay"))
	return err
}

// WaitRolledOut waits until the workloads (kind/name) of a namespace are ready.
func (c *Cluster) WaitRolledOut(ctx context.Context, namespace string, timeout time.Duration, workloads ...string) error {
	for _, workload := range workloads {
		if _, err := c.Kubectl(ctx, "", "-n", namespace, "rollout", "status", "--timeout", timeout.String(), workload); err != nil {
			return err
		}
	}
	return nil
}

// Dump tells what a namespace's pods do and say, for a failure message.
func (c *Cluster) Dump(ctx context.Context, namespace string, w io.Writer) {
	for _, args := range [][]string{
		{"-n", namespace, "get", "pods", "-o", "wide"},
		{"-n", namespace, "get", "events", "--sort-by=.lastTimestamp"},
	} {
		out, err := c.Kubectl(ctx, "", args...)
		fmt.Fprintf(w, "--- kubectl %s\n%s%s\n", strings.Join(args, " "), out, errText(err))
	}
	names, _ := c.Kubectl(ctx, "", "-n", namespace, "get", "pods", "-o", "name")
	for _, pod := range strings.Fields(names) {
		for _, previous := range []string{"--previous=true", "--previous=false"} {
			out, err := c.Kubectl(ctx, "", "-n", namespace, "logs", previous, "--tail=60", "--all-containers", pod)
			if err != nil && previous == "--previous=true" {
				continue // it has not restarted
			}
			fmt.Fprintf(w, "--- logs %s %s\n%s%s\n", previous, pod, out, errText(err))
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error() + "\n"
}

// Command runs a program and gives its standard output; its error holds what it
// said on standard error.
func Command(ctx context.Context, stdin, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Await calls check until it gives nil, at most for timeout; the error is the
// last one that check gave.
func Await(ctx context.Context, timeout, every time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		// An attempt that was cut off by the end says nothing; what it said before does.
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("not within %s: %w", timeout, last)
			}
			return errors.Join(ctx.Err(), last)
		case <-ticker.C:
		}
	}
}
