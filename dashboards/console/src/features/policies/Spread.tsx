import { Skeleton } from "@mantine/core";
import type { Metric } from "@/api/types";
import { policies as m } from "@/i18n/policies";
import { byUnit, percent } from "@/ui/format";
import { StateLabel } from "@/ui/state";
import { type Condition, severities, type Spec } from "./draft";
import classes from "./policies.module.css";
import { useSpread } from "./queries";
import { beyond, type Bin } from "./spread";

const width = 640;
const height = 92;

const middle = (b: Bin | undefined): number | undefined => b && (b.from + b.to) / 2;

/** How a condition's values lay over seven days, with its thresholds drawn in. */
export function Spread({ spec, condition, metric }: { spec: Spec; condition: Condition; metric: Metric }) {
  const { bins, error } = useSpread(spec, condition, metric);
  if (error) return null; // The chart above says what is wrong with the query.
  if (!bins) return <Skeleton height={height + 20} />;
  const total = bins.reduce((sum, b) => sum + b.n, 0);
  if (total === 0) return <p className={classes.quiet}>{m.preview.spreadNone}</p>;
  const from = bins[0]?.from ?? 0;
  const to = bins.at(-1)?.to ?? 1;
  const x = (v: number) => (width * (v - from)) / (to - from);
  // Roots, so that what is rare can be seen beside what is not.
  const most = Math.sqrt(Math.max(...bins.map((b) => b.n)));
  const given = severities.flatMap((s) => (condition.thresholds[s] === undefined ? [] : [{ severity: s, value: condition.thresholds[s] }]));
  return (
    <div>
      <svg viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" className={classes.spread} role="img" aria-label={m.preview.spreadLabel(metric.title)}>
        {bins.map((b) =>
          b.n === 0 ? null : (
            <rect key={b.from} x={x(b.from)} width={Math.max(1, x(b.to) - x(b.from) - 1)} y={height - Math.max(2, (height * Math.sqrt(b.n)) / most)} height={Math.max(2, (height * Math.sqrt(b.n)) / most)}>
              <title>{m.preview.spreadBin(byUnit(b.from, metric.unit), byUnit(b.to, metric.unit), b.n, percent((100 * b.n) / total))}</title>
            </rect>
          ),
        )}
        {given.map((g) => (g.value >= from && g.value <= to ? <line key={g.severity} className={classes.spreadLine} data-severity={g.severity} x1={x(g.value)} x2={x(g.value)} y1={0} y2={height} /> : null))}
      </svg>
      <div className={classes.spreadTable}>
        <span className={classes.quiet}>
          {m.preview.spread}, {byUnit(middle(bins[0]), metric.unit)} – {byUnit(middle(bins.at(-1)), metric.unit)}:
        </span>
        {given.map((g) => {
          const share = beyond(bins, condition.op, g.value);
          return (
            <StateLabel key={g.severity} state={share > 0 ? g.severity : "ok"}>
              {m.preview.spreadBeyond(percent(100 * share), m.severity[g.severity] ?? g.severity)}
            </StateLabel>
          );
        })}
        <span className={classes.quiet}>{m.preview.spreadOf(total)}</span>
      </div>
    </div>
  );
}
