import { useMemo } from "react";
import type { ClusterId } from "@/api/keys";
import type { Namespace } from "@/api/types";
import { objects as m } from "@/i18n/objects";
import { Spark, useSparks } from "@/parts/sparks/Spark";
import type { SparkStore } from "@/parts/sparks/store";
import sparks from "@/parts/sparks/sparks.module.css";
import { type Column, DataTable } from "@/ui/DataTable";
import { age, bytes, cores, count, instant } from "@/ui/format";
import { useNow } from "@/ui/now";
import { rank, StateLabel } from "@/ui/state";
import { filterRows, parseSort, sortText } from "@/ui/table";
import { NamespaceLink } from "./links";
import { namespaceState } from "./model";

const cpuSpark = { metric: "k8s_namespace_cpu_core_used", by: ["namespace"], narrow: "namespace" } as const;
const memSpark = { metric: "k8s_namespace_mem_no_cache_bytes", by: ["namespace"], narrow: "namespace" } as const;

const key = (n: Namespace) => n.name;

export function NamespaceTable({ cluster, namespaces, filter, sort, onSort }: { cluster: ClusterId; namespaces: readonly Namespace[]; filter: string; sort: string | undefined; onSort: (sort: string) => void }) {
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
}

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
    { id: "name", header: m.columns.namespace, width: "minmax(160px, 2fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, sort: (n) => n.name, cell: (n) => <NamespaceLink cluster={cluster} namespace={n.name} /> },
    { id: "pods", header: m.columns.pods, numeric: true, width: "72px", phoneWidth: "48px", sort: podsOf, cell: (n) => count(podsOf(n)) },
    { id: "notready", header: m.notReady, numeric: true, wide: true, width: "96px", sort: (n) => n.not_ready, cell: (n) => count(n.not_ready) },
    { id: "services", header: m.columns.services, numeric: true, wide: true, width: "84px", sort: (n) => n.services, cell: (n) => count(n.services) },
    {
      id: "cpu",
      header: m.columns.cpu,
      unit: m.units.cores,
      numeric: true,
      width: "144px",
      phoneWidth: "64px",
      sort: (n) => n.cpu_cores,
      cell: (n) => (
        <span className={sparks.cell}>
          <Spark store={cpu} of={[n.name]} /> {cores(n.cpu_cores)}
        </span>
      ),
    },
    {
      id: "memory",
      header: m.columns.memory,
      numeric: true,
      width: "152px",
      phoneWidth: "76px",
      sort: (n) => n.mem_bytes,
      cell: (n) => (
        <span className={sparks.cell}>
          <Spark store={mem} of={[n.name]} /> {bytes(n.mem_bytes)}
        </span>
      ),
    },
    { id: "restarts", header: m.columns.restarts, unit: m.units.hour, numeric: true, wide: true, width: "96px", sort: (n) => n.restarts_1h, cell: (n) => count(n.restarts_1h) },
    {
      id: "age",
      header: m.columns.age,
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
