import { Skeleton } from "@mantine/core";
import { type ReactNode, useMemo, useRef } from "react";
import type { ClusterId } from "@/api/keys";
import { chartPanel } from "@/parts/boards/model";
import { useCompare } from "@/parts/page";
import { charts as m } from "@/i18n/charts";
import type { TimeRange } from "@/ui/time";
import { ChartFrame, Nothing } from "./ChartFrame";
import classes from "./ChartPanel.module.css";
import { type Drawing, withPast, lines as toLines, type ObjectLabels, type Panel, promql, resolutionWords } from "./model";
import { useSeen } from "./seen";
import type { Mark, Threshold } from "./Plot";
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
  /** What is to be known of the chart besides. */
  readonly remark?: string;
  /** Links to the logs and events of a minute. */
  readonly at?: (range: TimeRange) => { readonly logs: ReactNode; readonly events: ReactNode };
}

const maxLines = 24;
const none: readonly string[] = [];

/** A chart with its title, its legend, and the reason when there is nothing to draw. */
export function ChartPanel(props: ChartPanelProps) {
  const { cluster, panel, object, by = none, stepSeconds, title = panel.title, height = 160, lacking, marks, thresholds, remark, at } = props;
  const section = useRef<HTMLElement>(null);
  const seen = useSeen(section);
  const answer = usePanel(cluster, panel, object, by, stepSeconds, 0, seen);
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
  return (
    <ChartFrame
      section={section}
      title={title}
      help={
        <div className={classes.help}>
          {panel.metrics.map((x) => (
            <div key={x.name}>
              <div>{x.help}</div>
              <code>{x.name}</code>
            </div>
          ))}
        </div>
      }
      note={resolutionWords(first, stepSeconds, answer.results)}
      of={Object.values(object)}
      unit={panel.unit}
      drawing={drawing}
      height={height}
      top={Math.max(0, ...panel.metrics.map((x) => x.chart.max ?? 0))}
      drawn={drawn}
      bare={isLacking}
      instead={
        isLacking ? (
          <Nothing title={m.lacking}>{reasons.join(" ")}</Nothing>
        ) : answer.error ? (
          <Nothing title={m.failed}>{answer.error.message}</Nothing>
        ) : !seen ? (
          // Its place is kept, and nothing is drawn that nobody sees.
          <></>
        ) : answer.loading ? (
          <Skeleton height={height - 10} mt={5} />
        ) : drawn.lines.length === 0 ? (
          <Nothing title={m.none}>{first.absent ? m.absent(first.absent) : ""}</Nothing>
        ) : undefined
      }
      taken={{
        metrics: panel.metrics,
        queries: panel.metrics.map((x) => promql(x, object, stepSeconds, by, panel.only)),
        object,
        panel: chartPanel(title, panel, object, by),
      }}
      marks={marks}
      thresholds={thresholds}
      remark={remark}
      at={at}
    />
  );
}
