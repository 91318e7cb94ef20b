import { memo, useMemo } from "react";
import { objects as m } from "@/i18n/objects";
import { useSparks } from "@/parts/sparks/Spark";
import type { SparkStore } from "@/parts/sparks/store";
import type { ClusterId } from "@/api/keys";
import type { Workload } from "@/api/types";
import { type Column, DataTable } from "@/ui/DataTable";
import { count } from "@/ui/format";
import { useNow } from "@/ui/now";
import { rank, StateLabel } from "@/ui/state";
import { searchIn, parseSort, sortText } from "@/ui/table";
import { ageColumn, coresColumn, memoryColumn, namespaceColumn, restartsColumn } from "./columns";
import { WorkloadCell } from "./links";
import { workloadState } from "./model";

interface Props {
  readonly cluster: ClusterId;
  readonly filter: string;
  readonly sort: string | undefined;
  readonly onSort: (sort: string) => void;
  readonly workloads: readonly Workload[];
  /** All are of one namespace, which is left out. */
  readonly inNamespace?: boolean;
}

const worstFirst = { column: "state", descending: false };

/** What names a workload's spark lines. */
const sparkOf = (w: Workload) => [w.namespace, w.type, w.name];
const by = ["namespace", "workload_type", "workload"] as const;
const cpuSpark = { metric: "k8s_workload_cpu_core_used", by, narrow: "workload" } as const;
const memSpark = { metric: "k8s_workload_mem_no_cache_bytes", by, narrow: "workload" } as const;

const workloadKey = (w: Workload) => `${w.namespace}/${w.type}/${w.name}`;

export const WorkloadTable = memo(function WorkloadTable({ cluster, workloads, filter, sort, onSort, inNamespace = false }: Props) {
  const now = useNow();
  const cpu = useSparks(cpuSpark, cluster);
  const mem = useSparks(memSpark, cluster);
  const columns = useMemo(() => workloadColumns(cluster, now, cpu, mem, inNamespace), [cluster, now, cpu, mem, inNamespace]);
  const search = useMemo(() => searchIn(workloads, (w) => `${w.namespace} ${w.type}/${w.name} ${w.reason ?? ""} ${w.images.join(" ")}`), [workloads]);
  const rows = useMemo(() => search(filter), [search, filter]);
  return (
    <DataTable
      label={m.tabs.workloads.toLowerCase()}
      columns={columns}
      rows={rows}
      rowKey={workloadKey}
      sort={parseSort(sort, worstFirst)}
      onSort={(s) => onSort(sortText(s))}
      dim={(w) => workloadState(w) === "idle"}
      empty={workloads.length === 0 ? m.empty.workloads : m.empty.noMatch(m.counts.workloads(workloads.length), filter)}
    />
  );
});

function workloadColumns(cluster: ClusterId, now: number, cpu: SparkStore, mem: SparkStore, inNamespace: boolean): Column<Workload>[] {
  return [
    {
      id: "state",
      header: m.columns.ready,
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
      header: m.columns.workload,
      width: "minmax(160px, 2fr)",
      phoneWidth: "minmax(0, 1fr)",
      wraps: true,
      sort: (w) => w.name,
      cell: (w) => <WorkloadCell cluster={cluster} namespace={w.namespace} type={w.type} name={w.name} />,
    },
    ...(inNamespace ? [] : [namespaceColumn(cluster)]),
    { id: "type", header: m.columns.type, width: "minmax(84px, 110px)", wide: true, sort: (w) => w.type, cell: (w) => w.type },
    { id: "reason", header: m.columns.why, width: "minmax(100px, 2fr)", wide: true, sort: (w) => w.reason, cell: (w) => <span title={w.reason}>{w.reason}</span> },
    coresColumn({ store: cpu, of: sparkOf }),
    memoryColumn({ store: mem, of: sparkOf }, "memory"),
    restartsColumn(),
    ageColumn(now),
  ];
}
