import { Skeleton } from "@mantine/core";
import { useMemo } from "react";
import type { Metric } from "@/api/types";
import { axisTop, shortNames, statistics } from "@/parts/charts/model";
import Plot, { type Threshold } from "@/parts/charts/Plot";
import { useRange, useSetRange } from "@/parts/page";
import { byUnit, count, plural } from "@/ui/format";
import { Failure } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { StateLabel } from "@/ui/state";
import { resolveRange, toRFC3339 } from "@/ui/time";
import { type Condition, identity, severities, severityOf, type Spec } from "./draft";
import classes from "./policies.module.css";
import { usePreview } from "./queries";

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
    const m = statistics(l.values).max;
    return m === null ? max : Math.max(max ?? 0, m);
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
          <StateLabel state="stale">Nothing matches that has a value now: the policy would be idle.</StateLabel>
        ) : (
          <>
            <span>
              <b>{plural(answer.matching, spec.level)}</b> with a value now
            </span>
            {beyond.map(({ severity, n }) => (
              <StateLabel key={severity} state={n > 0 ? severity : "ok"}>
                {count(n)} beyond {severity}
              </StateLabel>
            ))}
          </>
        )}
      </div>
      {answer.error ? (
        <Failure what="The preview" error={answer.error} />
      ) : answer.range === undefined ? (
        <Skeleton height={height} />
      ) : lines.length === 0 ? (
        <div className={classes.previewNone}>No value of “{metric.title}” in this range.{metric.absent ? ` There is none when ${metric.absent}.` : ""}</div>
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
            label={`chart of ${metric.title} with thresholds`}
            onCursor={() => undefined}
            onZoom={(from, to) => setRange({ from: toRFC3339(Math.floor(from)), to: toRFC3339(Math.ceil(to)) })}
          />
          <p className={classes.quiet}>
            {lines.length === 1 ? `Drawn: ${lines[0]?.full ?? ""}.` : `Drawn: the ${lines.length} objects that are worst now.`} {crossed === 0 ? "None of them crossed a threshold in this range." : `${crossed === 1 ? "One" : count(crossed)} of them crossed a threshold in this range.`}
            {peak === null ? "" : ` Highest: ${byUnit(peak, metric.unit)}.`}
            {spec.objects?.selector || spec.objects?.exclude?.selector || spec.objects?.exclude?.workloads ? " The preview does not apply label selectors and excluded workloads; the policy does." : ""}
          </p>
        </>
      )}
    </div>
  );
}
