import { type PointerEvent, useRef, useState } from "react";
import { logs as m } from "@/i18n/logs";
import { clock, count } from "@/ui/format";
import { useNow } from "@/ui/now";
import { type TimeRange, toRFC3339 } from "@/ui/time";
import classes from "./logs.module.css";
import { type Histogram as Data, type Level, levelName, levels } from "./model";

const height = 64;

/** Rows over time as bars by level. A drag zooms, a click zooms to one bar. */
export function Histogram({
  data,
  onZoom,
  words: names = {},
}: {
  data: Data;
  onZoom: (range: TimeRange) => void;
  /** What levels are called here, when not by their names. */
  words?: Readonly<Partial<Record<Level, string>>>;
}) {
  const now = useNow();
  const box = useRef<SVGSVGElement>(null);
  const [drag, setDrag] = useState<{ from: number; to: number } | undefined>();
  const [over, setOver] = useState<number | undefined>();
  const n = data.times.length;
  const totals = data.stacks.map((s) => levels.reduce((sum, l) => sum + s[l], 0));
  const max = Math.max(1, ...totals);

  const indexAt = (e: PointerEvent): number => {
    const r = box.current?.getBoundingClientRect();
    if (!r || r.width === 0) return 0;
    return Math.max(0, Math.min(n - 1, Math.floor(((e.clientX - r.left) / r.width) * n)));
  };
  const finish = () => {
    if (!drag) return;
    const [a, b] = drag.from < drag.to ? [drag.from, drag.to] : [drag.to, drag.from];
    const from = data.times[a];
    const to = data.times[b];
    setDrag(undefined);
    if (from !== undefined && to !== undefined && n > 1) onZoom({ from: toRFC3339(from), to: toRFC3339(to + data.stepSeconds) });
  };

  const shownStack = over === undefined ? undefined : data.stacks[over];
  const shownTime = over === undefined ? undefined : data.times[over];
  const words = (s: Readonly<Record<string, number>>) =>
    levels
      .filter((l) => (s[l] ?? 0) > 0)
      .map((l) => `${count(s[l])} ${names[l] ?? levelName(l)}`)
      .join(" · ");

  return (
    <div className={classes.histogram}>
      <svg
        ref={box}
        viewBox={`0 0 ${n} ${height}`}
        preserveAspectRatio="none"
        height={height}
        width="100%"
        role="img"
        aria-label={m.histogram.label(words(data.byLevel) || m.histogram.none)}
        onPointerDown={(e) => {
          e.currentTarget.setPointerCapture(e.pointerId);
          setDrag({ from: indexAt(e), to: indexAt(e) });
        }}
        onPointerMove={(e) => {
          const i = indexAt(e);
          setOver(i);
          if (drag) setDrag({ ...drag, to: i });
        }}
        onPointerUp={finish}
        onPointerCancel={() => setDrag(undefined)}
        onPointerLeave={() => setOver(undefined)}
      >
        {over === undefined ? null : <rect x={over} y={0} width={1} height={height} className={classes.barHover} />}
        {drag ? (
          <rect x={Math.min(drag.from, drag.to)} y={0} width={Math.abs(drag.to - drag.from) + 1} height={height} className={classes.barHover} />
        ) : null}
        {data.stacks.map((stack, i) => {
          let y = height;
          return levels.map((level) => {
            if (stack[level] === 0) return null;
            const h = Math.max(1, (stack[level] / max) * (height - 2));
            y -= h;
            return <rect key={`${i} ${level}`} x={i + 0.08} y={y} width={0.84} height={h} data-level={level} className={classes.bar} />;
          });
        })}
      </svg>
      <div className={classes.histogramFoot}>
        <span>{clock(data.times[0] ?? 0, now)}</span>
        <span>
          {shownStack !== undefined && shownTime !== undefined
            ? `${clock(shownTime, now, data.stepSeconds < 60)}: ${words(shownStack) || m.histogram.none}`
            : words(data.byLevel) || m.histogram.noneInRange}
        </span>
        <span>{clock((data.times[n - 1] ?? 0) + data.stepSeconds, now)}</span>
      </div>
    </div>
  );
}
