import { useMemo } from "react";
import { objects as m } from "@/i18n/objects";
import { Spark, useSparks } from "@/parts/sparks/Spark";
import type { SparkStore } from "@/parts/sparks/store";
import sparks from "@/parts/sparks/sparks.module.css";
import type { ClusterId } from "@/api/keys";
import type { Pod } from "@/api/types";
import { PercentCell } from "@/ui/Bars";
import { age, bytes, cores, count, instant } from "@/ui/format";
import { type Column, DataTable } from "@/ui/DataTable";
import { useNow } from "@/ui/now";
import { rank, StateLabel } from "@/ui/state";
import { filterRows, parseSort, sortText } from "@/ui/table";
import { NamespaceLink, NodeLink, PodLink, WorkloadLink } from "./links";
import { percentTone, podState, podWord, shortPodName } from "./model";
import classes from "./objects.module.css";

const key = (p: Pod) => `${p.namespace}/${p.name}`;

/** What the pods of a table have in common, which is left out of it. */
export type PodsOf = "cluster" | "namespace" | "node" | "service" | "workload";

const cpuSpark = { metric: "k8s_pod_cpu_core_used", by: ["namespace", "pod"], narrow: "pod" } as const;
const memSpark = { metric: "k8s_pod_mem_no_cache_bytes", by: ["namespace", "pod"], narrow: "pod" } as const;

/** Pods of an object: what all of them share is left out. */
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
  of: PodsOf;
  filter?: string;
  sort: string | undefined;
  onSort: (sort: string) => void;
}) {
  const now = useNow();
  const cpu = useSparks(cpuSpark, cluster);
  const mem = useSparks(memSpark, cluster);
  const columns = useMemo(() => podColumns(cluster, of, now, cpu, mem), [cluster, of, now, cpu, mem]);
  const rows = useMemo(
    () => filterRows(pods, (p) => `${p.namespace} ${p.name} ${p.node ?? ""} ${podWord(p)} ${p.workload_type}/${p.workload}`, filter),
    [pods, filter],
  );
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
}

function podColumns(cluster: ClusterId, of: PodsOf, now: number, cpu: SparkStore, mem: SparkStore): Column<Pod>[] {
  return [
    {
      id: "state",
      header: m.columns.state,
      width: "minmax(110px, 150px)",
      sort: (p) => rank(podState(p)),
      cell: (p) => <StateLabel state={podState(p)}>{podWord(p)}</StateLabel>,
      phoneWidth: "88px",
    },
    {
      id: "name",
      header: m.columns.pod,
      width: "minmax(140px, 3fr)",
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
    ...(of === "node" || of === "cluster"
      ? [
          {
            id: "namespace",
            header: m.columns.namespace,
            width: "minmax(72px, 1fr)",
            wide: true,
            sort: (p: Pod) => p.namespace,
            cell: (p: Pod) => <NamespaceLink cluster={cluster} namespace={p.namespace} />,
          },
        ]
      : []),
    ...(of === "workload" || of === "service"
      ? []
      : [
          {
            id: "workload",
            header: m.columns.workload,
            width: "minmax(80px, 1.2fr)",
            wide: true,
            sort: (p: Pod) => p.workload,
            cell: (p: Pod) => (p.workload_type === "pod" || p.workload === "" ? "" : <WorkloadLink cluster={cluster} namespace={p.namespace} type={p.workload_type} name={p.workload} />),
          },
        ]),
    ...(of === "node"
      ? []
      : [
          {
            id: "node",
            header: m.columns.node,
            width: "minmax(72px, 1fr)",
            wide: true,
            sort: (p: Pod) => p.node,
            cell: (p: Pod) => (p.node ? <NodeLink cluster={cluster} node={p.node} /> : <span>{m.notScheduled}</span>),
          },
        ]),
    {
      id: "cpu",
      header: m.columns.cpu,
      unit: m.units.cores,
      numeric: true,
      wide: true,
      width: "118px",
      sort: (p) => p.cpu_cores,
      cell: (p) => (
        <span className={sparks.cell}>
          <Spark store={cpu} of={[p.namespace, p.name]} /> {cores(p.cpu_cores)}
        </span>
      ),
    },
    {
      id: "cpu_limit",
      header: m.columns.cpu,
      unit: m.units.ofLimit,
      numeric: true,
      width: "108px",
      phoneWidth: "46px",
      sort: (p) => p.cpu_limit_percent,
      cell: (p) => <PercentCell value={p.cpu_limit_percent} tone={percentTone(p.cpu_limit_percent)} />,
    },
    {
      id: "mem",
      header: m.columns.memory,
      numeric: true,
      wide: true,
      width: "132px",
      sort: (p) => p.mem_bytes,
      cell: (p) => (
        <span className={sparks.cell}>
          <Spark store={mem} of={[p.namespace, p.name]} /> {bytes(p.mem_bytes)}
        </span>
      ),
    },
    {
      id: "mem_limit",
      header: m.columns.memory,
      unit: m.units.ofLimit,
      numeric: true,
      width: "108px",
      phoneWidth: "46px",
      sort: (p) => p.mem_limit_percent,
      cell: (p) => <PercentCell value={p.mem_limit_percent} tone={percentTone(p.mem_limit_percent)} />,
    },
    {
      id: "restarts",
      header: m.columns.restarts,
      numeric: true,
      wide: true,
      width: "66px",
      sort: (p) => p.restarts,
      cell: (p) => count(p.restarts),
    },
    {
      id: "age",
      header: m.columns.age,
      numeric: true,
      wide: true,
      width: "58px",
      sort: (p) => {
        const at = instant(p.created_at);
        return at === undefined ? null : now - at;
      },
      cell: (p) => age(p.created_at, now),
    },
  ];
}
