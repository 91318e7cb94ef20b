package kubestate

import (
	admissionv1 "k8s.io/api/admissionregistration/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/crowsnest-dev/crowsnest/collector/kube"
)

// watchedAnyway are the resources that role cluster watches for the catalogue.
var watchedAnyway = []string{
	"cronjobs", "daemonsets", "deployments", "endpointslices", "horizontalpodautoscalers", "jobs", "namespaces", "nodes",
	"persistentvolumeclaims", "pods", "replicasets", "resourcequotas", "services", "statefulsets",
}

// Watches are the resources that nothing else of ours looks at: they are watched
// only where these families are wanted, and need rights of their own.
func Watches() []kube.Watched {
	return []kube.Watched{
		{GroupVersion: corev1.SchemeGroupVersion, Resource: "limitranges", Example: &corev1.LimitRange{}, List: func() runtime.Object { return &corev1.LimitRangeList{} }},
		{GroupVersion: corev1.SchemeGroupVersion, Resource: "persistentvolumes", Example: &corev1.PersistentVolume{}, List: func() runtime.Object { return &corev1.PersistentVolumeList{} }},
		{GroupVersion: corev1.SchemeGroupVersion, Resource: "replicationcontrollers", Example: &corev1.ReplicationController{}, List: func() runtime.Object { return &corev1.ReplicationControllerList{} }},
		{GroupVersion: networkingv1.SchemeGroupVersion, Resource: "ingresses", Example: &networkingv1.Ingress{}, List: func() runtime.Object { return &networkingv1.IngressList{} }},
		{GroupVersion: networkingv1.SchemeGroupVersion, Resource: "networkpolicies", Example: &networkingv1.NetworkPolicy{}, List: func() runtime.Object { return &networkingv1.NetworkPolicyList{} }},
		{GroupVersion: policyv1.SchemeGroupVersion, Resource: "poddisruptionbudgets", Example: &policyv1.PodDisruptionBudget{}, List: func() runtime.Object { return &policyv1.PodDisruptionBudgetList{} }},
		{GroupVersion: storagev1.SchemeGroupVersion, Resource: "storageclasses", Example: &storagev1.StorageClass{}, List: func() runtime.Object { return &storagev1.StorageClassList{} }},
		{GroupVersion: storagev1.SchemeGroupVersion, Resource: "volumeattachments", Example: &storagev1.VolumeAttachment{}, List: func() runtime.Object { return &storagev1.VolumeAttachmentList{} }},
		{GroupVersion: coordinationv1.SchemeGroupVersion, Resource: "leases", Example: &coordinationv1.Lease{}, List: func() runtime.Object { return &coordinationv1.LeaseList{} }},
		{GroupVersion: certificatesv1.SchemeGroupVersion, Resource: "certificatesigningrequests", Example: &certificatesv1.CertificateSigningRequest{}, List: func() runtime.Object { return &certificatesv1.CertificateSigningRequestList{} }},
		{GroupVersion: admissionv1.SchemeGroupVersion, Resource: "mutatingwebhookconfigurations", Example: &admissionv1.MutatingWebhookConfiguration{}, List: func() runtime.Object { return &admissionv1.MutatingWebhookConfigurationList{} }},
		{GroupVersion: admissionv1.SchemeGroupVersion, Resource: "validatingwebhookconfigurations", Example: &admissionv1.ValidatingWebhookConfiguration{}, List: func() runtime.Object { return &admissionv1.ValidatingWebhookConfigurationList{} }},
		{GroupVersion: admissionv1.SchemeGroupVersion, Resource: "mutatingadmissionpolicies", Example: &admissionv1.MutatingAdmissionPolicy{}, List: func() runtime.Object { return &admissionv1.MutatingAdmissionPolicyList{} }},
		{GroupVersion: admissionv1.SchemeGroupVersion, Resource: "mutatingadmissionpolicybindings", Example: &admissionv1.MutatingAdmissionPolicyBinding{}, List: func() runtime.Object { return &admissionv1.MutatingAdmissionPolicyBindingList{} }},
		{GroupVersion: admissionv1.SchemeGroupVersion, Resource: "validatingadmissionpolicies", Example: &admissionv1.ValidatingAdmissionPolicy{}, List: func() runtime.Object { return &admissionv1.ValidatingAdmissionPolicyList{} }},
		{GroupVersion: admissionv1.SchemeGroupVersion, Resource: "validatingadmissionpolicybindings", Example: &admissionv1.ValidatingAdmissionPolicyBinding{}, List: func() runtime.Object { return &admissionv1.ValidatingAdmissionPolicyBindingList{} }},
	}
}
