import { memo, useMemo } from "react";
import { objects as m } from "@/i18n/objects";
import { useSparks } from "@/parts/sparks/Spark";
import type { SparkStore } from "@/parts/sparks/store";
import type { ClusterId } from "@/api/keys";
import type { Pod } from "@/api/types";
import { count } from "@/ui/format";
import { type Column, DataTable } from "@/ui/DataTable";
import { useNow } from "@/ui/now";
import { rank, StateLabel } from "@/ui/state";
import { searchIn, parseSort, sortText } from "@/ui/table";
import { ageColumn, coresColumn, memoryColumn, namespaceColumn, shareColumn } from "./columns";
import { NodeCell, PodCell, PodLink, WorkloadCell } from "./links";
import { podState, podWord, shortPodName } from "./model";
import classes from "./objects.module.css";

const key = (p: Pod) => `${p.namespace}/${p.name}`;

/** What the pods of a table have in common, which is left out of it. */
export type PodsOf = "cluster" | "namespace" | "node" | "service" | "workload";

/** What names a pod's spark lines. */
const sparkOf = (p: Pod) => [p.namespace, p.name];
const cpuSpark = { metric: "k8s_pod_cpu_core_used", by: ["namespace", "pod"], narrow: "pod" } as const;
const memSpark = { metric: "k8s_pod_mem_no_cache_bytes", by: ["namespace", "pod"], narrow: "pod" } as const;

/** Pods of an object: what all of them share is left out. */
export const PodTable = memo(function PodTable({
  cluster,
  pods,
  of,
  filter = "",
  sort,
  onSort,
}: {
  cluster: ClusterId;
  pods: readonly Pod[];
  of: PodsOf;
  filter?: string;
  sort: string | undefined;
  onSort: (sort: string) => void;
}) {
  const now = useNow();
  const cpu = useSparks(cpuSpark, cluster);
  const mem = useSparks(memSpark, cluster);
  const columns = useMemo(() => podColumns(cluster, of, now, cpu, mem), [cluster, of, now, cpu, mem]);
  const search = useMemo(() => searchIn(pods, (p) => `${p.namespace} ${p.name} ${p.node ?? ""} ${podWord(p)} ${p.workload_type}/${p.workload}`), [pods]);
  const rows = useMemo(() => search(filter), [search, filter]);
  return (
    <DataTable
      label={m.tabs.pods.toLowerCase()}
      columns={columns}
      rows={rows}
      rowKey={key}
      sort={parseSort(sort, { column: "state", descending: false })}
      onSort={(s) => onSort(sortText(s))}
      dim={(p) => podState(p) === "idle"}
      empty={pods.length === 0 ? m.empty.pods[of] : m.empty.noMatch(m.counts.pods(pods.length), filter)}
    />
  );
});

function podColumns(cluster: ClusterId, of: PodsOf, now: number, cpu: SparkStore, mem: SparkStore): Column<Pod>[] {
  return [
    {
      id: "state",
      header: m.columns.state,
      width: "minmax(138px, 144px)", // "CrashLoopBackOff"
      sort: (p) => rank(podState(p)),
      cell: (p) => <StateLabel state={podState(p)}>{podWord(p)}</StateLabel>,
      phoneWidth: "92px", // "Container", "Creating"
    },
    {
      id: "name",
      header: m.columns.pod,
      width: "minmax(112px, 3fr)",
      phoneWidth: "minmax(0, 1fr)",
      wraps: true,
      sort: (p) => p.name,
      cell: (p) =>
        of === "workload" ? (
          <PodLink cluster={cluster} namespace={p.namespace} pod={p.name}>
            <span title={p.name} className={classes.long}>
              {p.name}
            </span>
            <span className={classes.short}>{shortPodName(p.name, p.workload)}</span>
          </PodLink>
        ) : (
          <PodCell cluster={cluster} namespace={p.namespace} pod={p.name} />
        ),
    },
    ...(of === "node" || of === "cluster" ? [namespaceColumn<Pod>(cluster, "minmax(98px, 1fr)")] : []),
    ...(of === "workload" || of === "service"
      ? []
      : [
          {
            id: "workload",
            header: m.columns.workload,
            width: "minmax(84px, 1.2fr)",
            wide: true,
            sort: (p: Pod) => p.workload,
            cell: (p: Pod) => (p.workload_type === "pod" || p.workload === "" ? "" : <WorkloadCell cluster={cluster} namespace={p.namespace} type={p.workload_type} name={p.workload} />),
          },
        ]),
    ...(of === "node"
      ? []
      : [
          {
            id: "node",
            header: m.columns.node,
            width: "minmax(76px, 1fr)",
            wide: true,
            sort: (p: Pod) => p.node,
            cell: (p: Pod) => (p.node ? <NodeCell cluster={cluster} node={p.node} /> : <span>{m.notScheduled}</span>),
          },
        ]),
    coresColumn({ store: cpu, of: sparkOf }, { width: "96px", wide: true }),
    shareColumn({ id: "cpu_limit", header: m.columns.cpu, unit: m.units.ofLimit, value: (p) => p.cpu_limit_percent }, { width: "100px", phoneWidth: "40px" }),
    memoryColumn({ store: mem, of: sparkOf }, "mem", { width: "116px", wide: true }),
    shareColumn({ id: "mem_limit", header: m.columns.memory, unit: m.units.ofLimit, value: (p) => p.mem_limit_percent }, { width: "100px", phoneWidth: "52px" }),
    {
      id: "restarts",
      header: m.columns.restarts,
      numeric: true,
      wide: true,
      width: "58px",
      sort: (p) => p.restarts,
      cell: (p) => count(p.restarts),
    },
    ageColumn(now),
  ];
}
