/** Gives the reader a file that was made here. */
export function save(name: string, type: string, content: string | Blob): void {
  const url = URL.createObjectURL(typeof content === "string" ? new Blob([content], { type }) : content);
  const a = document.createElement("a");
  a.href = url;
  a.download = name;
  a.click();
  // The browser takes the content at the click; later it is only memory.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A name that any file system takes. */
export const fileName = (words: string): string => words.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 80) || "chart";

/** What stands around a chart's picture, so that it says by itself what it shows. */
export interface Caption {
  readonly title: string;
  readonly note: string;
  readonly columns: readonly string[];
  readonly rows: readonly { readonly name: string; readonly colour: string; readonly dash?: readonly number[] | undefined; readonly cells: readonly string[] }[];
}

/** A chart with its title above it and its legend below, in the colours of where it stands. */
export function picture(plot: HTMLCanvasElement, section: Element, caption: Caption): HTMLCanvasElement | undefined {
  const scale = globalThis.devicePixelRatio;
  const [pad, head, row, cell] = [12, 44, 18, 64].map((px) => px * scale) as [number, number, number, number];
  const whole = document.createElement("canvas");
  // Room for the names beside the columns; a chart that is narrower grows to it.
  const width = Math.max(plot.width, caption.columns.length * cell + 160 * scale);
  const height = Math.round((plot.height * width) / plot.width);
  whole.width = width + 2 * pad;
  whole.height = head + height + (caption.rows.length + 1) * row + pad;
  const ctx = whole.getContext("2d");
  if (!ctx) return undefined;
  const style = getComputedStyle(section);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const font = (px: number, weight = 400) => `${weight} ${px * scale}px ${style.fontFamily}`;
  const say = (words: string, x: number, y: number, of: { font: string; colour: string; right?: boolean; most?: number }) => {
    ctx.font = of.font;
    ctx.fillStyle = of.colour;
    ctx.textAlign = of.right === true ? "right" : "left";
    ctx.fillText(words, x, y, of.most);
  };
  const [text, quiet] = [colour("--text-1"), colour("--text-2")];
  ctx.fillStyle = style.backgroundColor;
  ctx.fillRect(0, 0, whole.width, whole.height);
  ctx.textBaseline = "middle";
  say(caption.title, pad, 14 * scale, { font: font(14, 650), colour: text, most: width });
  say(caption.note, pad, 32 * scale, { font: font(11), colour: quiet, most: width });
  ctx.drawImage(plot, pad, head, width, height);
  const right = whole.width - pad;
  const at = (column: number) => right - (caption.columns.length - 1 - column) * cell;
  const top = head + height + row / 2;
  caption.columns.forEach((c, i) => say(c, at(i), top, { font: font(11), colour: quiet, right: true }));
  caption.rows.forEach((r, i) => {
    const y = top + (i + 1) * row;
    ctx.strokeStyle = r.colour;
    ctx.lineWidth = 2.5 * scale;
    ctx.setLineDash((r.dash ?? []).map((d) => d * scale));
    ctx.beginPath();
    ctx.moveTo(pad, y);
    ctx.lineTo(pad + 14 * scale, y);
    ctx.stroke();
    const left = pad + 20 * scale;
    say(r.name, left, y, { font: font(12), colour: text, most: at(0) - cell - left });
    r.cells.forEach((c, column) => say(c, at(column), y, { font: font(12), colour: text, right: true }));
  });
  return whole;
}
