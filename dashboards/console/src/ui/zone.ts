/** The time zone in which times are shown: the browser's, or one that was chosen. As the language, it holds for as long as the page is open. */
const kept = "crowsnest.zone";

const valid = (zone: string): boolean => {
  try {
    new Intl.DateTimeFormat("en", { timeZone: zone });
    return true;
  } catch {
    return false;
  }
};

function stored(): string | undefined {
  try {
    const zone = globalThis.localStorage.getItem(kept) ?? "";
    return zone !== "" && valid(zone) ? zone : undefined;
  } catch {
    return undefined; // Forbidden by the browser, or there is no browser.
  }
}

/** What was chosen; undefined for the browser's. */
export const chosenZone: string | undefined = stored();

export const browserZone: string = Intl.DateTimeFormat().resolvedOptions().timeZone;

/** Every zone that the browser knows, UTC first. */
export const zones = (): readonly string[] => ["UTC", ...Intl.supportedValuesOf("timeZone").filter((z) => z !== "UTC")];

/** Keeps the choice; undefined leaves it to the browser. The caller loads the page anew. */
export function chooseZone(zone: string | undefined): void {
  if (zone === undefined) localStorage.removeItem(kept);
  else localStorage.setItem(kept, zone);
}

export interface WallTime {
  readonly year: number;
  readonly month: number;
  readonly day: number;
  readonly hour: number;
  readonly minute: number;
  readonly second: number;
  readonly millis: number;
}

const formats = new Map<string, Intl.DateTimeFormat>();

/** What clocks in the zone show at a time in seconds since the epoch. */
export function wallTime(seconds: number, zone: string | undefined = chosenZone): WallTime {
  const d = new Date(seconds * 1000);
  if (zone === undefined || Number.isNaN(d.getTime()))
    return { year: d.getFullYear(), month: d.getMonth() + 1, day: d.getDate(), hour: d.getHours(), minute: d.getMinutes(), second: d.getSeconds(), millis: d.getMilliseconds() };
  let format = formats.get(zone);
  if (!format) {
    format = new Intl.DateTimeFormat("en", { timeZone: zone, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric" });
    formats.set(zone, format);
  }
  const parts = Object.fromEntries(format.formatToParts(d).map((p) => [p.type, Number(p.value)]));
  return { year: parts.year ?? 0, month: parts.month ?? 0, day: parts.day ?? 0, hour: parts.hour ?? 0, minute: parts.minute ?? 0, second: parts.second ?? 0, millis: d.getMilliseconds() };
}
