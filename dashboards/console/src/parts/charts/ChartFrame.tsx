import { Tooltip, useComputedColorScheme } from "@mantine/core";
import { IconFileText, IconListDetails, IconX } from "@tabler/icons-react";
import { type ReactNode, type RefObject, useMemo, useState, useSyncExternalStore } from "react";
import { useRange, useSetRange } from "@/parts/page";
import { byUnit, clock, dateTime, percent } from "@/ui/format";
import { useNow } from "@/ui/now";
import { charts as m } from "@/i18n/charts";
import { resolveRange, type TimeRange, toRFC3339 } from "@/ui/time";
import { ChartMenu, type Taken } from "./ChartMenu";
import classes from "./ChartPanel.module.css";
import { CursorStore } from "./cursor";
import type { Caption } from "./export";
import { axisTop, csv, type Drawing, legendOrder, type Line, shortNames, statistics } from "./model";
import { lineStroke } from "./palette";
import Plot, { type Mark, type Threshold } from "./Plot";

export interface ChartFrameProps {
  readonly section: RefObject<HTMLElement | null>;
  readonly title: string;
  /** What the title explains when it is pointed at. */
  readonly help: ReactNode;
  /** What a point stands for: "average of each 30 s". */
  readonly note: string;
  /** Whose values they are, for a picture. */
  readonly of: readonly string[];
  readonly unit: string;
  readonly drawing: Drawing;
  readonly height: number;
  /** Top of the axis, unless the values go beyond. */
  readonly top?: number;
  /** Values that the axis reaches, whatever is drawn. */
  readonly reach?: readonly number[];
  readonly drawn: { readonly times: readonly number[]; readonly lines: readonly Line[]; readonly left: number; readonly compared?: string | undefined };
  /** What stands in the plot's place while it cannot be drawn. */
  readonly instead: ReactNode;
  /** Whether there will be no plot: then there is no legend either. */
  readonly bare?: boolean;
  readonly taken: Taken;
  readonly marks?: readonly Mark[] | undefined;
  readonly thresholds?: readonly Threshold[] | undefined;
  /** What is to be known of the chart besides. */
  readonly remark?: string | undefined;
  /** Links to the logs and events of a minute. */
  readonly at?: ((range: TimeRange) => { readonly logs: ReactNode; readonly events: ReactNode }) | undefined;
}

/** A chart with its title, what can be taken from it, its legend and its marks. What it draws was asked for elsewhere. */
export function ChartFrame({ section, title, help, note, of, unit, drawing, height, top = 0, reach = nothing, drawn, instead, bare = false, taken, marks, thresholds, remark, at }: ChartFrameProps) {
  const range = useRange();
  const setRange = useSetRange();
  const now = useNow();
  const scheme = useComputedColorScheme("light");
  const [cursor] = useState(() => new CursorStore());
  const [pick, setPick] = useState<{ time: number; left: number } | undefined>();
  const ends = useMemo(() => drawn.lines.map((l) => statistics(l.values)), [drawn.lines]);
  const highest = Math.max(...ends.flatMap((s) => s.max ?? []), ...reach.map((v) => v * 1.08));
  const lowest = Math.min(0, ...ends.flatMap((s) => s.min ?? []), ...reach);
  const resolved = resolveRange(range, now);
  return (
    <section className={classes.panel} aria-label={title} ref={section}>
      <header className={classes.head}>
        <Tooltip multiline w={360} label={help}>
          <h3 tabIndex={0}>{title}</h3>
        </Tooltip>
        <span className={classes.copy}>
          <ChartMenu
            title={title}
            section={section}
            taken={taken}
            csv={() => csv(drawn.times, drawn.lines)}
            caption={() => caption(title, [...of, note].join(" · "), resolved, drawn.lines, unit, scheme)}
          />
        </span>
        <span className={classes.stat} title={note}>
          {note}
        </span>
      </header>
      <div className={classes.plot} style={{ minHeight: height }}>
        {instead ?? (
          <>
            <Plot
              times={drawn.times}
              lines={drawn.lines}
              unit={unit}
              top={axisTop(Number.isFinite(highest) ? highest : null, top)}
              bottom={lowest * 1.08}
              drawing={drawing}
              height={height}
              start={resolved.start}
              end={resolved.end}
              label={m.of(title)}
              {...(marks ? { marks } : {})}
              {...(thresholds ? { thresholds } : {})}
              onCursor={cursor.set}
              onZoom={(from, to) => setRange({ from: toRFC3339(Math.floor(from)), to: toRFC3339(Math.ceil(to)) })}
              onPick={at ? (time, left) => setPick({ time, left }) : undefined}
            />
            {pick && at ? (
              <Picked
                time={pick.time}
                left={pick.left}
                at={at({ from: toRFC3339(Math.floor(pick.time / 60) * 60 - 60), to: toRFC3339(Math.floor(pick.time / 60) * 60 + 120) })}
                onClose={() => setPick(undefined)}
              />
            ) : null}
          </>
        )}
      </div>
      {drawn.lines.length > 0 && !bare ? (
        <>
          <Legend lines={drawn.lines} unit={unit} times={drawn.times} cursor={cursor} left={drawn.left} />
          {drawn.compared === undefined ? null : <div className={classes.marksHere}>{drawn.compared}</div>}
          {remark === undefined ? null : <div className={classes.remark}>{remark}</div>}
          <MarksHere marks={marks ?? noMarks} thresholds={thresholds ?? noThresholds} times={drawn.times} cursor={cursor} />
        </>
      ) : (
        <div className={classes.noLegend} />
      )}
    </section>
  );
}

const nothing: readonly number[] = [];
const noMarks: readonly Mark[] = [];
const noThresholds: readonly Threshold[] = [];

/** What the marks near the cursor are; without a cursor whose thresholds are drawn. The room for it is always there. */
function MarksHere({ marks, thresholds, times, cursor }: { marks: readonly Mark[]; thresholds: readonly Threshold[]; times: readonly number[]; cursor: CursorStore }) {
  const index = useSyncExternalStore(cursor.subscribe, cursor.get);
  const now = useNow();
  if (marks.length === 0 && thresholds.length === 0) return null;
  const at = index === null ? undefined : times[index];
  // As near as a pointer is to a triangle of a few pixels.
  const near = ((times.at(-1) ?? 0) - (times[0] ?? 0)) / 80;
  const here = at === undefined ? [] : marks.filter((k) => ((k.kind ?? "incident") === "incident" ? k.from - near <= at && at <= k.to + near : Math.abs(k.from - at) <= near));
  const owners = [...new Set(thresholds.flatMap((t) => t.label ?? []))];
  const words =
    here.length > 0
      ? here.slice(0, 3).map((k) => `${clock(k.from, now)} ${m.marks[k.kind ?? "incident"] ?? ""}${k.label === undefined ? "" : `: ${k.label}`}`)
      : at === undefined && owners.length > 0
        ? [m.threshold(owners.join(", "))]
        : [];
  return (
    <div className={classes.marksHere} title={words.join("\n")}>
      {words.join(" · ")}
    </div>
  );
}

/** What stands in the place of a plot that there is nothing for. */
export const Nothing = ({ title, children }: { title: string; children: ReactNode }) => (
  <div className={classes.nothing}>
    <div className={classes.nothingTitle}>{title}</div>
    <div>{children}</div>
  </div>
);

function Picked({ time, left, at, onClose }: { time: number; left: number; at: { logs: ReactNode; events: ReactNode }; onClose: () => void }) {
  const now = useNow();
  return (
    <div className={classes.picked} style={{ left: `min(${left}px, calc(100% - 240px))` }}>
      <span>{clock(time, now)}</span>
      <span className={classes.pickedLink}>
        <IconFileText size={14} aria-hidden /> {at.logs}
      </span>
      <span className={classes.pickedLink}>
        <IconListDetails size={14} aria-hidden /> {at.events}
      </span>
      <button type="button" onClick={onClose} aria-label={m.close} className={classes.close}>
        <IconX size={14} />
      </button>
    </div>
  );
}

/** Of a yes or no, the average is the share of time. */
const average = (v: number | null | undefined, unit: string): string =>
  unit === "0/1" ? percent(v === null || v === undefined ? v : v * 100) : byUnit(v, unit);

/** What a picture of the chart says: whose it is and when, and the legend. */
function caption(title: string, object: string, range: { start: number; end: number }, lines: readonly Line[], unit: string, scheme: "light" | "dark"): Caption {
  return {
    title,
    note: `${object} · ${dateTime(range.start)} – ${dateTime(range.end)}`,
    columns: [m.min, m.avg, m.max, m.last],
    rows: lines.map((l, i) => {
      const s = statistics(l.values);
      const stroke = lineStroke(lines, i, scheme);
      return { name: l.name, colour: stroke.colour, dash: stroke.dash, cells: [byUnit(s.min, unit), average(s.avg, unit), byUnit(s.max, unit), byUnit(s.last, unit)] };
    }),
  };
}

/** Min, average, max and last of each line, or the value under the cursor. Roles, since a narrow one is laid out as no table. */
export function Legend({ lines, unit, times, cursor, left }: { lines: readonly Line[]; unit: string; times: readonly number[]; cursor: CursorStore; left: number }) {
  const scheme = useComputedColorScheme("light");
  const index = useSyncExternalStore(cursor.subscribe, cursor.get);
  const now = useNow();
  const all = useMemo(() => lines.map((l) => statistics(l.values)), [lines]);
  const names = useMemo(() => shortNames(lines.filter((l) => !l.past).map((l) => l.name)), [lines]);
  const at = index === null ? undefined : times[index];
  return (
    <div className={classes.legend} data-many={lines.length > 4 || undefined} {...(lines.length > 4 ? { tabIndex: 0, role: "region", "aria-label": m.legend } : {})}>
      <table role="table">
        <thead role="rowgroup">
          <tr role="row">
            <th role="columnheader" />
            <th role="columnheader" className={classes.optional}>{m.min}</th>
            <th role="columnheader" className={classes.optional}>{m.avg}</th>
            <th role="columnheader">{m.max}</th>
            <th role="columnheader" className={classes.at}>{at === undefined ? m.last : clock(at, now, ((times[1] ?? 0) - (times[0] ?? 0)) % 60 !== 0)}</th>
          </tr>
        </thead>
        <tbody role="rowgroup">
          {legendOrder(lines).map((i) => {
            const l = lines[i];
            if (!l) return null;
            const s = lineStroke(lines, i, scheme);
            const value = index === null ? (all[i]?.last ?? null) : (l.values[index] ?? null);
            return (
              <tr role="row" key={`${l.metric} ${l.name}`} title={`${m.min} ${byUnit(all[i]?.min, unit)} · ${m.avg} ${average(all[i]?.avg, unit)} · ${m.max} ${byUnit(all[i]?.max, unit)} · ${m.last} ${byUnit(all[i]?.last, unit)}`}>
                <td role="cell" className={classes.name} title={l.name}>
                  <svg width="14" height="8" aria-hidden>
                    <line x1="0" y1="4" x2="14" y2="4" stroke={s.colour} strokeWidth="2.5" strokeDasharray={s.dash?.join(" ")} />
                  </svg>
                  <span>{l.past?.when ?? names[i]}</span>
                </td>
                <td role="cell" className={classes.optional}>{byUnit(all[i]?.min, unit)}</td>
                <td role="cell" className={classes.optional}>{average(all[i]?.avg, unit)}</td>
                <td role="cell">{byUnit(all[i]?.max, unit)}</td>
                <td role="cell" className={classes.at}>{byUnit(value, unit)}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {left > 0 ? <div className={classes.left}>{m.left(left)}</div> : null}
    </div>
  );
}
