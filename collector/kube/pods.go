package kube

import (
	"context"
	"io"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

var parameters = runtime.NewParameterCodec(scheme)

// GetPod reads one pod as it is now.
func (c *Client) GetPod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	out := &corev1.Pod{}
	err := c.Group(corev1.SchemeGroupVersion).Get().Namespace(namespace).Resource("pods").Name(name).Do(ctx).Into(out)
	return out, err
}

// PodLogs opens the log of a pod's container. The caller closes it.
func (c *Client) PodLogs(ctx context.Context, namespace, name string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	return c.Group(corev1.SchemeGroupVersion).Get().Namespace(namespace).Resource("pods").Name(name).SubResource("log").
		VersionedParams(o, parameters).Stream(ctx)
}
