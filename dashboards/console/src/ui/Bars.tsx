import { Tooltip } from "@mantine/core";
import { ui as m } from "@/i18n/ui";
import classes from "./Bars.module.css";
import { count, type Quantity, percent } from "./format";

const share = (v: Quantity, of: Quantity): number | undefined =>
  v === null || v === undefined || of === null || of === undefined || of <= 0 ? undefined : (100 * v) / of;

/** Used, requested and allocatable in one bar: the full width is what is allocatable. */
export function UsageBar({
  name,
  used,
  requested,
  allocatable,
  format,
}: {
  name: string;
  used: Quantity;
  requested: Quantity;
  allocatable: Quantity;
  format: (v: Quantity) => string;
}) {
  const usedShare = share(used, allocatable);
  const requestedShare = share(requested, allocatable);
  const text = m.bar(name, format(used), format(requested), format(allocatable));
  return (
    <Tooltip label={text}>
      <div className={classes.usage} role="img" aria-label={text}>
        <div className={classes.usageHead}>
          <span className={classes.name}>{name}</span>
          <span className={classes.value}>
            {usedShare === undefined ? m.unknown : percent(usedShare)}
            <span className={classes.of}>
              {requestedShare === undefined ? "" : m.barRequested(percent(requestedShare))}
              {m.barOf(format(allocatable))}
            </span>
          </span>
        </div>
        <div className={classes.track} data-unknown={usedShare === undefined || undefined}>
          {requestedShare === undefined ? null : (
            <div className={classes.requested} style={{ width: `${Math.min(100, requestedShare)}%` }} />
          )}
          {usedShare === undefined ? null : (
            <div className={classes.used} style={{ width: `${Math.min(100, usedShare)}%` }} />
          )}
        </div>
      </div>
    </Tooltip>
  );
}

export interface Part {
  readonly name: string;
  readonly n: number;
  /** Colour by state; a part without one is neutral. */
  readonly tone?: "critical" | "warning" | "quiet" | "strong";
}

/** A whole in its parts, for example pods by phase. Parts of zero are in the words below, not in the bar. */
export function PartsBar({ name, parts }: { name: string; parts: readonly Part[] }) {
  const total = parts.reduce((sum, p) => sum + p.n, 0);
  const shown = parts.filter((p) => p.n > 0);
  const text = `${name}: ${shown.map((p) => m.part(count(p.n), p.name)).join(", ") || m.none}`;
  return (
    <div className={classes.usage} role="img" aria-label={text}>
      <div className={classes.usageHead}>
        <span className={classes.name}>{name}</span>
        <span className={classes.value}>
          {shown.length === 0 ? m.none : null}
          {shown.map((p, i) => (
            <span key={p.name} data-tone={p.tone} className={classes.word}>
              {i > 0 ? " · " : ""}
              {m.part(count(p.n), p.name)}
            </span>
          ))}
        </span>
      </div>
      <div className={classes.track} data-unknown={total === 0 || undefined}>
        <div className={classes.parts}>
          {shown.map((p) => (
            <div key={p.name} data-tone={p.tone ?? "quiet"} className={classes.part} style={{ flexGrow: p.n }} />
          ))}
        </div>
      </div>
    </div>
  );
}

/** A small bar behind a per cent in a table; it takes a state's colour only when the caller says so. */
export function PercentCell({ value, tone }: { value: Quantity; tone?: "critical" | "warning" }) {
  const known = value !== null && value !== undefined;
  return (
    <span className={classes.percent} data-tone={tone}>
      <span className={classes.percentTrack} aria-hidden>
        <span style={{ width: `${known ? Math.max(0, Math.min(100, value)) : 0}%` }} />
      </span>
      <span className={classes.percentText}>{percent(value)}</span>
    </span>
  );
}
