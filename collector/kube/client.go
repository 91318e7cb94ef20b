// Package kube is the collector's view of the Kubernetes API: it connects,
// watches objects and keeps of them what matters, finds the top workload of each
// pod, and says which right is missing where something cannot be read. It must
// not know what is measured or where it goes.
//
// It uses client-go's REST client, reflector and decoder with a scheme of just
// the groups that it reads. The generated clientset would register every API
// group, which costs more memory than all that the collector keeps of a node.
package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Config says which cluster.
type Config struct {
	// Kubeconfig is the path of a kubeconfig; empty means KUBECONFIG, then
	// ~/.kube/config, then the pod's own service account.
	Kubeconfig string
	Context    string // of the kubeconfig; empty means its current one
	UserAgent  string
}

// Client reads one cluster's API. It is for concurrent use.
type Client struct {
	// Context names the kubeconfig's context; "in-cluster" inside a pod.
	Context string
	// Namespace is the one that the credential belongs to.
	Namespace string

	rest   *rest.Config
	http   *http.Client
	core   rest.Interface
	mu     sync.Mutex
	groups map[schema.GroupVersion]rest.Interface // made as they are needed
}

var (
	scheme = func() *runtime.Scheme {
		s := runtime.NewScheme()
		for _, add := range []func(*runtime.Scheme) error{
			corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, authorizationv1.AddToScheme, coordinationv1.AddToScheme,
			autoscalingv2.AddToScheme, discoveryv1.AddToScheme,
			// What only kube-state-metrics' families are made of.
			admissionv1.AddToScheme, certificatesv1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme, storagev1.AddToScheme,
		} {
			if err := add(s); err != nil {
				panic("BUG: " + err.Error())
			}
		}
		metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
		return s
	}()
	codecs = serializer.NewCodecFactory(scheme)
)

// ErrNoCluster says that there is neither a kubeconfig nor a service account.
var ErrNoCluster = errors.New("no kubeconfig found, and not running in a pod")

// Open reads the configuration. It does not connect. With no configuration at
// all the error is ErrNoCluster.
func Open(c Config) (*Client, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.Kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: c.Context})
	name := c.Context
	if raw, err := loader.RawConfig(); err == nil && name == "" {
		name = raw.CurrentContext
	}
	cfg, err := loader.ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		if c.Kubeconfig != "" {
			return nil, fmt.Errorf("open cluster: kubeconfig %s names no cluster: %w", c.Kubeconfig, fault.ErrInvalid)
		}
		if _, inErr := os.Stat(serviceAccount + "/token"); inErr != nil {
			return nil, fmt.Errorf("open cluster: %w", ErrNoCluster)
		}
		cfg, err = rest.InClusterConfig()
	}
	if err != nil {
		return nil, fmt.Errorf("open cluster: %w", err)
	}
	if name == "" {
		name = "in-cluster"
	}
	namespace, _, err := loader.Namespace()
	if err != nil || namespace == "" {
		namespace = "default"
	}
	if raw, err := os.ReadFile(serviceAccount + "/namespace"); err == nil && name == "in-cluster" {
		namespace = strings.TrimSpace(string(raw))
	}
	if c.UserAgent == "" {
		c.UserAgent = "crowsnest-collector"
	}
	return NewClient(cfg, name, namespace, c.UserAgent)
}

// NewClient makes a client of a configuration that was read elsewhere.
func NewClient(cfg *rest.Config, name, namespace, userAgent string) (*Client, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.UserAgent = userAgent
	cfg.QPS, cfg.Burst = 50, 100 // beyond the reflectors there are only owner look-ups
	cfg.ContentType = runtime.ContentTypeProtobuf
	cfg.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	cfg.NegotiatedSerializer = codecs.WithoutConversion()
	cfg.WarningHandler = rest.NoWarnings{}
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("open cluster %s: %w", name, err)
	}
	client := &Client{Context: name, Namespace: namespace, rest: cfg, http: httpClient, groups: map[schema.GroupVersion]rest.Interface{}}
	if client.core, err = client.group(corev1.SchemeGroupVersion); err != nil {
		return nil, fmt.Errorf("open cluster %s: %w", name, err)
	}
	return client, nil
}

func (c *Client) group(gv schema.GroupVersion) (rest.Interface, error) {
	cfg := rest.CopyConfig(c.rest)
	cfg.GroupVersion = &gv
	cfg.APIPath = "/apis"
	if gv.Group == "" {
		cfg.APIPath = "/api"
	}
	return rest.RESTClientForConfigAndClient(cfg, c.http)
}

// Group gives the REST client of an API group of the scheme.
func (c *Client) Group(gv schema.GroupVersion) rest.Interface {
	if gv == corev1.SchemeGroupVersion {
		return c.core
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.groups[gv]
	if r == nil {
		made, err := c.group(gv)
		if err != nil { // the configuration made a client of the core group already
			panic("BUG: client of API group " + gv.String() + ": " + err.Error())
		}
		c.groups[gv], r = made, made
	}
	return r
}

// Host is the API server's address.
func (c *Client) Host() string { return c.rest.Host }

// REST is the configuration, for those who connect themselves.
func (c *Client) REST() *rest.Config { return rest.CopyConfig(c.rest) }

// Raw gets a path of the API server as it is, at most maxBytes of it.
func (c *Client) Raw(ctx context.Context, accept, path string) rest.Result {
	r := c.core.Get().AbsPath(path)
	if accept != "" {
		r = r.SetHeader("Accept", accept)
	}
	return r.Do(ctx)
}

// Version asks for the version of the API server. It is the first thing that
// shows whether the cluster can be reached at all.
func (c *Client) Version(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	raw, err := c.Raw(ctx, "application/json", "/version").Raw()
	if err != nil {
		return "", fmt.Errorf("reach API server %s: %w: %v", c.Host(), fault.ErrUnavailable, err)
	}
	// One field of a few; no need to decode the rest.
	m := gitVersion.FindSubmatch(raw)
	if m == nil {
		return "", fmt.Errorf("reach API server %s: %w: it does not tell its version", c.Host(), fault.ErrMalformed)
	}
	return string(m[1]), nil
}

var gitVersion = regexp.MustCompile(`"gitVersion":\s*"([^"]+)"`)

var notIDs = regexp.MustCompile(`[^a-z0-9]+`)

// ClusterID makes an id of a context's name: lower case, digits and dashes.
func ClusterID(context string) string {
	id := strings.Trim(notIDs.ReplaceAllString(strings.ToLower(context), "-"), "-")
	if id == "" {
		return "cluster"
	}
	return id
}

// KubeletURL is the address of a path of a node's kubelet, through the API server.
func (c *Client) KubeletURL(node, path string) *url.URL {
	return c.core.Get().Resource("nodes").Name(node).SubResource("proxy").Suffix(path).URL()
}

// List gets a page of a collection of an API group that the client has no types
// of, as JSON. The caller closes it and bounds what it reads.
func (c *Client) List(ctx context.Context, path, resume string) (io.ReadCloser, error) {
	r := c.core.Get().AbsPath(path).SetHeader("Accept", "application/json").Param("limit", "500")
	if resume != "" {
		r = r.Param("continue", resume)
	}
	return r.Stream(ctx)
}

// Metrics writes what the API server answers at /metrics.
func (c *Client) Metrics(ctx context.Context, into io.Writer) error {
	body, err := c.core.Get().AbsPath("/metrics").SetHeader("Accept", "text/plain").Stream(ctx)
	if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
		return fmt.Errorf("%w: needs get on the URL /metrics (nonResourceURLs of a ClusterRole)", fault.ErrForbidden)
	}
	if err != nil {
		return fmt.Errorf("%w: read metrics of the API server: %w", fault.ErrUnavailable, err)
	}
	defer body.Close()
	_, err = io.Copy(into, body)
	return err
}

// PodMetrics writes the usage of all pods as metrics.k8s.io has it.
func (c *Client) PodMetrics(ctx context.Context, into io.Writer) error {
	body, err := c.core.Get().AbsPath("/apis/metrics.k8s.io/v1beta1/pods").SetHeader("Accept", "application/json").Stream(ctx)
	switch {
	case apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err):
		return fmt.Errorf("%w: needs list on pods in API group metrics.k8s.io", fault.ErrForbidden)
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%w: the API server does not serve metrics.k8s.io", fault.ErrNotFound)
	case err != nil:
		return fmt.Errorf("%w: read metrics.k8s.io: %w", fault.ErrUnavailable, err)
	}
	defer body.Close()
	_, err = io.Copy(into, body)
	return err
}

// HTTP is the client that carries the credential for the API server.
func (c *Client) HTTP() *http.Client { return c.http }

// InCluster says whether the credential is a pod's service account.
func (c *Client) InCluster() bool { return c.rest.BearerTokenFile == serviceAccount+"/token" }

const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"
