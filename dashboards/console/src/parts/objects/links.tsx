import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import type { ClusterId } from "@/api/keys";

// Links to objects. The time range goes along by itself: the root route keeps it.

export const ClustersLink = () => <Link to="/clusters">Clusters</Link>;

export const ClusterLink = ({ cluster, children }: { cluster: ClusterId; children?: ReactNode }) => (
  <Link to="/clusters/$cluster" params={{ cluster }}>
    {children ?? cluster}
  </Link>
);

export const NamespaceLink = ({ cluster, namespace }: { cluster: ClusterId; namespace: string }) => (
  <Link to="/clusters/$cluster" params={{ cluster }} search={{ tab: "workloads", filter: namespace }}>
    {namespace}
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
