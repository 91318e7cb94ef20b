import { useComputedColorScheme } from "@mantine/core";
import { useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { charts as m } from "@/i18n/charts";
import { byUnit } from "@/ui/format";
import { chosenZone, wallTime } from "@/ui/zone";
import { axisSteps, axisTop, type Drawing, isolated, type Line } from "./model";
import { lineStroke } from "./palette";

export interface Mark {
  /** An incident, which it is when not said, is a band; a change or an event is a moment. */
  readonly kind?: "incident" | "change" | "event";
  readonly from: number;
  readonly to: number;
  readonly state: "critical" | "warning" | "info";
  readonly label?: string;
}

export interface Threshold {
  readonly value: number;
  readonly state: "critical" | "warning" | "info";
  /** Whose it is. */
  readonly label?: string;
}

export interface PlotProps {
  readonly times: readonly number[];
  readonly lines: readonly Line[];
  readonly unit: string;
  readonly top: number;
  /** Where the axis begins; 0 when left out. */
  readonly bottom?: number;
  readonly drawing: Drawing;
  readonly height: number;
  readonly start: number;
  readonly end: number;
  readonly marks?: readonly Mark[];
  readonly thresholds?: readonly Threshold[];
  /** The index of the point under the cursor, of this chart or of another one on the page. */
  readonly onCursor: (index: number | null) => void;
  readonly onZoom: (from: number, to: number) => void;
  /** A click that is no drag, with the time and the distance from the plot's left in px. */
  readonly onPick?: ((time: number, left: number) => void) | undefined;
  readonly label: string;
}

// All charts of the page share one cursor.
const shared = "page";

/** A chart by uPlot. It owns the canvas; what is drawn around it is the panel's. */
export default function Plot(props: PlotProps) {
  const { lines, unit, top, bottom, drawing, height, start, end, times, marks, thresholds, label } = props;
  const scheme = useComputedColorScheme("light");
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  // The chart's callbacks and marks are read when they are needed, so that a refresh need not build the chart anew.
  const latest = useRef(props);
  useEffect(() => {
    latest.current = props;
  });

  const names = lines.map((l) => l.name).join("\n");

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const style = getComputedStyle(element);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const stateColour = { critical: colour("--state-critical"), warning: colour("--state-warning"), info: colour("--state-quiet") };
    const font = `11px ${style.fontFamily}`;
    const axis = { stroke: colour("--text-2"), font, grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false } };

    const drawMarks = (u: uPlot) => {
      const { ctx, bbox } = u;
      ctx.save();
      for (const mark of latest.current.marks ?? []) {
        if ((mark.kind ?? "incident") !== "incident") {
          drawMoment(u, mark, stateColour[mark.state]);
          continue;
        }
        const from = Math.max(bbox.left, u.valToPos(mark.from, "x", true));
        const to = Math.min(bbox.left + bbox.width, u.valToPos(Math.min(mark.to, latest.current.end), "x", true));
        if (to < from) continue;
        ctx.fillStyle = stateColour[mark.state];
        ctx.globalAlpha = 0.09;
        ctx.fillRect(from, bbox.top, Math.max(2, to - from), bbox.height);
        ctx.globalAlpha = 1;
        ctx.fillRect(from, bbox.top, Math.max(2, to - from), 3 * devicePixelRatio);
      }
      for (const t of latest.current.thresholds ?? []) {
        const y = u.valToPos(t.value, "y", true);
        if (y < bbox.top || y > bbox.top + bbox.height) continue;
        ctx.strokeStyle = stateColour[t.state];
        ctx.lineWidth = devicePixelRatio;
        ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
        ctx.beginPath();
        ctx.moveTo(bbox.left, y);
        ctx.lineTo(bbox.left + bbox.width, y);
        ctx.stroke();
      }
      ctx.restore();
    };

    const now = latest.current;
    const paths =
      drawing === "steps"
        ? uPlot.paths.stepped?.({ align: 1 })
        : drawing === "bars"
          ? uPlot.paths.bars?.({ size: [0.7, 14], align: 0 })
          : uPlot.paths.linear?.();

    const zone = chosenZone;
    let pressedAt: number | undefined;
    const u = new uPlot(
      {
        width: Math.max(50, element.clientWidth),
        height,
        padding: [8, 8, 0, 0],
        legend: { show: false },
        // Marks of the axis stand on round times of the zone.
        ...(zone === undefined ? {} : { tzDate: (ts: number) => uPlot.tzDate(new Date(ts * 1000), zone) }),
        cursor: {
          points: { size: 6 },
          drag: { x: true, y: false, setScale: false, dist: 6 },
          focus: { prox: 24 },
          sync: { key: shared, setSeries: false, filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } },
          bind: {
            mousedown: (_, __, handler) => (e) => {
              pressedAt = e.clientX;
              handler(e);
              return null;
            },
            mouseup: (self, __, handler) => (e) => {
              const moved = pressedAt === undefined || Math.abs(e.clientX - pressedAt) > 6;
              pressedAt = undefined;
              handler(e);
              const left = self.cursor.left ?? -1;
              if (!moved && left >= 0) latest.current.onPick?.(self.posToVal(left, "x"), left + self.bbox.left / devicePixelRatio);
              return null;
            },
          },
        },
        scales: {
          x: { time: true, range: () => [latest.current.start, latest.current.end] },
          y: { range: () => [latest.current.bottom ?? 0, latest.current.top] },
        },
        axes: [
          { ...axis, size: 22, space: 64, values: (_, splits) => timeMarks(splits) },
          {
            ...axis,
            size: 66,
            space: 28,
            incrs: axisSteps(unit),
            values: (_, splits) => splits.map((v) => (unit === "0/1" ? (v === 0 ? m.no : v === 1 ? m.yes : "") : byUnit(v, unit))),
          },
        ],
        series: [
          {},
          ...lines.map((line, i): uPlot.Series => {
            const s = lineStroke(lines, i, scheme);
            return {
              label: line.name,
              stroke: s.colour,
              // A bar of another time is an outline around today's.
              width: drawing === "bars" ? (line.past ? 1 : 0) : 1.5,
              ...(s.dash ? { dash: [...s.dash] } : {}),
              ...(drawing === "bars" ? (line.past ? {} : { fill: s.colour }) : lines.filter((l) => !l.past).length === 1 && !line.past ? { fill: `${s.colour}1f` } : {}),
              ...(paths ? { paths } : {}),
              spanGaps: false,
              points:
                drawing === "bars"
                  ? { show: false }
                  : { show: true, size: 4, fill: s.colour, filter: (self, index) => isolated([...(self.data[index] ?? [])]) },
            };
          }),
        ],
        hooks: {
          drawAxes: [drawMarks],
          setCursor: [(self) => latest.current.onCursor(self.cursor.idx ?? null)],
          setSelect: [
            (self) => {
              const { left, width } = self.select;
              if (width <= 6) return;
              latest.current.onZoom(self.posToVal(left, "x"), self.posToVal(left + width, "x"));
              self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            },
          ],
        },
      },
      toData(now),
      element,
    );
    plot.current = u;
    const resize = new ResizeObserver(() => u.setSize({ width: Math.max(50, element.clientWidth), height }));
    resize.observe(element);
    return () => {
      resize.disconnect();
      u.destroy();
      plot.current = null;
    };
    // The lines themselves are set below; here only what they are called counts.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [names, unit, drawing, height, scheme]);

  useEffect(() => {
    plot.current?.setData(toData({ times, lines }));
  }, [times, lines, start, end, top, bottom, marks, thresholds]);

  return <div ref={box} style={{ height, width: "100%" }} role="img" aria-label={label} />;
}

/** A triangle on the time axis, and a faint line up from it. */
function drawMoment(u: uPlot, m: Mark, colour: string): void {
  const { ctx, bbox } = u;
  const x = u.valToPos(m.from, "x", true);
  if (x < bbox.left || x > bbox.left + bbox.width) return;
  const bottom = bbox.top + bbox.height;
  const size = 4 * devicePixelRatio;
  ctx.fillStyle = colour;
  ctx.globalAlpha = 0.35;
  ctx.fillRect(x - devicePixelRatio / 2, bbox.top, devicePixelRatio, bbox.height);
  ctx.globalAlpha = 1;
  ctx.beginPath();
  ctx.moveTo(x, bottom - 2 * size);
  ctx.lineTo(x + size, bottom);
  ctx.lineTo(x - size, bottom);
  ctx.fill();
}

function toData({ times, lines }: { times: readonly number[]; lines: readonly Line[] }): uPlot.AlignedData {
  return [[...times], ...lines.map((l) => [...l.values])];
}

const two = (n: number) => String(n).padStart(2, "0");

/** 10:30, and the date where a new day begins; no year and no AM or PM. */
function timeMarks(splits: readonly number[]): string[] {
  const apart = (splits[1] ?? 0) - (splits[0] ?? 0);
  return splits.map((s) => {
    const t = wallTime(s);
    const date = `${two(t.month)}-${two(t.day)}`;
    if (apart >= 86400 || (t.hour === 0 && t.minute === 0 && t.second === 0)) return date;
    return `${two(t.hour)}:${two(t.minute)}${apart > 0 && apart < 60 ? `:${two(t.second)}` : ""}`;
  });
}

export { axisTop };
