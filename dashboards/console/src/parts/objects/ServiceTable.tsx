import { memo, useMemo } from "react";
import type { ClusterId } from "@/api/keys";
import type { Service } from "@/api/types";
import { objects as m } from "@/i18n/objects";
import { type Column, DataTable } from "@/ui/DataTable";
import { count } from "@/ui/format";
import { useNow } from "@/ui/now";
import { rank, StateLabel } from "@/ui/state";
import { searchIn, parseSort, sortText } from "@/ui/table";
import { ageColumn, namespaceColumn } from "./columns";
import { ServiceCell } from "./links";
import { serviceState } from "./model";

const key = (s: Service) => `${s.namespace}/${s.name}`;

export const ServiceTable = memo(function ServiceTable({ cluster, services, filter, sort, onSort, inNamespace = false }: { cluster: ClusterId; services: readonly Service[]; filter: string; sort: string | undefined; onSort: (sort: string) => void; inNamespace?: boolean }) {
  const now = useNow();
  const columns = useMemo(() => serviceColumns(cluster, now, inNamespace), [cluster, now, inNamespace]);
  const search = useMemo(() => searchIn(services, (s) => `${s.namespace} ${s.name} ${s.type} ${s.cluster_ip ?? ""} ${s.workloads.join(" ")}`), [services]);
  const rows = useMemo(() => search(filter), [search, filter]);
  return (
    <DataTable
      label={m.tabs.services.toLowerCase()}
      columns={columns}
      rows={rows}
      rowKey={key}
      sort={parseSort(sort, { column: "state", descending: false })}
      onSort={(s) => onSort(sortText(s))}
      dim={(s) => serviceState(s) === "idle"}
      empty={services.length === 0 ? m.empty.services : m.empty.noMatch(m.counts.services(services.length), filter)}
    />
  );
});

function serviceColumns(cluster: ClusterId, now: number, inNamespace: boolean): Column<Service>[] {
  return [
    {
      id: "state",
      header: m.columns.pods,
      unit: m.units.ready,
      width: "112px",
      phoneWidth: "84px",
      sort: (s) => rank(serviceState(s)),
      cell: (s) => (
        <StateLabel state={serviceState(s)}>
          {count(s.pods_ready)}/{count(s.pods)}
        </StateLabel>
      ),
    },
    { id: "name", header: m.columns.service, width: "minmax(160px, 2fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, sort: (s) => s.name, cell: (s) => <ServiceCell cluster={cluster} namespace={s.namespace} service={s.name} /> },
    ...(inNamespace ? [] : [namespaceColumn(cluster)]),
    { id: "type", header: m.columns.type, width: "110px", wide: true, sort: (s) => s.type, cell: (s) => s.type },
    { id: "address", header: m.columns.address, width: "132px", wide: true, sort: (s) => s.cluster_ip, cell: (s) => (s.cluster_ip === "None" ? m.headless : (s.cluster_ip ?? "")) },
    { id: "workloads", header: m.columns.workloads, width: "minmax(120px, 2fr)", wide: true, sort: (s) => s.workloads.join(), cell: (s) => <span title={s.workloads.join(", ")}>{s.workloads.join(", ")}</span> },
    { id: "endpoints", header: m.columns.endpoints, unit: m.units.ready, numeric: true, width: "124px", phoneWidth: "84px", sort: (s) => s.endpoints_ready, cell: (s) => count(s.endpoints_ready) },
    ageColumn(now),
  ];
}
