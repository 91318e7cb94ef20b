import { useMemo } from "react";
import type { ClusterId } from "@/api/keys";
import type { Cluster, ClusterSource, Node, Workload } from "@/api/types";
import { NodeLink, WorkloadLink } from "@/parts/objects/links";
import { nodeReasons, nodeState, percentTone, workloadState } from "@/parts/objects/model";
import { useCatalogue } from "@/parts/queries";
import { PercentCell } from "@/ui/Bars";
import { Copy, Section } from "@/ui/Bits";
import { type Column, DataTable } from "@/ui/DataTable";
import { age, bytes, cores, count, instant, plural } from "@/ui/format";
import { useNow } from "@/ui/now";
import { rank, StateLabel } from "@/ui/state";
import { filterRows, parseSort, sortText } from "@/ui/table";
import classes from "./cluster.module.css";
import { byReason, sourceState } from "./model";

interface Common {
  readonly cluster: ClusterId;
  readonly filter: string;
  readonly sort: string | undefined;
  readonly onSort: (sort: string) => void;
}

const worstFirst = { column: "state", descending: false };

const nodeKey = (n: Node) => n.name;

export function NodeTable({ cluster, nodes, filter, sort, onSort }: Common & { nodes: readonly Node[] }) {
  const now = useNow();
  const columns = useMemo(() => nodeColumns(cluster, now), [cluster, now]);
  const rows = useMemo(
    () => filterRows(nodes, (n) => `${n.name} ${n.roles.join(" ")} ${nodeReasons(n).join(" ")} ${n.internal_ip ?? ""}`, filter),
    [nodes, filter],
  );
  return (
    <DataTable
      label="nodes"
      columns={columns}
      rows={rows}
      rowKey={nodeKey}
      sort={parseSort(sort, worstFirst)}
      onSort={(s) => onSort(sortText(s))}
      empty={nodes.length === 0 ? "This cluster has no nodes of its own." : `None of ${plural(nodes.length, "node")} matches “${filter}”.`}
    />
  );
}

function nodeColumns(cluster: ClusterId, now: number): Column<Node>[] {
  return [
    {
      id: "state",
      header: "State",
      width: "minmax(110px, 200px)",
      phoneWidth: "78px",
      sort: (n) => rank(nodeState(n)),
      cell: (n) => <StateLabel state={nodeState(n)}>{nodeReasons(n)[0] ?? "ready"}</StateLabel>,
    },
    {
      id: "name",
      header: "Node",
      width: "minmax(180px, 2fr)",
      phoneWidth: "minmax(0, 1fr)",
      wraps: true,
      sort: (n) => n.name,
      cell: (n) => <NodeLink cluster={cluster} node={n.name} />,
    },
    { id: "roles", header: "Roles", width: "minmax(80px, 1fr)", wide: true, sort: (n) => n.roles.join(), cell: (n) => n.roles.join(", ") },
    {
      id: "cpu",
      header: "CPU",
      unit: "%",
      numeric: true,
      width: "124px",
      phoneWidth: "64px",
      sort: (n) => n.cpu_percent,
      cell: (n) => <PercentCell value={n.cpu_percent} tone={percentTone(n.cpu_percent)} />,
    },
    {
      id: "memory",
      header: "Memory",
      unit: "%",
      numeric: true,
      width: "124px",
      phoneWidth: "60px",
      sort: (n) => n.mem_percent,
      cell: (n) => <PercentCell value={n.mem_percent} tone={percentTone(n.mem_percent)} />,
    },
    { id: "pods", header: "Pods", numeric: true, wide: true, width: "64px", sort: (n) => n.pods, cell: (n) => count(n.pods) },
    {
      id: "restarts",
      header: "Restarts",
      unit: "1 h",
      numeric: true,
      wide: true,
      width: "92px",
      sort: (n) => n.restarts_1h,
      cell: (n) => count(n.restarts_1h),
    },
    { id: "version", header: "Kubelet", wide: true, width: "96px", sort: (n) => n.kubelet_version, cell: (n) => n.kubelet_version ?? "" },
    {
      id: "age",
      header: "Age",
      numeric: true,
      wide: true,
      width: "76px",
      sort: (n) => {
        const at = instant(n.created_at);
        return at === undefined ? null : now - at;
      },
      cell: (n) => age(n.created_at, now),
    },
  ];
}

const workloadKey = (w: Workload) => `${w.namespace}/${w.type}/${w.name}`;

export function WorkloadTable({ cluster, workloads, filter, sort, onSort }: Common & { workloads: readonly Workload[] }) {
  const now = useNow();
  const columns = useMemo(() => workloadColumns(cluster, now), [cluster, now]);
  const rows = useMemo(
    () => filterRows(workloads, (w) => `${w.namespace} ${w.type}/${w.name} ${w.reason ?? ""} ${w.images.join(" ")}`, filter),
    [workloads, filter],
  );
  return (
    <DataTable
      label="workloads"
      columns={columns}
      rows={rows}
      rowKey={workloadKey}
      sort={parseSort(sort, worstFirst)}
      onSort={(s) => onSort(sortText(s))}
      dim={(w) => workloadState(w) === "idle"}
      empty={workloads.length === 0 ? "This cluster has no workloads." : `None of ${plural(workloads.length, "workload")} matches “${filter}”.`}
    />
  );
}

function workloadColumns(cluster: ClusterId, now: number): Column<Workload>[] {
  return [
    {
      id: "state",
      header: "Ready",
      width: "96px",
      phoneWidth: "72px",
      sort: (w) => rank(workloadState(w)),
      cell: (w) => (
        <StateLabel state={workloadState(w)}>
          {count(w.ready)}/{count(w.desired)}
        </StateLabel>
      ),
    },
    {
      id: "name",
      header: "Workload",
      width: "minmax(160px, 2fr)",
      phoneWidth: "minmax(0, 1fr)",
      wraps: true,
      sort: (w) => w.name,
      cell: (w) => <WorkloadLink cluster={cluster} namespace={w.namespace} type={w.type} name={w.name} />,
    },
    { id: "namespace", header: "Namespace", width: "minmax(90px, 1fr)", wide: true, sort: (w) => w.namespace, cell: (w) => w.namespace },
    { id: "type", header: "Type", width: "minmax(84px, 110px)", wide: true, sort: (w) => w.type, cell: (w) => w.type },
    { id: "reason", header: "Why", width: "minmax(100px, 2fr)", wide: true, sort: (w) => w.reason, cell: (w) => <span title={w.reason}>{w.reason}</span> },
    { id: "cpu", header: "CPU", unit: "cores", numeric: true, width: "92px", phoneWidth: "64px", sort: (w) => w.cpu_cores, cell: (w) => cores(w.cpu_cores) },
    { id: "memory", header: "Memory", numeric: true, width: "92px", phoneWidth: "76px", sort: (w) => w.mem_bytes, cell: (w) => bytes(w.mem_bytes) },
    {
      id: "restarts",
      header: "Restarts",
      unit: "1 h",
      numeric: true,
      wide: true,
      width: "92px",
      sort: (w) => w.restarts_1h,
      cell: (w) => count(w.restarts_1h),
    },
    {
      id: "age",
      header: "Age",
      numeric: true,
      wide: true,
      width: "76px",
      sort: (w) => {
        const at = instant(w.created_at);
        return at === undefined ? null : now - at;
      },
      cell: (w) => age(w.created_at, now),
    },
  ];
}

/** Which metrics this cluster does not have, and why. */
export function Unavailable({ cluster }: { cluster: Cluster }) {
  const catalogue = useCatalogue();
  const reasons = byReason(cluster.unavailable, catalogue.data ?? []);
  return (
    <Section title="Not available here">
      <div className={classes.lacking}>
        {reasons.length === 0 ? (
          <p>Every metric of the catalogue is filled on this cluster.</p>
        ) : (
          reasons.map((r) => (
            <div key={r.reason} className={classes.reason}>
              <p>{r.reason}</p>
              <ul>
                {r.metrics.map((m) => (
                  <li key={m.name} title={m.name}>
                    {m.title} <Copy value={m.name} what="the metric's name" />
                  </li>
                ))}
              </ul>
            </div>
          ))
        )}
      </div>
    </Section>
  );
}

const sourceKey = (s: ClusterSource) => `${s.sender} ${s.name}`;

/** Where readings come from, and whether they come. */
export function Sources({ sources, sort, onSort }: { sources: readonly ClusterSource[]; sort: string | undefined; onSort: (s: string) => void }) {
  const now = useNow();
  const columns = useMemo((): Column<ClusterSource>[] => {
    return [
      {
        id: "state",
        header: "State",
        width: "112px",
        phoneWidth: "84px",
        sort: (s) => rank(sourceState(s)),
        cell: (s) => (
          <StateLabel state={sourceState(s)}>{{ ok: "up", warning: "partly blind", critical: "down" }[sourceState(s)]}</StateLabel>
        ),
      },
      { id: "name", header: "Source", width: "minmax(160px, 1.5fr)", phoneWidth: "minmax(0, 1fr)", sort: (s) => s.name, cell: (s) => s.name },
      { id: "sender", header: "Collector", width: "minmax(110px, 1fr)", wide: true, sort: (s) => s.sender, cell: (s) => s.sender },
      {
        id: "measured",
        header: "Measured",
        numeric: true,
        width: "110px",
        phoneWidth: "84px",
        sort: (s) => s.expected - s.measured,
        cell: (s) => (s.expected > 0 ? `${count(s.measured)} of ${count(s.expected)}` : count(s.measured)),
      },
      {
        id: "last",
        header: "Last success",
        numeric: true,
        wide: true,
        width: "110px",
        sort: (s) => instant(s.last_success_at),
        cell: (s) => (instant(s.last_success_at) === undefined ? "never" : `${age(s.last_success_at, now)} ago`),
      },
      { id: "error", header: "What is wrong", wide: true, width: "minmax(160px, 3fr)", sort: (s) => s.error, cell: (s) => <span title={s.error}>{s.error}</span> },
    ];
  }, [now]);
  return (
    <Section title="Data sources" note={sources.length > 0 ? count(sources.length) : undefined}>
      <DataTable
        label="data sources"
        columns={columns}
        rows={sources}
        rowKey={sourceKey}
        sort={parseSort(sort, worstFirst)}
        onSort={(s) => onSort(sortText(s))}
        empty="No collector of this cluster has reported its sources yet."
      />
    </Section>
  );
}
