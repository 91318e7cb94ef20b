/**
 * Colours of series: told apart by people with any colour vision, and none of them one that means a
 * state (red, orange, green). From the ninth series on they repeat with a dashed line.
 */
const light = ["#2a66d9", "#b08a1e", "#7b3fb5", "#1a98a6", "#6b4a2f", "#c067a8", "#5c6b80", "#66a3e0"] as const;
const dark = ["#6ea0ff", "#e0bd4f", "#b78bea", "#45c4d0", "#c09a76", "#e796cf", "#a2b0c4", "#9ccaf5"] as const;

export interface Stroke {
  readonly colour: string;
  readonly dash: readonly number[] | undefined;
}

/** How a line is drawn, by its place among the others. */
export function lineStroke(lines: readonly { readonly past?: { readonly of: number } }[], index: number, scheme: "light" | "dark"): Stroke {
  const past = lines[index]?.past;
  // Of another time: the colour of what it is held against, lighter and dotted.
  return past ? { colour: `${stroke(past.of, scheme).colour}99`, dash: [3, 3] } : stroke(index, scheme);
}

export function stroke(index: number, scheme: "light" | "dark"): Stroke {
  const colours = scheme === "dark" ? dark : light;
  const round = Math.floor(index / colours.length);
  const dash = [undefined, [6, 3], [2, 3]][round % 3];
  return { colour: colours[index % colours.length] ?? colours[0], dash };
}
