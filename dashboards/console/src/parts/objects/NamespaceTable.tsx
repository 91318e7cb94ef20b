import { memo, useMemo } from "react";
import type { ClusterId } from "@/api/keys";
import type { Namespace } from "@/api/types";
import { objects as m } from "@/i18n/objects";
import { useSparks } from "@/parts/sparks/Spark";
import type { SparkStore } from "@/parts/sparks/store";
import { type Column, DataTable } from "@/ui/DataTable";
import { count } from "@/ui/format";
import { useNow } from "@/ui/now";
import { rank, StateLabel } from "@/ui/state";
import { filterRows, parseSort, sortText } from "@/ui/table";
import { ageColumn, coresColumn, memoryColumn, restartsColumn } from "./columns";
import { NamespaceCell } from "./links";
import { namespaceState } from "./model";

/** What names a namespace's spark lines. */
const sparkOf = (n: Namespace) => [n.name];
const cpuSpark = { metric: "k8s_namespace_cpu_core_used", by: ["namespace"], narrow: "namespace" } as const;
const memSpark = { metric: "k8s_namespace_mem_no_cache_bytes", by: ["namespace"], narrow: "namespace" } as const;

const key = (n: Namespace) => n.name;

export const NamespaceTable = memo(function NamespaceTable({ cluster, namespaces, filter, sort, onSort }: { cluster: ClusterId; namespaces: readonly Namespace[]; filter: string; sort: string | undefined; onSort: (sort: string) => void }) {
  const now = useNow();
  const cpu = useSparks(cpuSpark, cluster);
  const mem = useSparks(memSpark, cluster);
  const columns = useMemo(() => namespaceColumns(cluster, now, cpu, mem), [cluster, now, cpu, mem]);
  const rows = useMemo(() => filterRows(namespaces, (n) => n.name, filter), [namespaces, filter]);
  return (
    <DataTable
      label={m.tabs.namespaces.toLowerCase()}
      columns={columns}
      rows={rows}
      rowKey={key}
      sort={parseSort(sort, { column: "state", descending: false })}
      onSort={(s) => onSort(sortText(s))}
      dim={(n) => n.terminating === true}
      empty={namespaces.length === 0 ? m.empty.namespaces : m.empty.noMatch(m.counts.namespaces(namespaces.length), filter)}
    />
  );
});

const podsOf = (n: Namespace): number => (n.pods.pending ?? 0) + (n.pods.running ?? 0) + (n.pods.unknown ?? 0);

function namespaceColumns(cluster: ClusterId, now: number, cpu: SparkStore, mem: SparkStore): Column<Namespace>[] {
  return [
    {
      id: "state",
      header: m.columns.unhealthy,
      width: "110px",
      phoneWidth: "84px",
      sort: (n) => rank(namespaceState(n)) * 1e6 - n.workloads.abnormal,
      cell: (n) => (
        <StateLabel state={namespaceState(n)}>
          {count(n.workloads.abnormal)}/{count(n.workloads.total)}
        </StateLabel>
      ),
    },
    { id: "name", header: m.columns.namespace, width: "minmax(160px, 2fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, sort: (n) => n.name, cell: (n) => <NamespaceCell cluster={cluster} namespace={n.name} /> },
    { id: "pods", header: m.columns.pods, numeric: true, wide: true, width: "72px", sort: podsOf, cell: (n) => count(podsOf(n)) },
    { id: "notready", header: m.notReady, numeric: true, wide: true, width: "96px", sort: (n) => n.not_ready, cell: (n) => count(n.not_ready) },
    { id: "services", header: m.columns.services, numeric: true, wide: true, width: "84px", sort: (n) => n.services, cell: (n) => count(n.services) },
    coresColumn({ store: cpu, of: sparkOf }),
    memoryColumn({ store: mem, of: sparkOf }, "memory"),
    restartsColumn(),
    ageColumn(now),
  ];
}
