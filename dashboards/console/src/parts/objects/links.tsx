import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { objects as m } from "@/i18n/objects";
import type { ClusterId } from "@/api/keys";
import { RowLink } from "./RowLink";

// Links to objects. The time range goes along by itself: the root route keeps it.

export const ClustersLink = () => <Link to="/clusters">{m.clusters}</Link>;

export const ClusterLink = ({ cluster, children }: { cluster: ClusterId; children?: ReactNode }) => (
  <Link to="/clusters/$cluster" params={{ cluster }}>
    {children ?? cluster}
  </Link>
);

export const NamespaceLink = ({ cluster, namespace, children }: { cluster: ClusterId; namespace: string; children?: ReactNode }) => (
  <Link to="/clusters/$cluster/namespaces/$ns" params={{ cluster, ns: namespace }}>
    {children ?? namespace}
  </Link>
);

export const ServiceLink = ({ cluster, namespace, service, children }: { cluster: ClusterId; namespace: string; service: string; children?: ReactNode }) => (
  <Link to="/clusters/$cluster/namespaces/$ns/services/$service" params={{ cluster, ns: namespace, service }}>
    {children ?? service}
  </Link>
);

export const ContainerLink = ({ cluster, namespace, pod, container, children }: { cluster: ClusterId; namespace: string; pod: string; container: string; children?: ReactNode }) => (
  <Link to="/clusters/$cluster/namespaces/$ns/pods/$pod/containers/$container" params={{ cluster, ns: namespace, pod, container }}>
    {children ?? container}
  </Link>
);

export const NodeLink = ({ cluster, node, children }: { cluster: ClusterId; node: string; children?: ReactNode }) => (
  <Link to="/clusters/$cluster/nodes/$node" params={{ cluster, node }}>
    {children ?? node}
  </Link>
);

export const WorkloadLink = ({
  cluster,
  namespace,
  type,
  name,
  children,
}: {
  cluster: ClusterId;
  namespace: string;
  type: string;
  name: string;
  children?: ReactNode;
}) => (
  <Link to="/clusters/$cluster/namespaces/$ns/workloads/$type/$name" params={{ cluster, ns: namespace, type, name }}>
    {children ?? name}
  </Link>
);

export const PodLink = ({
  cluster,
  namespace,
  pod,
  children,
}: {
  cluster: ClusterId;
  namespace: string;
  pod: string;
  children?: ReactNode;
}) => (
  <Link to="/clusters/$cluster/namespaces/$ns/pods/$pod" params={{ cluster, ns: namespace, pod }}>
    {children ?? pod}
  </Link>
);

// The same for the cells of tables: generated names differ at their ends, so a column that is too narrow cuts them in the middle.

const { encodeURIComponent: enc } = globalThis;
const namespacePath = (cluster: ClusterId, namespace: string) => `/clusters/${enc(cluster)}/namespaces/${enc(namespace)}`;

export const NodeCell = ({ cluster, node }: { cluster: ClusterId; node: string }) => (
  <RowLink path={`/clusters/${enc(cluster)}/nodes/${enc(node)}`} to={{ to: "/clusters/$cluster/nodes/$node", params: { cluster, node } }} name={node} />
);

export const PodCell = ({ cluster, namespace, pod }: { cluster: ClusterId; namespace: string; pod: string }) => (
  <RowLink path={`${namespacePath(cluster, namespace)}/pods/${enc(pod)}`} to={{ to: "/clusters/$cluster/namespaces/$ns/pods/$pod", params: { cluster, ns: namespace, pod } }} name={pod} />
);

export const NamespaceCell = ({ cluster, namespace }: { cluster: ClusterId; namespace: string }) => (
  <RowLink path={namespacePath(cluster, namespace)} to={{ to: "/clusters/$cluster/namespaces/$ns", params: { cluster, ns: namespace } }} name={namespace} />
);

export const WorkloadCell = ({ cluster, namespace, type, name }: { cluster: ClusterId; namespace: string; type: string; name: string }) => (
  <RowLink
    path={`${namespacePath(cluster, namespace)}/workloads/${enc(type)}/${enc(name)}`}
    to={{ to: "/clusters/$cluster/namespaces/$ns/workloads/$type/$name", params: { cluster, ns: namespace, type, name } }}
    name={name}
  />
);

export const ServiceCell = ({ cluster, namespace, service }: { cluster: ClusterId; namespace: string; service: string }) => (
  <RowLink path={`${namespacePath(cluster, namespace)}/services/${enc(service)}`} to={{ to: "/clusters/$cluster/namespaces/$ns/services/$service", params: { cluster, ns: namespace, service } }} name={service} />
);
