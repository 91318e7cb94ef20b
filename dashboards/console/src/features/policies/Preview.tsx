import { Skeleton } from "@mantine/core";
import { useMemo } from "react";
import type { Metric } from "@/api/types";
import { policies as m } from "@/i18n/policies";
import { axisTop, shortNames, statistics } from "@/parts/charts/model";
import Plot, { type Threshold } from "@/parts/charts/Plot";
import { useRange, useSetRange } from "@/parts/page";
import { byUnit, count } from "@/ui/format";
import { Failure } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { StateLabel } from "@/ui/state";
import { resolveRange, toRFC3339 } from "@/ui/time";
import { type Condition, identity, severities, severityOf, type Spec } from "./draft";
import classes from "./policies.module.css";
import { usePreview } from "./queries";
import { Spread } from "./Spread";

const height = 220;

/** What a condition sees now, and saw over the page's range, with its thresholds drawn in. */
export function Preview({ spec, condition, metric }: { spec: Spec; condition: Condition; metric: Metric }) {
  const answer = usePreview(spec, condition, metric);
  const range = useRange();
  const setRange = useSetRange();
  const now = useNow();
  const { start, end } = resolveRange(range, now);
  const lines = useMemo(() => {
    const series = answer.range?.series ?? [];
    const ids = identity(spec.level, metric);
    const names = series.map((s) => ids.filter((l) => l !== "cluster" || spec.level === "cluster").map((l) => s.labels[l] ?? "").filter(Boolean).slice(-2).join(" "));
    return shortNames(names).map((name, i) => ({ name, full: names[i] ?? name, metric: metric.name, values: series[i]?.values ?? [] }));
  }, [answer.range, spec.level, metric]);
  const thresholds = useMemo(
    (): Threshold[] => severities.flatMap((s) => (condition.thresholds[s] === undefined ? [] : [{ value: condition.thresholds[s], state: s }])),
    [condition.thresholds],
  );
  const peak = lines.reduce<number | null>((max, l) => {
    const most = statistics(l.values).max;
    return most === null ? max : Math.max(max ?? 0, most);
  }, null);
  const top = axisTop(Math.max(peak ?? 0, ...thresholds.map((t) => t.value * 1.08)), metric.chart.max ?? 0);
  const beyond = severities.flatMap((s) => (answer.beyond[s] === undefined ? [] : [{ severity: s, n: answer.beyond[s] }])).reverse();
  const crossed = lines.filter((l) => l.values.some((v) => v !== null && severityOf(condition, v) !== undefined)).length;
  return (
    <div className={classes.preview}>
      <div className={classes.previewHead} aria-live="polite">
        {answer.matching === undefined ? (
          <Skeleton height={12} width={260} />
        ) : answer.matching === 0 ? (
          <StateLabel state="stale">{m.preview.idle}</StateLabel>
        ) : (
          <>
            <b>{m.preview.now(m.objects(answer.matching, spec.level))}</b>
            {beyond.map(({ severity, n }) => (
              <StateLabel key={severity} state={n > 0 ? severity : "ok"}>
                {m.preview.beyond(count(n), m.severity[severity] ?? severity)}
              </StateLabel>
            ))}
          </>
        )}
      </div>
      {answer.error ? (
        <Failure what={m.preview.what} error={answer.error} />
      ) : answer.range === undefined ? (
        <Skeleton height={height} />
      ) : lines.length === 0 ? (
        <div className={classes.previewNone}>{m.preview.noValue(metric.title)}
          {metric.absent ? m.preview.absent(metric.absent) : ""}</div>
      ) : (
        <>
          <Plot
            times={answer.range.times}
            lines={lines}
            unit={metric.unit}
            top={top}
            drawing={metric.kind === "counter" ? "bars" : metric.kind === "state" ? "steps" : "line"}
            height={height}
            start={start}
            end={end}
            thresholds={thresholds}
            label={m.preview.chart(metric.title)}
            onCursor={() => undefined}
            onZoom={(from, to) => setRange({ from: toRFC3339(Math.floor(from)), to: toRFC3339(Math.ceil(to)) })}
          />
          <p className={classes.quiet}>
            {lines.length === 1 ? m.preview.drawnOne(lines[0]?.full ?? "") : m.preview.drawn(lines.length)} {crossed === 0 ? m.preview.crossedNone : m.preview.crossed(crossed)}
            {peak === null ? "" : ` ${m.preview.highest(byUnit(peak, metric.unit))}`}
            {spec.objects?.selector || spec.objects?.exclude?.selector || spec.objects?.exclude?.workloads ? ` ${m.preview.noSelectors}` : ""}
          </p>
        </>
      )}
      {/* What is either or needs no picture. */}
      {metric.kind === "state" ? null : <Spread spec={spec} condition={condition} metric={metric} />}
    </div>
  );
}
