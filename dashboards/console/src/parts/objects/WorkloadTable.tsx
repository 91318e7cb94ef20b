import { useMemo } from "react";
import type { ClusterId } from "@/api/keys";
import type { Workload } from "@/api/types";
import { type Column, DataTable } from "@/ui/DataTable";
import { age, bytes, cores, count, instant, plural } from "@/ui/format";
import { useNow } from "@/ui/now";
import { rank, StateLabel } from "@/ui/state";
import { filterRows, parseSort, sortText } from "@/ui/table";
import { WorkloadLink } from "./links";
import { workloadState } from "./model";

interface Props {
  readonly cluster: ClusterId;
  readonly filter: string;
  readonly sort: string | undefined;
  readonly onSort: (sort: string) => void;
  readonly workloads: readonly Workload[];
}

const worstFirst = { column: "state", descending: false };

const workloadKey = (w: Workload) => `${w.namespace}/${w.type}/${w.name}`;

export function WorkloadTable({ cluster, workloads, filter, sort, onSort }: Props) {
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
