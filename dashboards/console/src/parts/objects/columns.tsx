import type { ClusterId } from "@/api/keys";
import { objects as m } from "@/i18n/objects";
import { Spark } from "@/parts/sparks/Spark";
import sparks from "@/parts/sparks/sparks.module.css";
import type { SparkStore } from "@/parts/sparks/store";
import { PercentCell } from "@/ui/Bars";
import type { Column } from "@/ui/DataTable";
import { age, bytes, cores, count, instant } from "@/ui/format";
import { NamespaceCell } from "./links";
import { percentTone } from "./model";

// Columns that tables of several kinds of object have. What is a table's own, as a width, is given.

/** The spark lines of a column, and which of them is a row's. */
export interface SparkOf<T> {
  readonly store: SparkStore;
  readonly of: (row: T) => readonly string[];
}

interface Widths {
  readonly width: string;
  readonly phoneWidth?: string;
  readonly wide?: boolean;
}

export const namespaceColumn = <T extends { readonly namespace: string }>(cluster: ClusterId, width = "minmax(100px, 1fr)"): Column<T> => ({
  id: "namespace",
  header: m.columns.namespace,
  width,
  wide: true,
  sort: (o) => o.namespace,
  cell: (o) => <NamespaceCell cluster={cluster} namespace={o.namespace} />,
});

/** Cores used, with their line. */
export const coresColumn = <T extends { readonly cpu_cores?: number | null }>({ store, of }: SparkOf<T>, widths: Widths = { width: "144px", phoneWidth: "64px" }): Column<T> => ({
  id: "cpu",
  header: m.columns.cpu,
  unit: m.units.cores,
  numeric: true,
  ...widths,
  sort: (o) => o.cpu_cores,
  cell: (o) => (
    <span className={sparks.cell}>
      <Spark store={store} of={of(o)} /> {cores(o.cpu_cores)}
    </span>
  ),
});

/** Memory used, with its line. */
export const memoryColumn = <T extends { readonly mem_bytes?: number | null }>({ store, of }: SparkOf<T>, id: string, widths: Widths = { width: "152px", phoneWidth: "76px" }): Column<T> => ({
  id,
  header: m.columns.memory,
  numeric: true,
  ...widths,
  sort: (o) => o.mem_bytes,
  cell: (o) => (
    <span className={sparks.cell}>
      <Spark store={store} of={of(o)} /> {bytes(o.mem_bytes)}
    </span>
  ),
});

/** A share in per cent, coloured where it is high; with its line up to 100 when there is one. */
export const shareColumn = <T,>(
  { id, header, unit, value, spark }: { id: string; header: string; unit: string; value: (row: T) => number | null | undefined; spark?: SparkOf<T> },
  widths: Widths,
): Column<T> => ({
  id,
  header,
  unit,
  numeric: true,
  ...widths,
  sort: value,
  cell: (o) => {
    const bar = <PercentCell value={value(o)} tone={percentTone(value(o))} />;
    return spark === undefined ? (
      bar
    ) : (
      <span className={sparks.cell}>
        <Spark store={spark.store} of={spark.of(o)} top={100} />
        {bar}
      </span>
    );
  },
});

/** Restarts of the last hour. */
export const restartsColumn = <T extends { readonly restarts_1h?: number | null }>(): Column<T> => ({
  id: "restarts",
  header: m.columns.restarts,
  unit: m.units.hour,
  numeric: true,
  wide: true,
  width: "96px",
  sort: (o) => o.restarts_1h,
  cell: (o) => count(o.restarts_1h),
});

export const ageColumn = <T extends { readonly created_at?: string | null }>(now: number): Column<T> => ({
  id: "age",
  header: m.columns.age,
  numeric: true,
  wide: true,
  width: "84px", // "11 h 59 min"
  sort: (o) => {
    const at = instant(o.created_at);
    return at === undefined ? null : now - at;
  },
  cell: (o) => age(o.created_at, now),
});
