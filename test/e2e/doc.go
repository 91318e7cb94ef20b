// Package e2e proves the whole product on a real Kubernetes cluster and in a
// browser: make e2e, as root on Debian. All of it is behind the build tag e2e.
package e2e
