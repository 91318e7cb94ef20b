import { useMemo } from "react";
import type { ClusterId } from "@/api/keys";
import type { Pod } from "@/api/types";
import { PercentCell } from "@/ui/Bars";
import { age, bytes, cores, count, instant } from "@/ui/format";
import { type Column, DataTable } from "@/ui/DataTable";
import { useNow } from "@/ui/now";
import { rank, StateLabel } from "@/ui/state";
import { filterRows, parseSort, sortText } from "@/ui/table";
import { NodeLink, PodLink } from "./links";
import { percentTone, podState, podWord, shortPodName } from "./model";
import classes from "./objects.module.css";

const key = (p: Pod) => `${p.namespace}/${p.name}`;

/** Pods of a node or of a workload: what all of them share is left out. */
export function PodTable({
  cluster,
  pods,
  of,
  filter = "",
  sort,
  onSort,
}: {
  cluster: ClusterId;
  pods: readonly Pod[];
  of: "node" | "workload";
  filter?: string;
  sort: string | undefined;
  onSort: (sort: string) => void;
}) {
  const now = useNow();
  const columns = useMemo(() => podColumns(cluster, of, now), [cluster, of, now]);
  const rows = useMemo(
    () => filterRows(pods, (p) => `${p.namespace} ${p.name} ${p.node ?? ""} ${podWord(p)} ${p.workload_type}/${p.workload}`, filter),
    [pods, filter],
  );
  return (
    <DataTable
      label="pods"
      columns={columns}
      rows={rows}
      rowKey={key}
      sort={parseSort(sort, { column: "state", descending: false })}
      onSort={(s) => onSort(sortText(s))}
      dim={(p) => podState(p) === "idle"}
      empty={pods.length === 0 ? (of === "node" ? "No pod is on this node." : "This workload has no pods now.") : `None of ${pods.length} pods matches “${filter}”.`}
    />
  );
}

function podColumns(cluster: ClusterId, of: "node" | "workload", now: number): Column<Pod>[] {
  return [
    {
      id: "state",
      header: "State",
      width: "minmax(120px, 170px)",
      sort: (p) => rank(podState(p)),
      cell: (p) => <StateLabel state={podState(p)}>{podWord(p)}</StateLabel>,
      phoneWidth: "88px",
    },
    {
      id: "name",
      header: "Pod",
      width: "minmax(200px, 3fr)",
      phoneWidth: "minmax(0, 1fr)",
      sort: (p) => p.name,
      cell: (p) => (
        <PodLink cluster={cluster} namespace={p.namespace} pod={p.name}>
          <span title={p.name} className={classes.long}>
            {p.name}
          </span>
          <span className={classes.short}>{of === "workload" ? shortPodName(p.name, p.workload) : p.name}</span>
        </PodLink>
      ),
    },
    of === "node"
      ? {
          id: "namespace",
          header: "Namespace",
          width: "minmax(90px, 1fr)",
          wide: true,
          sort: (p) => p.namespace,
          cell: (p) => p.namespace,
        }
      : {
          id: "node",
          header: "Node",
          width: "minmax(90px, 1fr)",
          wide: true,
          sort: (p) => p.node,
          cell: (p) => (p.node ? <NodeLink cluster={cluster} node={p.node} /> : <span>not scheduled</span>),
        },
    {
      id: "cpu",
      header: "CPU",
      unit: "cores",
      numeric: true,
      wide: true,
      width: "76px",
      sort: (p) => p.cpu_cores,
      cell: (p) => cores(p.cpu_cores),
    },
    {
      id: "cpu_limit",
      header: "CPU",
      unit: "of limit",
      numeric: true,
      width: "124px",
      phoneWidth: "46px",
      sort: (p) => p.cpu_limit_percent,
      cell: (p) => <PercentCell value={p.cpu_limit_percent} tone={percentTone(p.cpu_limit_percent)} />,
    },
    {
      id: "mem",
      header: "Memory",
      numeric: true,
      wide: true,
      width: "84px",
      sort: (p) => p.mem_bytes,
      cell: (p) => bytes(p.mem_bytes),
    },
    {
      id: "mem_limit",
      header: "Memory",
      unit: "of limit",
      numeric: true,
      width: "124px",
      phoneWidth: "46px",
      sort: (p) => p.mem_limit_percent,
      cell: (p) => <PercentCell value={p.mem_limit_percent} tone={percentTone(p.mem_limit_percent)} />,
    },
    {
      id: "restarts",
      header: "Restarts",
      numeric: true,
      wide: true,
      width: "72px",
      sort: (p) => p.restarts,
      cell: (p) => count(p.restarts),
    },
    {
      id: "age",
      header: "Age",
      numeric: true,
      wide: true,
      width: "76px",
      sort: (p) => {
        const at = instant(p.created_at);
        return at === undefined ? null : now - at;
      },
      cell: (p) => age(p.created_at, now),
    },
  ];
}
