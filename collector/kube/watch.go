package kube

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// Watched is a kind of API object that is listed and watched.
type Watched struct {
	GroupVersion schema.GroupVersion
	Resource     string // as rights name it
	Example      runtime.Object
	List         func() runtime.Object // an empty list
	Field        string                // selector; may be empty
}

// silent takes client-go's own logs: what is wrong is told by note, once.
var silent = klog.Logger(logr.Discard())

// Watch lists and watches a kind until ctx ends, resuming what broke off, and
// hands objects to the store. note is told of each change of fortune: in words
// what is wrong and what would help, or nothing once all is well again.
func (c *Client) Watch(ctx context.Context, w Watched, store cache.ReflectorStore, note func(trouble string)) {
	group := c.Group(w.GroupVersion)
	said := ""
	tell := func(verb string, err error) {
		if text, ok := c.trouble(verb, w, err); ok && text != said {
			said = text
			note(text)
		}
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = w.Field
			out := w.List()
			err := group.Get().Resource(w.Resource).VersionedParams(&o, metav1.ParameterCodec).Do(ctx).Into(out)
			tell("list", err)
			return out, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector, o.Watch = w.Field, true
			out, err := group.Get().Resource(w.Resource).VersionedParams(&o, metav1.ParameterCodec).Watch(ctx)
			tell("watch", err)
			if err != nil && o.SendInitialEvents != nil && !apierrors.IsInvalid(err) && !apierrors.IsResourceExpired(err) {
				// client-go v0.37 waits out its back-off here without heeding ctx when
				// it knows the error for one that passes (reflector.go, watchList), up
				// to a minute. An error that it does not know makes it list instead,
				// whose back-off does heed ctx.
				err = errors.New(err.Error())
			}
			return out, err
		},
	}
	cache.NewReflectorWithOptions(lw, w.Example, store, cache.ReflectorOptions{Logger: &silent, Name: w.Resource}).
		RunWithContext(klog.NewContext(ctx, silent))
}

const notServed = "the API server does not serve "

var userOf = regexp.MustCompile(`User "([^"]+)"`)

// trouble says what is wrong in words that stay the same for the same cause.
// Errors that are part of the protocol are none.
func (c *Client) trouble(verb string, w Watched, err error) (text string, ok bool) {
	group := ""
	if w.GroupVersion.Group != "" {
		group = " in API group " + w.GroupVersion.Group
	}
	var at *url.Error
	switch {
	case err == nil:
		return "", true
	case apierrors.IsForbidden(err):
		who := ""
		if m := userOf.FindStringSubmatch(err.Error()); m != nil {
			who = fmt.Sprintf(", which %s has not", m[1])
		}
		// Whichever was refused first, both are needed.
		return fmt.Sprintf("needs list and watch on %s%s%s", w.Resource, group, who), true
	case apierrors.IsNotFound(err):
		return notServed + w.Resource + group, true
	case apierrors.IsUnauthorized(err):
		return fmt.Sprintf("the API server %s refuses the credential", c.Host()), true
	case apierrors.IsResourceExpired(err), apierrors.IsTooManyRequests(err), errors.Is(err, context.Canceled):
		return "", false
	case errors.As(err, &at): // without the URL, whose query differs each time
		return fmt.Sprintf("reach API server %s: %v", c.Host(), at.Err), true
	default:
		text := fmt.Sprintf("%s %s%s: %v", verb, w.Resource, group, err)
		return text[:min(len(text), 300)], true
	}
}
