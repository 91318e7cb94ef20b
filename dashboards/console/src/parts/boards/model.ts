import type { components } from "@/api/schema";
import type { Metric } from "@/api/types";
import { boards as m } from "@/i18n/boards";
import type { ObjectLabels, Panel } from "@/parts/charts/model";
import { resourceUnit } from "@/parts/charts/model";
import { instant } from "@/ui/format";

// What a board holds, and what can be done with it. Pure: a board in, a board out.

export type Board = components["schemas"]["Board"];
export type BoardSpec = components["schemas"]["BoardSpec"];
export type BoardPanel = components["schemas"]["BoardPanel"];

/** A name that the server takes, made from words and not taken yet. */
export function nameOf(title: string, taken: readonly string[]): string {
  const base = title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 58).replace(/-$/, "") || "board";
  if (!taken.includes(base)) return base;
  let n = 2;
  while (taken.includes(`${base}-${n}`)) n++;
  return `${base}-${n}`;
}

/** The panel that stands for a chart of the console. */
export function chartPanel(title: string, panel: Panel, object: ObjectLabels, by: readonly string[]): BoardPanel {
  return {
    title: title.slice(0, 120),
    kind: "chart",
    metrics: panel.metrics.map((m) => m.name),
    object: { ...object, ...panel.only },
    ...(by.length > 0 ? { by: [...by] } : {}),
  };
}

/** What a panel of kind chart draws; undefined when this server's catalogue has none of its metrics. */
export function drawn(p: BoardPanel, catalogue: readonly Metric[]): { panel: Panel; object: ObjectLabels } | undefined {
  const metrics = (p.metrics ?? []).flatMap((name) => catalogue.find((m) => m.name === name) ?? []);
  const [first] = metrics;
  if (!first) return undefined;
  // A label that is a dimension picks one of its values, as of the resources of a node.
  const all = Object.entries(p.object ?? {});
  const only = Object.fromEntries(all.filter(([k]) => first.dimensions.includes(k)));
  const object = Object.fromEntries(all.filter(([k]) => !first.dimensions.includes(k)));
  return { panel: { group: p.title, title: p.title, unit: resourceUnit(first, only), metrics, only }, object };
}

export const moved = (panels: readonly BoardPanel[], from: number, by: -1 | 1): BoardPanel[] => {
  const to = from + by;
  const [a, b] = [panels[from], panels[to]];
  if (!a || !b) return [...panels];
  return panels.map((p, i) => (i === from ? b : i === to ? a : p));
};

export const without = (panels: readonly BoardPanel[], at: number): BoardPanel[] => panels.filter((_, i) => i !== at);

export const changed = (panels: readonly BoardPanel[], at: number, change: Partial<BoardPanel>): BoardPanel[] => panels.map((p, i) => (i === at ? { ...p, ...change } : p));

/** A board as a file: what this server alone knows of it is left out. */
export function exported(b: Board): string {
  return `${JSON.stringify({ apiVersion: b.apiVersion, kind: b.kind, metadata: { name: b.metadata.name, ...(b.metadata.labels ? { labels: b.metadata.labels } : {}) }, spec: b.spec }, null, 2)}\n`;
}

/** A board from a file; the server judges what is in it. Throws in words for people when it is no board at all. */
export function imported(text: string, taken: readonly string[]): Board {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new Error(m.wrong.json);
  }
  if (typeof parsed !== "object" || parsed === null || !("kind" in parsed) || parsed.kind !== "Board" || !("spec" in parsed)) {
    throw new Error(m.wrong.kind);
  }
  const board = parsed as Board;
  const wanted = typeof board.metadata === "object" && typeof board.metadata.name === "string" ? board.metadata.name : "board";
  return { apiVersion: board.apiVersion, kind: "Board", metadata: { name: nameOf(wanted, taken), ...(board.metadata.labels ? { labels: board.metadata.labels } : {}) }, spec: board.spec };
}

/** The board that was changed last: whoever pins one thing after another means the same board again. */
export const lastChanged = (boards: readonly Board[]): Board | undefined =>
  boards.reduce<Board | undefined>((last, b) => (last === undefined || (instant(b.metadata.updatedAt) ?? 0) > (instant(last.metadata.updatedAt) ?? 0) ? b : last), undefined);
