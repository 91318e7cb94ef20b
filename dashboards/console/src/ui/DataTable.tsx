import { IconChevronDown, IconChevronUp } from "@tabler/icons-react";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type CSSProperties, type KeyboardEvent, memo, type MouseEvent, type ReactNode, useMemo, useRef, useState } from "react";
import { ui as m } from "@/i18n/ui";
import classes from "./DataTable.module.css";
import { holdOrder, type Sort, sortRows, type SortValue } from "./table";

export interface Column<T> {
  readonly id: string;
  readonly header: string;
  /** Shown small beside the header: the cells carry bare numbers. */
  readonly unit?: string;
  /** Explains the column in a tooltip. */
  readonly help?: string;
  readonly numeric?: boolean;
  /** A CSS grid track, for example "minmax(160px, 2fr)". */
  readonly width: string;
  /** What the column sorts by; a column without it cannot be sorted. */
  readonly sort?: (row: T) => SortValue;
  /** Left out at phone width. */
  readonly wide?: boolean;
  /** At phone width the cell takes as many lines as it needs, in tables that are short enough to be drawn whole. */
  readonly wraps?: boolean;
  /** The track at phone width, when another. */
  readonly phoneWidth?: string;
  readonly cell: (row: T) => ReactNode;
}

interface Props<T> {
  readonly label: string;
  readonly columns: readonly Column<T>[];
  readonly rows: readonly T[];
  readonly rowKey: (row: T) => string;
  readonly sort: Sort;
  readonly onSort: (sort: Sort) => void;
  /** Greys the row: the object is on its way out, or idle. */
  readonly dim?: (row: T) => boolean;
  readonly empty?: ReactNode;
}

/** An attribute that says "false" would be matched by the style sheet all the same. */
const flag = (v: boolean | undefined): true | undefined => (v === true ? true : undefined);

const rowHeight = 32;
// More rows than this scroll in a window of their own, of which only the visible part is drawn.
const virtualFrom = 60;

/**
 * A table of rows of 32 px. A row opens with a click or Enter through the first link in it; arrow keys
 * move between rows. While the pointer is over it, rows keep their places.
 */
export function DataTable<T>({ label, columns, rows, rowKey, sort, onSort, dim, empty }: Props<T>) {
  const [held, setHeld] = useState<readonly string[] | undefined>();
  const scroller = useRef<HTMLDivElement>(null);
  const [active, setActive] = useState(0);

  const sorted = useMemo(() => {
    const column = columns.find((c) => c.id === sort.column);
    const ordered = column?.sort ? sortRows(rows, column.sort, sort.descending) : [...rows];
    return held ? holdOrder(ordered, rowKey, held) : ordered;
  }, [columns, rows, rowKey, sort.column, sort.descending, held]);

  const virtual = sorted.length > virtualFrom;
  // eslint-disable-next-line react-hooks/incompatible-library -- the virtualiser's result is used in this render only
  const virtualizer = useVirtualizer({
    count: sorted.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => rowHeight,
    // Each row beyond the window is drawn with every key of a search, too.
    overscan: 6,
    enabled: virtual,
  });

  const focusRow = (index: number) => {
    const next = Math.max(0, Math.min(sorted.length - 1, index));
    setActive(next);
    if (virtual) virtualizer.scrollToIndex(next);
    // The row may have to be drawn first.
    requestAnimationFrame(() => scroller.current?.querySelector<HTMLElement>(`[data-index="${next}"]`)?.focus());
  };

  const onKeyDown = (e: KeyboardEvent<HTMLDivElement>) => {
    if (!(e.target instanceof HTMLElement) || e.target.dataset.index === undefined) return;
    const at = Number(e.target.dataset.index);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + 15, PageUp: at - 15, Home: 0, End: sorted.length - 1 }[e.key];
    if (to !== undefined) {
      e.preventDefault();
      focusRow(to);
    } else if (e.key === "Enter") {
      e.target.querySelector<HTMLElement>("a")?.click();
    }
  };

  const onClick = (e: MouseEvent<HTMLDivElement>) => {
    if (!(e.target instanceof HTMLElement) || e.target.closest("a, button, input, label")) return;
    if (globalThis.getSelection()?.toString()) return;
    e.target.closest<HTMLElement>("[data-index]")?.querySelector<HTMLElement>("a")?.click();
  };

  const row = (item: T, index: number, style?: CSSProperties) => (
    <div
      key={rowKey(item)}
      role="row"
      aria-rowindex={index + 2}
      data-index={index}
      data-dim={dim?.(item) === true ? true : undefined}
      tabIndex={index === Math.min(active, sorted.length - 1) ? 0 : -1}
      className={classes.row}
      style={style}
      onFocus={() => setActive(index)}
    >
      <Cells columns={columns} item={item} />
    </div>
  );

  const tracks = {
    "--tracks": columns.map((c) => c.width).join(" "),
    "--tracks-phone": columns
      .filter((c) => !c.wide)
      .map((c) => c.phoneWidth ?? c.width)
      .join(" "),
  } as CSSProperties;

  return (
    <div
      ref={scroller}
      role="table"
      aria-label={label}
      aria-rowcount={sorted.length + 1}
      className={classes.table}
      data-virtual={virtual || undefined}
      style={tracks}
      onKeyDown={onKeyDown}
      onClick={onClick}
      onPointerEnter={(e) => {
        if (e.pointerType === "mouse") setHeld(sorted.map(rowKey));
      }}
      onPointerLeave={() => setHeld(undefined)}
    >
      <div role="row" aria-rowindex={1} className={classes.head}>
        {columns.map((c) => (
          <HeadCell
            key={c.id}
            column={c}
            sort={sort}
            onSort={(s) => {
              setHeld(undefined);
              onSort(s);
            }}
          />
        ))}
      </div>
      {sorted.length === 0 ? (
        <div className={classes.empty}>{empty ?? m.nothing}</div>
      ) : virtual ? (
        <div className={classes.canvas} style={{ height: virtualizer.getTotalSize() }}>
          {virtualizer.getVirtualItems().map((v) => {
            const item = sorted[v.index];
            return item === undefined ? null : row(item, v.index, { transform: `translateY(${v.start}px)` });
          })}
        </div>
      ) : (
        sorted.map((item, i) => row(item, i))
      )}
    </div>
  );
}

/** A row's cells: drawn anew when the row or its columns changed, and not because it moved, as while a table is searched or scrolled. */
const Cells = memo(function Cells<T>({ columns, item }: { columns: readonly Column<T>[]; item: T }) {
  return columns.map((c) => (
    <div key={c.id} role="cell" className={classes.cell} data-numeric={flag(c.numeric)} data-wide={flag(c.wide)} data-wraps={flag(c.wraps)}>
      {c.cell(item)}
    </div>
  ));
}) as <T>(props: { columns: readonly Column<T>[]; item: T }) => ReactNode;

function HeadCell<T>({ column, sort, onSort }: { column: Column<T>; sort: Sort; onSort: (s: Sort) => void }) {
  const active = sort.column === column.id;
  const text = (
    <>
      {column.header}
      {column.unit === undefined ? null : <span className={classes.unit}>{column.unit}</span>}
    </>
  );
  return (
    <div
      role="columnheader"
      className={classes.headCell}
      data-numeric={flag(column.numeric)}
      data-wide={flag(column.wide)}
      aria-sort={active ? (sort.descending ? "descending" : "ascending") : undefined}
      title={column.help}
    >
      {column.sort ? (
        <button
          type="button"
          className={classes.sort}
          data-active={active || undefined}
          // A number is asked for the largest first, a name from A.
          onClick={() => onSort({ column: column.id, descending: active ? !sort.descending : column.numeric === true })}
        >
          <span>{text}</span>
          {active ? (
            sort.descending ? (
              <IconChevronDown size={13} aria-hidden />
            ) : (
              <IconChevronUp size={13} aria-hidden />
            )
          ) : null}
        </button>
      ) : (
        text
      )}
    </div>
  );
}
