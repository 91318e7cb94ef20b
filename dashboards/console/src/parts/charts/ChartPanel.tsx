import { Skeleton, Tooltip } from "@mantine/core";
import { useComputedColorScheme } from "@mantine/core";
import { IconFileText, IconListDetails, IconX } from "@tabler/icons-react";
import { type ReactNode, useMemo, useRef, useState, useSyncExternalStore } from "react";
import type { ClusterId } from "@/api/keys";
import { chartPanel } from "@/parts/boards/model";
import { useCompare, useRange, useSetRange } from "@/parts/page";
import { byUnit, clock, dateTime, percent } from "@/ui/format";
import { useNow } from "@/ui/now";
import { charts as m } from "@/i18n/charts";
import { resolveRange, type TimeRange, toRFC3339 } from "@/ui/time";
import classes from "./ChartPanel.module.css";
import { CursorStore } from "./cursor";
import { axisTop, csv, type Drawing, legendOrder, type Line, promql, resolutionWords, withPast, lines as toLines, type ObjectLabels, type Panel, shortNames, statistics } from "./model";
import { ChartMenu } from "./ChartMenu";
import type { Caption } from "./export";
import { lineStroke } from "./palette";
import { useSeen } from "./seen";
import Plot, { type Mark, type Threshold } from "./Plot";
import { usePanel } from "./queries";

export interface ChartPanelProps {
  readonly cluster: ClusterId;
  readonly panel: Panel;
  readonly object: ObjectLabels;
  /** Labels that split the metric into lines: ["pod"]. */
  readonly by?: readonly string[];
  readonly stepSeconds: number;
  readonly title?: string;
  readonly height?: number;
  /** Why the cluster does not have the metrics, by name. */
  readonly lacking?: ReadonlyMap<string, string>;
  readonly marks?: readonly Mark[];
  readonly thresholds?: readonly Threshold[];
  /** Links to the logs and events of a minute. */
  readonly at?: (range: TimeRange) => { readonly logs: ReactNode; readonly events: ReactNode };
}

const maxLines = 24;
const none: readonly string[] = [];

/** A chart with its title, its legend, and the reason when there is nothing to draw. */
export function ChartPanel(props: ChartPanelProps) {
  const { cluster, panel, object, by = none, stepSeconds, title = panel.title, height = 160, lacking, marks, thresholds, at } = props;
  const range = useRange();
  const setRange = useSetRange();
  const now = useNow();
  const scheme = useComputedColorScheme("light");
  const section = useRef<HTMLElement>(null);
  const seen = useSeen(section);
  const answer = usePanel(cluster, panel, object, by, stepSeconds, 0, seen);
  const [cursor] = useState(() => new CursorStore());
  const [pick, setPick] = useState<{ time: number; left: number } | undefined>();
  const compare = useCompare();
  const [first] = panel.metrics;
  const drawing: Drawing = first?.kind === "counter" ? "bars" : first?.kind === "state" ? "steps" : "line";
  const before = usePanel(cluster, panel, object, by, stepSeconds, compare.seconds, seen && compare.seconds > 0);
  const drawn = useMemo(() => {
    const present = toLines(panel, answer.results, maxLines);
    if (compare.seconds === 0) return present;
    // A chart of many lines would show none with twice as many.
    if (present.lines.length > 8) return { ...present, compared: m.compare.tooMany };
    const lines = withPast(present, toLines(panel, before.results, 500), compare.seconds, compare.words, drawing);
    return { ...present, lines, compared: lines.length > present.lines.length || before.loading ? undefined : m.compare.nothing(compare.words) };
  }, [panel, answer.results, before.results, before.loading, compare, drawing]);
  if (!first) return null;

  const reasons = [...new Set(panel.metrics.flatMap((x) => lacking?.get(x.name) ?? []))];
  const isLacking = panel.metrics.every((x) => lacking?.has(x.name));
  const top = axisTop(
    drawn.lines.reduce<number | null>((max, l) => {
      const highest = statistics(l.values).max;
      return highest === null ? max : Math.max(max ?? 0, highest);
    }, null),
    Math.max(0, ...panel.metrics.map((x) => x.chart.max ?? 0)),
  );
  const resolved = resolveRange(range, now);
  const resolution = resolutionWords(first, stepSeconds, answer.results);

  return (
    <section className={classes.panel} aria-label={title} ref={section}>
      <header className={classes.head}>
        <Tooltip
          multiline
          w={360}
          label={
            <div className={classes.help}>
              {panel.metrics.map((x) => (
                <div key={x.name}>
                  <div>{x.help}</div>
                  <code>{x.name}</code>
                </div>
              ))}
            </div>
          }
        >
          <h3 tabIndex={0}>{title}</h3>
        </Tooltip>
        <span className={classes.copy}>
          <ChartMenu
            title={title}
            section={section}
            metrics={panel.metrics}
            queries={panel.metrics.map((x) => promql(x, object, stepSeconds, by, panel.only))}
            object={object}
            panel={chartPanel(title, panel, object, by)}
            csv={() => csv(drawn.times, drawn.lines)}
            caption={() => caption(title, [...Object.values(object), resolution].join(" · "), resolved, drawn.lines, panel.unit, scheme)}
          />
        </span>
        <span className={classes.stat} title={resolution}>
          {resolution}
        </span>
      </header>
      <div className={classes.plot} style={{ minHeight: height }}>
        {isLacking ? (
          <Nothing title={m.lacking}>{reasons.join(" ")}</Nothing>
        ) : answer.error ? (
          <Nothing title={m.failed}>{answer.error.message}</Nothing>
        ) : !seen ? null : answer.loading ? (
          <Skeleton height={height - 10} mt={5} />
        ) : drawn.lines.length === 0 ? (
          <Nothing title={m.none}>{first.absent ? m.absent(first.absent) : ""}</Nothing>
        ) : (
          <>
            <Plot
              times={drawn.times}
              lines={drawn.lines}
              unit={panel.unit}
              top={top}
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
      {drawn.lines.length > 0 && !isLacking ? (
        <>
          <Legend lines={drawn.lines} unit={panel.unit} times={drawn.times} cursor={cursor} left={drawn.left} />
          {drawn.compared === undefined ? null : <div className={classes.marksHere}>{drawn.compared}</div>}
          <MarksHere marks={marks ?? noMarks} thresholds={thresholds ?? noThresholds} times={drawn.times} cursor={cursor} />
        </>
      ) : (
        <div className={classes.noLegend} />
      )}
    </section>
  );
}

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

const Nothing = ({ title, children }: { title: string; children: ReactNode }) => (
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

/** Min, average, max and last of each line, or the value under the cursor. */
export function Legend({ lines, unit, times, cursor, left }: { lines: readonly Line[]; unit: string; times: readonly number[]; cursor: CursorStore; left: number }) {
  const scheme = useComputedColorScheme("light");
  const index = useSyncExternalStore(cursor.subscribe, cursor.get);
  const now = useNow();
  const all = useMemo(() => lines.map((l) => statistics(l.values)), [lines]);
  const names = useMemo(() => shortNames(lines.filter((l) => !l.past).map((l) => l.name)), [lines]);
  const at = index === null ? undefined : times[index];
  return (
    <div className={classes.legend} data-many={lines.length > 4 || undefined} {...(lines.length > 4 ? { tabIndex: 0, role: "region", "aria-label": m.legend } : {})}>
      <table>
        <thead>
          <tr>
            <th />
            <th className={classes.optional}>{m.min}</th>
            <th className={classes.optional}>{m.avg}</th>
            <th>{m.max}</th>
            <th className={classes.at}>{at === undefined ? m.last : clock(at, now, true)}</th>
          </tr>
        </thead>
        <tbody>
          {legendOrder(lines).map((i) => {
            const l = lines[i];
            if (!l) return null;
            const s = lineStroke(lines, i, scheme);
            const value = index === null ? (all[i]?.last ?? null) : (l.values[index] ?? null);
            return (
              // A narrow chart has room for two of the four.
              <tr key={`${l.metric} ${l.name}`} title={`${m.min} ${byUnit(all[i]?.min, unit)} · ${m.avg} ${average(all[i]?.avg, unit)} · ${m.max} ${byUnit(all[i]?.max, unit)} · ${m.last} ${byUnit(all[i]?.last, unit)}`}>
                <td className={classes.name} title={l.name}>
                  <svg width="14" height="8" aria-hidden>
                    <line x1="0" y1="4" x2="14" y2="4" stroke={s.colour} strokeWidth="2.5" strokeDasharray={s.dash?.join(" ")} />
                  </svg>
                  <span>{l.past?.when ?? names[i]}</span>
                </td>
                <td className={classes.optional}>{byUnit(all[i]?.min, unit)}</td>
                <td className={classes.optional}>{average(all[i]?.avg, unit)}</td>
                <td>{byUnit(all[i]?.max, unit)}</td>
                <td className={classes.at}>{byUnit(value, unit)}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {left > 0 ? <div className={classes.left}>{m.left(left)}</div> : null}
    </div>
  );
}
