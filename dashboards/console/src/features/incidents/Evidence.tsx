import { Button, Menu, Skeleton } from "@mantine/core";
import { IconFileText, IconListDetails } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { type ReactNode, useMemo, useRef, useState } from "react";
import type { Alert, Metric } from "@/api/types";
import { charts } from "@/i18n/charts";
import { incidents as m } from "@/i18n/incidents";
import { ChartFrame, type ChartFrameProps, Nothing } from "@/parts/charts/ChartFrame";
import { ChartPanel } from "@/parts/charts/ChartPanel";
import classes from "@/parts/charts/ChartPanel.module.css";
import type { Drawing } from "@/parts/charts/model";
import type { Mark } from "@/parts/charts/Plot";
import { chartStep } from "@/parts/charts/queries";
import { useRange } from "@/parts/page";
import { useHistory } from "@/parts/policies/queries";
import { linesOf, unitOf } from "@/parts/promql/model";
import { useCatalogue, useClusters, useSought } from "@/parts/queries";
import { Section } from "@/ui/Bits";
import { duration, exactly, instant } from "@/ui/format";
import { useNow } from "@/ui/now";
import { resolveRange, seconds, toRFC3339 } from "@/ui/time";
import { type AlertCondition, alertLabels, comparedWords, countQuery, countStep, evidenceMetric, evidenceRange, judgedSeconds, logScope, objectWords, ofObject } from "./model";
import { useCounts, useExpression } from "./queries";

const height = 220;
const maxLines = 24;
const chartsAtOnce = 6;

interface Of {
  readonly alert: Alert;
  readonly marks: readonly Mark[];
}

interface OfCondition extends Of {
  readonly condition: AlertCondition;
}

const stateOf = (a: Alert): Mark["state"] => (a.severity === "critical" || a.severity === "warning" ? a.severity : "info");

/** A chart of each condition of the alerts with its threshold, and the time of firing marked. */
export function Evidence({ alerts }: { alerts: readonly Alert[] }) {
  const catalogue = useCatalogue();
  useSought(alerts.flatMap((a) => a.conditions.map((c) => c.metric)));
  const now = useNow();
  const [shown, setShown] = useState(chartsAtOnce);
  const drawn = alerts.flatMap((alert) => {
    const start = instant(alert.started_at);
    const marks: Mark[] = start === undefined ? [] : [{ from: start, to: instant(alert.ended_at) ?? now, state: stateOf(alert) }];
    return alert.conditions.flatMap((condition, i): ReactNode[] => {
      const of = { alert, condition, marks };
      const key = `${alert.id} ${i}`;
      const metric = evidenceMetric(condition, catalogue.data ?? []);
      if (metric) return [<OfMetric key={key} {...of} metric={metric} />];
      if (condition.drawn) return [<OfExpression key={key} {...of} drawn={condition.drawn} />];
      return condition.query ? [<OfLines key={key} {...of} query={condition.query} />] : [];
    }).concat(alert.drawn ? [<OfExpression key={alert.id} alert={alert} marks={marks} drawn={alert.drawn} />] : []);
  });
  const [a] = alerts;
  if (!a || drawn.length === 0) return null;
  const wanted = evidenceRange(a.started_at, a.ended_at, judgedSeconds(a));
  return (
    <Section
      title={m.detail.evidence}
      right={
        <>
          <Button size="compact-xs" variant="default" renderRoot={(props) => <Link to="." replace resetScroll={false} search={(old) => ({ ...old, ...wanted })} {...props} />}>
            {m.detail.itsTime}
          </Button>
          <Button
            size="compact-xs"
            variant="default"
            renderRoot={(props) => (
              <Link to="/logs" search={{ cluster: a.object.cluster, ...(a.object.namespace ? { namespace: a.object.namespace } : {}), ...(a.object.pod ? { pod: a.object.pod } : a.object.workload ? { workload: a.object.workload } : {}), ...wanted }} {...props} />
            )}
          >
            {m.detail.itsLogs}
          </Button>
        </>
      }
    >
      {drawn.slice(0, shown)}
      {drawn.length > shown && (
        <Button variant="default" size="xs" mt="sm" onClick={() => setShown(shown + chartsAtOnce)}>
          {m.detail.moreCharts(drawn.length - shown)}
        </Button>
      )}
    </Section>
  );
}

function OfMetric({ alert: a, condition, marks, metric }: OfCondition & { metric: Metric }) {
  const clusters = useClusters();
  const range = useRange();
  const labels = useMemo(() => alertLabels(a), [a]);
  const panel = useMemo(() => ({ group: metric.chart.group, title: metric.title, unit: metric.unit, metrics: [metric] }), [metric]);
  const interval = clusters.data?.find((c) => c.id === a.object.cluster)?.interval_seconds ?? 30;
  const step = chartStep(range, interval);
  const other = comparedWords(condition, step);
  return (
    <ChartPanel
      cluster={a.object.cluster}
      panel={panel}
      title={m.detail.chart(metric.title, objectWords(a))}
      object={labels}
      stepSeconds={step}
      height={height}
      marks={marks}
      {...(other === "" ? { thresholds: [{ value: condition.threshold, state: stateOf(a) }] } : { remark: m.detail.notDrawn(other, condition.op, exactly(condition.threshold, condition.unit)) })}
    />
  );
}

/** What an expression gave for the alert's object, as it stood in the policy, or in the Prometheus rule, when the alert last changed. */
function OfExpression({ alert: a, condition, marks, drawn }: Of & { condition?: AlertCondition; drawn: NonNullable<AlertCondition["drawn"]> }) {
  const catalogue = useCatalogue();
  const clusters = useClusters();
  const range = useRange();
  const { promql } = drawn;
  const expression = condition?.expr ?? a.expr ?? promql;
  const step = chartStep(range, clusters.data?.find((c) => c.id === a.object.cluster)?.interval_seconds ?? 30);
  const query = useMemo(() => ofObject(promql, alertLabels(a)), [promql, a]);
  const answer = useExpression(a.object.cluster, query, step);
  const object = objectWords(a);
  const found = useMemo(() => {
    const { lines, left } = answer.data ? linesOf(answer.data, maxLines) : { lines: [], left: 0 };
    // One line is the object's.
    return { times: answer.data?.times ?? [], lines: lines.length === 1 ? lines.map((l) => ({ ...l, name: object })) : lines, left };
  }, [answer.data, object]);
  const title = m.detail.chart(expression.replace(/\s+/g, " "), object);
  return (
    <Frame
      of={{ alert: a, marks }}
      title={title}
      help={<code>{expression}</code>}
      note={charts.every(duration(step))}
      unit={condition?.unit || unitOf(promql, catalogue.data ?? [])}
      drawing="line"
      threshold={drawn.threshold}
      found={found}
      answer={answer}
      none={m.detail.exprNone}
      taken={{ metrics: [], queries: [promql], object: {}, panel: { title: title.slice(0, 120), kind: "query", query: promql } }}
    />
  );
}

/** How many lines or events a condition counted, for each of its periods. */
function OfLines({ alert: a, condition, marks, query }: OfCondition & { query: string }) {
  const history = useHistory(a.policy.name);
  const range = useRange();
  const now = useNow();
  const { start, end } = resolveRange(range, now);
  const period = seconds(condition.period) ?? 60;
  const step = countStep(period, end - start);
  // An alert does not say which of the two its policy counts.
  const version = history.data?.find((v) => v.revision === a.policy.revision) ?? history.data?.[0];
  const what = version?.spec.level === "event" ? "events" : "logs";
  const counts = useCounts(a.object.cluster, countQuery(a, query, what, step), step, history.data !== undefined || history.error !== null);
  const name = m.detail.counted[what] ?? what;
  const found = useMemo(() => ({ times: counts.data?.times ?? [], lines: counts.data ? [{ name, metric: name, values: counts.data.values }] : [], left: 0 }), [counts.data, name]);
  const there = { from: toRFC3339(Math.floor(start)), to: toRFC3339(Math.ceil(end)), q: query };
  return (
    <Frame
      of={{ alert: a, marks }}
      title={m.detail.chart(m.detail.matching(name, query), objectWords(a))}
      help={<code>{query}</code>}
      note={charts.each(m.detail.count, duration(step))}
      unit={condition.unit}
      drawing="bars"
      // Of several periods together there is no threshold.
      threshold={step === period ? condition.threshold : undefined}
      found={found}
      answer={counts}
      none=""
      taken={{
        metrics: [],
        queries: [],
        object: {},
        elsewhere:
          what === "events" ? (
            <Menu.Item leftSection={<IconListDetails size={14} />} renderRoot={(props) => <Link to="/events" search={{ cluster: a.object.cluster, ...(a.object.namespace ? { namespace: a.object.namespace } : {}), ...there }} {...props} />}>
              {m.detail.toEvents}
            </Menu.Item>
          ) : (
            <Menu.Item leftSection={<IconFileText size={14} />} renderRoot={(props) => <Link to="/logs" search={{ ...logScope(a), ...there }} {...props} />}>
              {m.detail.toLogs}
            </Menu.Item>
          ),
      }}
    />
  );
}

interface FrameProps extends Pick<ChartFrameProps, "title" | "help" | "note" | "unit" | "taken"> {
  readonly of: Of;
  readonly drawing: Drawing;
  readonly threshold: number | undefined;
  readonly found: ChartFrameProps["drawn"];
  readonly answer: { readonly data: unknown; readonly error: Error | null };
  /** What it means that there is nothing to draw. */
  readonly none: string;
}

/** The frame of what is no metric of the catalogue. */
function Frame({ of: { alert: a, marks }, threshold, found, answer, none, ...frame }: FrameProps) {
  const section = useRef<HTMLElement>(null);
  return (
    <ChartFrame
      {...frame}
      section={section}
      help={<div className={classes.help}>{frame.help}</div>}
      of={Object.values(alertLabels(a))}
      height={height}
      drawn={found}
      {...(threshold === undefined ? {} : { reach: [threshold], thresholds: [{ value: threshold, state: stateOf(a), label: a.policy.name }] })}
      marks={marks}
      instead={
        answer.error && answer.data === undefined ? (
          <Nothing title={charts.failed}>{answer.error.message}</Nothing>
        ) : answer.data === undefined ? (
          <Skeleton height={height - 10} mt={5} />
        ) : found.lines.length === 0 ? (
          <Nothing title={charts.none}>{none}</Nothing>
        ) : undefined
      }
    />
  );
}
