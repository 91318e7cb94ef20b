import { Button, Skeleton } from "@mantine/core";
import { IconDownload } from "@tabler/icons-react";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import { everyCluster, keys } from "@/api/keys";
import { queryInstant, type Sample } from "@/api/prometheus";
import { charts } from "@/i18n/charts";
import { explore } from "@/i18n/explore";
import { save } from "@/parts/charts/export";
import { useRefresh } from "@/parts/page";
import { useCatalogue } from "@/parts/queries";
import { type Column, DataTable } from "@/ui/DataTable";
import { byUnit } from "@/ui/format";
import { Failure } from "@/ui/Feedback";
import { parseSort, sortText } from "@/ui/table";
import { differing, seriesName, unitOf } from "./model";
import classes from "./promql.module.css";

const m = explore.answer;

interface Numbered extends Sample {
  readonly key: string;
}

/** The answer to any PromQL at this moment. */
export function QueryTable({ query, sort, onSort }: { query: string; sort: string | undefined; onSort: (sort: string) => void }) {
  const { data: catalogue } = useCatalogue();
  const refresh = useRefresh();
  const answer = useQuery({
    queryKey: keys.instant(everyCluster, query),
    queryFn: ({ signal }) => queryInstant(query, signal),
    refetchInterval: refresh,
    placeholderData: keepPreviousData,
    retry: false,
  });
  const rows = useMemo((): Numbered[] => (answer.data ?? []).map((s) => ({ ...s, key: seriesName(s.labels) })), [answer.data]);
  const columns = useMemo((): Column<Numbered>[] => {
    const names = differing(rows.map((r) => r.labels)).filter((n) => n !== "__name__");
    const shown = names.length > 0 ? names : Object.keys(rows[0]?.labels ?? {}).filter((n) => n !== "__name__");
    const unit = unitOf(query, catalogue ?? []);
    return [
      ...shown.slice(0, 8).map(
        (n, i): Column<Numbered> => ({ id: n, header: n, width: "minmax(100px, 1fr)", phoneWidth: "minmax(0, 1fr)", wide: i < shown.length - 1, wraps: true, sort: (r) => r.labels[n], cell: (r) => <LabelCell name={n} row={r} /> }),
      ),
      { id: "value", header: m.value, numeric: true, width: "140px", phoneWidth: "100px", sort: (r) => r.value, cell: (r) => <span title={String(r.value)}>{byUnit(r.value, unit)}</span> },
    ];
  }, [rows, query, catalogue]);
  if (answer.error) return <Failure what={m.what} error={answer.error} onRetry={() => void answer.refetch()} />;
  if (!answer.data) return <Skeleton height={360} radius={8} />;
  return (
    <>
      <div className={classes.row}>
        <span className={classes.quiet}>{m.seriesNow(rows.length)}</span>
        <Button
          size="compact-xs"
          variant="default"
          leftSection={<IconDownload size={13} />}
          onClick={() => save("explore.csv", "text/csv", `series,value\n${rows.map((r) => `"${r.key.replaceAll('"', '""')}",${r.value}`).join("\n")}\n`)}
        >
          {charts.csv}
        </Button>
      </div>
      <DataTable label={m.label} columns={columns} rows={rows} rowKey={(r) => r.key} sort={parseSort(sort, { column: "value", descending: true })} onSort={(s) => onSort(sortText(s))} empty={m.noneNow} />
    </>
  );
}

/** A label's value; an object's name leads to the object. */
function LabelCell({ name, row: { labels: l } }: { name: string; row: Numbered }) {
  const value = l[name] ?? "";
  const { cluster } = l;
  if (cluster !== undefined && name === "pod" && l.namespace !== undefined)
    return (
      <Link to="/clusters/$cluster/namespaces/$ns/pods/$pod" params={{ cluster, ns: l.namespace, pod: value }}>
        {value}
      </Link>
    );
  if (cluster !== undefined && name === "node" && value !== "")
    return (
      <Link to="/clusters/$cluster/nodes/$node" params={{ cluster, node: value }}>
        {value}
      </Link>
    );
  return <span title={value}>{value}</span>;
}
