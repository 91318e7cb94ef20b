import type { ReactNode } from "react";
import { plural } from "./language";
import { messages } from "./messages";

/** The table of clusters, and how one is added. */
export const clusters = messages("clusters", {
  label: "clusters",
  noMatch: "No cluster matches.",
  columns: { state: "State", cluster: "Cluster", sentence: "How it is", kind: "Kind", version: "Version", nodes: "Nodes", unhealthy: "Unhealthy", cpu: "CPU", memory: "Memory", seen: "Last data" },
  ready: "ready",
  add: {
    title: "Add a cluster",
    text: "Name it, and run the command where kubectl works. It reads the cluster of your kubeconfig, changes nothing in it, and sends here.",
    id: "Cluster id",
    idRule: "a-z, 0-9 and dashes, at most 63",
    idText: "It names the cluster in every URL and label, and never changes.",
    token: (cluster: string) => `collector of ${cluster}`,
    make: "Make the command",
    inside: (simulate: ReactNode) => (
      <>
        To run the collector inside the cluster, see deploy/manifests. To look around first, {simulate} shows a simulated fleet.
      </>
    ),
    there: (cluster: ReactNode, nodes: number, workloads: number, pods: number) => (
      <>
        {cluster} is there: {plural(nodes, "node")}, {plural(workloads, "workload")}, {plural(pods, "pod")}.
      </>
    ),
    connected: (cluster: string) => `${cluster} has connected; waiting for its first objects.`,
    waiting: (cluster: string) => `Waiting for the first data of ${cluster}.`,
    once: "The token is shown this once.",
  },
});
